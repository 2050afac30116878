#!/usr/bin/env python3
"""Whatever goes wrong: one sentence with cause and remedy, the right exit status, nothing lost, no hang; and the forms of
the interface that scripts rely on (docs/interface.md).

    python3 tests/e2e/faults.py build/release/slipway
"""
import json
import os
import pathlib
import shutil
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from processes import wait_until
from program import metrics, prove, standard_library, steps_done

TINY = ["--model.preset", "llama-1m", "--model.layers", "2", "--model.width", "32", "--model.heads", "2", "--model.kv_heads", "2",
        "--model.ffn", "48", "--train.sequence", "32", "--train.batch", "4", "--train.rehearsal", "off", "--runtime.threads", "1",
        "--numerics.compute", "f32", "--validate.every", "0"]
NEW_RUN = ["train", "--data", "data", *TINY, "--train.steps", "4", "--checkpoint.every", "2", "--run"]


def prepare(p):
    standard_library(p.folder / "text", 120_000)
    p.run("tokenizer", "train", "--input", "text", "--tokenizer.vocabulary", "400", "--out", "tok.json")
    p.run("data", "prepare", "--tokenizer", "tok.json", "--input", "text", "--data.document_bytes", "2000", "--out", "data")
    p.run(*NEW_RUN, "good")


def what_is_typed_wrongly_is_named(p):
    p.refuses(2, "config", *NEW_RUN, "x", "--train.step", "5", says=("train.step", "train.steps"))  # no prefix guessing
    p.refuses(2, "config", *NEW_RUN, "x", "--optim.peak_lr", "fast", says=("optim.peak_lr", "fast"))
    p.refuses(2, "config", *NEW_RUN, "x", "--model.preset", "lama-8m", says=("llama-8m",))
    p.refuses(2, "config", *NEW_RUN, "x", "--train.micro_batch", "3", says=("train.micro_batch 3", "2 or 4"))
    p.refuses(2, "config", *NEW_RUN, "good", says=("--resume good",))
    p.refuses(2, "config", "trian", says=("train",))
    p.refuses(2, "config", "train", "--resume", "good", "--train.seed", "9", says=("train.seed", "9", "1"))
    p.refuses(2, "config", "data", "prepare", "--tokenizer", "tok.json", "--input", "text", "--out", "data")
    (p.folder / "bad.ini").write_text("[train]\nstepps = 5\n")
    p.refuses(2, "config", *NEW_RUN, "x", "--config", "bad.ini", says=("stepps", "train.steps"))
    p.refuses(2, "config", *NEW_RUN, "x", "--config", "none.ini", says=("none.ini",))
    assert not (p.folder / "x").exists()


def layouts_that_cannot_be_are_refused_with_the_remedy(p):
    p.refuses(2, "config", *NEW_RUN, "x", "--mesh.tensor", "4", ranks=4, says=("mesh.tensor is 4", "2 query heads"))
    p.refuses(2, "config", *NEW_RUN, "x", ranks=3, says=("3", "power of two"))
    p.refuses(2, "config", *NEW_RUN, "x", "--mesh.tensor", "2", ranks=3, says=("mesh.tensor",))
    p.refuses(2, "config", *NEW_RUN, "x", "--train.batch", "2", ranks=4, says=("slots",))


def devices_are_never_chosen_silently(p):
    for argv in ([*NEW_RUN, "x", "--device", "cuda"], ["score", "good", "--text", "tok.json", "--device", "cuda:0"]):
        p.refuses(6, "device", *argv, says=("cuda", "cpu"))
    p.refuses(2, "config", *NEW_RUN, "x", "--device", "gpu", says=("gpu",))
    assert p.json("doctor", "--device", "auto")["device"] == "cpu"


def missing_and_unreadable_files_are_named(p):
    p.refuses(3, "data", "tokenizer", "train", "--input", "nothing.txt", "--out", "t.json", says=("nothing.txt",))
    p.refuses(3, "data", "data", "prepare", "--tokenizer", "none.json", "--input", "text", "--out", "d2", says=("none.json",))
    p.refuses(3, "data", "train", "--run", "x", "--data", "nowhere", *TINY, says=("nowhere", "data prepare"))
    p.refuses(4, "storage", "qa", "nowhere", says=("nowhere",))
    p.refuses(4, "storage", "train", "--resume", "nowhere", says=("nowhere",))
    (p.folder / "notes.gguf").write_text("no gguf at all")
    p.refuses(4, "storage", "score", "notes.gguf", "--text", "tok.json", says=("notes.gguf",))
    if os.geteuid() != 0:  # root reads everything
        (p.folder / "secret.txt").write_text("x")
        (p.folder / "secret.txt").chmod(0)
        p.refuses(3, "data", "tokenizer", "train", "--input", "secret.txt", "--out", "t.json", says=("secret.txt",))


def damaged_data_stops_before_training(p):
    shutil.copytree(p.folder / "data", p.folder / "damaged")
    shard = max((p.folder / "damaged").rglob("*"), key=lambda f: f.stat().st_size if f.is_file() else 0)
    original = shard.read_bytes()
    shard.write_bytes(original[: len(original) // 2])
    p.refuses(3, "data", "data", "verify", "damaged", says=(shard.name,))
    p.refuses(3, "data", "train", "--run", "x", "--data", "damaged", *TINY, says=(shard.name,))
    p.run("tokenizer", "train", "--input", "text", "--tokenizer.vocabulary", "420", "--out", "other.json")
    p.run("data", "prepare", "--tokenizer", "other.json", "--input", "text", "--data.document_bytes", "2000", "--out", "otherdata")
    p.refuses(3, "data", "train", "--resume", "good", "--data", "otherdata", "--train.steps", "6", says=("corpus_sha256",))


def every_kind_of_flipped_byte_in_a_checkpoint_is_found(p):
    shutil.copytree(p.folder / "good", p.folder / "flipped")
    newest = sorted((p.folder / "flipped" / "checkpoints").glob("step-*"))[-1]
    for path in sorted(newest.iterdir()):
        original = path.read_bytes()
        for offset in {0, len(original) // 3, len(original) // 2, len(original) - 1}:
            path.write_bytes(original[:offset] + bytes([original[offset] ^ 0x10]) + original[offset + 1:])
            p.refuses(4, "storage", "checkpoint", "verify", newest, says=(path.name,))
        path.unlink()
        os.mkfifo(path)  # a pipe that nobody writes to is not waited for
        p.refuses(4, "storage", "checkpoint", "verify", newest, says=(path.name,))
        path.unlink()
        path.write_bytes(original)
    p.run("checkpoint", "verify", newest)
    rank_file = max(newest.glob("rank-*.h5"), key=lambda f: f.stat().st_size)
    original = rank_file.read_bytes()
    rank_file.write_bytes(original[: len(original) // 2] + b"\xff" * 64 + original[len(original) // 2 + 64:])
    p.refuses(4, "storage", "train", "--resume", "flipped", "--train.steps", "6", says=("--checkpoint 2",))
    p.refuses(4, "storage", "score", "flipped", "--text", "tok.json", says=("--checkpoint 2",))
    (p.folder / "probe.txt").write_text("import os\n")
    p.json("score", "flipped", "--text", "probe.txt", "--checkpoint", "2")
    p.run("train", "--resume", "flipped", "--checkpoint", "2")  # goes on from the good one, to the same end
    p.run("checkpoint", "diff", "good", "flipped")


def a_full_disk_loses_nothing(p):
    if os.geteuid() != 0:
        print("   skipped: a small disk needs root")
        return
    disk = p.folder / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "none", disk], check=True)
    try:
        p.run(*NEW_RUN, "disk/run", "--checkpoint.keep", "1")
        (disk / "filler").write_bytes(b"x" * (os.statvfs(disk).f_bavail * 4096 - 4096 * 20))
        line = p.refuses(4, "storage", "train", "--resume", "disk/run", "--train.steps", "8", "--checkpoint.every", "1", says=("disk",))
        assert "free" in line or "space" in line, line
        (disk / "filler").unlink()
        p.run("checkpoint", "verify", "disk/run")
        p.run("train", "--resume", "disk/run", "--train.steps", "8")
        assert [m["step"] for m in metrics(disk / "run")] == list(range(1, 9))
        (disk / "filler").write_bytes(b"x" * (os.statvfs(disk).f_bavail * 4096 - 4096 * 4))
        p.refuses(4, "storage", "export", "disk/run", "--out", "disk/model.gguf", "--type", "f32", says=("disk/model.gguf",))
        assert not list(disk.glob("model*"))
    finally:
        subprocess.run(["umount", disk], check=True)


def an_error_of_the_disk_in_the_middle_of_a_save_keeps_the_last_one(p):
    """A limit on file sizes makes write() fail with EFBIG after some bytes, as a broken disk would with EIO."""
    limited_command = ["bash", "-c", 'ulimit -f 64; exec "$@"', "limited", *p.command([*NEW_RUN, "limited", "--model.width", "64"])]
    result = subprocess.run(limited_command, cwd=p.folder, capture_output=True, text=True, timeout=120)
    assert result.returncode == 4, (result.returncode, result.stderr)
    assert result.stderr.count("slipway: error (storage): ") == 1, result.stderr
    assert not list((p.folder / "limited" / "checkpoints").glob("step-*")), "a broken save left something behind"
    p.run("train", "--resume", "limited")
    assert [m["step"] for m in metrics(p.folder / "limited")] == [1, 2, 3, 4]


def a_second_run_in_a_folder_is_refused(p):
    first = p.start("train", "--run", "locked", "--data", "data", *TINY, "--train.steps", "100000", "--checkpoint.every", "0")
    wait_until(lambda: steps_done(p.folder / "locked"), "the first run's first step")
    p.refuses(2, "config", "train", "--resume", "locked", says=(str(first.pid),))
    first.kill()
    first.communicate()
    p.run("train", "--resume", "locked", "--train.steps", "2")  # a process that ended holds no lock


def forms_that_scripts_rely_on(p):
    text = "a naïve café\x00 \u200d👩‍💻\n"
    (p.folder / "t.txt").write_text(text)
    ids = p.json("tokenizer", "encode", "--tokenizer", "tok.json", "--input", "t.txt")["ids"]
    for payload in (json.dumps(ids), json.dumps({"ids": ids})):
        decoded = p.run("tokenizer", "decode", "--tokenizer", "tok.json", "--input", "-", input=payload.encode())
        assert decoded.stdout == text.encode()
    score = p.json("score", "good", "--text", "t.txt", "--context", "4")
    assert score["ids"] == ids and [n is None for n in score["nll"]] == [i % 4 == 0 for i in range(len(ids))]
    scored_nll = [n for n in score["nll"] if n is not None]
    assert abs(score["nll_mean"] - sum(scored_nll) / len(scored_nll)) < 1e-6
    inspected = p.json("data", "inspect", "data")
    assert inspected["tokens"] == sum(split["tokens"] for split in inspected["splits"].values()) > 0
    run = p.folder / "good"
    events = [json.loads(line) for line in (run / "events/rank-0.jsonl").read_text().splitlines()]
    saves = [event for event in events if event["event"] == "checkpoint"]
    assert saves and all(0 <= e["stalled_s"] <= e["seconds"] < 60 and e["copied_bytes"] >= 0 for e in saves), saves
    for name in ("config.ini", "metrics.jsonl", "status.json", "events/rank-0.jsonl", "checkpoints/step-00000004/manifest.json",
                 "checkpoints/step-00000004/manifest.sha256", "checkpoints/step-00000004/index.h5"):
        assert (run / name).exists(), name
    p.run("train", "--run", "same", "--config", "good/config.ini", "--train.rehearsal", "off")  # starts the same run again
    p.run("checkpoint", "diff", "good", "same")
    shutil.move(run, p.folder / "elsewhere")  # a run folder moves as a whole
    p.run("checkpoint", "verify", "elsewhere")
    shutil.move(p.folder / "elsewhere", run)
    assert str(p.folder) not in (run / "config.ini").read_text()
    assert p.json("plan", "--model.preset", "llama-8m", "--vocabulary", "16384")["parameters_without_embeddings"] > 7_800_000
    assert "slipway" in p.run("--version").out


if __name__ == "__main__":
    prove((what_is_typed_wrongly_is_named, layouts_that_cannot_be_are_refused_with_the_remedy, devices_are_never_chosen_silently,
           missing_and_unreadable_files_are_named, damaged_data_stops_before_training, every_kind_of_flipped_byte_in_a_checkpoint_is_found,
           a_full_disk_loses_nothing, an_error_of_the_disk_in_the_middle_of_a_save_keeps_the_last_one, a_second_run_in_a_folder_is_refused,
           forms_that_scripts_rely_on), prepare)

#!/usr/bin/env python3
"""What becomes of a run's folder: how it begins, is refused, ends and goes on, and what status.json says of it.

    python3 tests/e2e/runs.py build/release/slipway
"""
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from processes import is_signal_blocked, wait_until
from program import MPI, metrics, prove, standard_library, steps_done

ROOT = pathlib.Path(__file__).resolve().parents[2]
SHAPE = ["--model.preset", "llama-1m", "--model.layers", "2", "--model.width", "32", "--model.heads", "2", "--model.kv_heads", "2", "--model.ffn", "48"]
TINY = [*SHAPE, "--train.sequence", "32", "--train.batch", "4", "--train.rehearsal", "off", "--runtime.threads", "1", "--numerics.compute", "f32",
        "--validate.every", "0", "--checkpoint.every", "2"]


def prepare(p):
    standard_library(p.folder / "text", 120_000)
    p.run("tokenizer", "train", "--input", "text", "--tokenizer.vocabulary", "400", "--out", "tok.json")
    p.run("data", "prepare", "--tokenizer", "tok.json", "--input", "text", "--data.document_bytes", "2000", "--out", "data")
    p.run("train", "--run", "base", "--data", "data", *TINY, "--train.steps", "6")


def ascii_words(count):
    return " ".join(f"w{n * n}x" for n in range(count))


def status(p, run):
    return json.loads((p.folder / run / "status.json").read_text())


def snapshot(folder):
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file() and "events" not in f.parts and f.name != "lock"}


def given_weights_survive_a_kill_before_the_first_save(p):
    argv = ["--data", "data", *TINY, "--train.steps", "4", "--init", "base"]
    p.run("train", "--run", "whole", *argv)
    p.run("train", "--run", "killed", *argv, "--fault.kill_step", "2", expect=-9)
    assert status(p, "killed")["status"] == "running"
    p.run("train", "--resume", "killed")
    p.run("checkpoint", "diff", "whole", "killed")
    p.run("train", "--run", "unlike", "--data", "data", *TINY, "--train.steps", "4")  # else the weights did not matter
    p.run("checkpoint", "diff", "whole", "unlike", expect=8)
    p.run("train", "--run", "again", "--config", "whole/config.ini")
    p.run("checkpoint", "diff", "whole", "again")
    init_section = p.json("checkpoint", "inspect", "whole")["sections"]["init"]
    base = p.json("checkpoint", "verify", "base", "--provenance")
    assert init_section["provenance_sha256"] == base["provenance_sha256"] and str(p.folder) not in json.dumps(init_section)


def weights_that_mean_something_else_are_refused(p):
    new_run = ["train", "--run", "x", "--data", "data", *TINY, "--train.steps", "4", "--init"]
    for key, value in (("model.heads", "4"), ("model.rope_base", "5000"), ("model.norm_eps", "0.001"), ("model.layers", "1"), ("model.tied", "off")):
        extra = ["--model.kv_heads", "4"] if key == "model.heads" else []
        p.refuses(2, "config", *new_run, "base", "--" + key, value, *extra, says=("--init base", key))
    (p.folder / "small.txt").write_text("the other tokenizer learns from this sentence and from no other sentence than this one\n" * 3 + ascii_words(400))
    p.run("tokenizer", "train", "--input", "small.txt", "--tokenizer.vocabulary", "400", "--tokenizer.min_frequency", "1", "--out", "other.json")
    p.run("data", "prepare", "--tokenizer", "other.json", "--input", "text", "--data.document_bytes", "2000", "--out", "otherdata")
    p.refuses(2, "config", "train", "--run", "x", "--data", "otherdata", *TINY, "--init", "base", says=("other tokens",))
    assert not (p.folder / "x").exists()


def a_refused_resume_changes_nothing(p):
    before = snapshot(p.folder / "base")
    p.refuses(3, "data", "train", "--resume", "base", "--checkpoint", "4", "--data", "otherdata", "--train.steps", "9", says=("corpus_sha256",))
    p.refuses(4, "storage", "train", "--resume", "base", "--checkpoint", "5", says=("2, 4, 6",))
    p.refuses(2, "config", "train", "--run", "x", "--data", "data", *TINY, "--checkpoint", "4", says=("--init",))
    assert snapshot(p.folder / "base") == before


def the_best_of_another_future_is_forgotten(p):
    p.run("train", "--run", "best", "--data", "data", *TINY, "--train.steps", "8", "--validate.every", "2", "--checkpoint.keep", "9")
    marker = p.folder / "best" / "checkpoints" / "best.json"
    losses = {m["step"]: m["val_loss"] for m in metrics(p.folder / "best") if "val_loss" in m}
    assert json.loads(marker.read_text())["step"] == min(losses, key=losses.get)
    p.run("train", "--resume", "best", "--checkpoint", "4", "--train.steps", "5", "--checkpoint.every", "0", "--validate.every", "0")
    earlier = {step: loss for step, loss in losses.items() if step <= 4}
    assert json.loads(marker.read_text())["step"] == min(earlier, key=earlier.get)
    p.run("checkpoint", "verify", "best", "--checkpoint", "best")
    assert sorted(f.name for f in marker.parent.glob("*.set-aside")) == ["step-00000006.set-aside", "step-00000008.set-aside"]


def the_end_of_the_data_is_a_saved_end(p):
    line = p.refuses(3, "data", "train", "--run", "short", "--data", "data", *TINY, "--train.steps", "100000", "--checkpoint.every", "0",
                     "--data.on_end", "error", "--train.sequence", "256", "--train.batch", "8", says=("data.on_end",))
    step = metrics(p.folder / "short")[-1]["step"]
    assert f"step {step} is saved" in line
    assert status(p, "short")["status"] == "stream_exhausted" and status(p, "short")["step"] == step
    assert p.json("checkpoint", "verify", "short")["step"] == step


def the_time_limit_saves_and_ends(p):
    begin = time.time()
    p.run("train", "--run", "timed", "--data", "data", *TINY, "--train.steps", "1000000", "--checkpoint.every", "0", "--train.max_minutes", "0.1")
    assert time.time() - begin < 30, "train.max_minutes 0.1 is six seconds, and a busy machine's starts and ends are not counted"
    events = [json.loads(line) for line in (p.folder / "timed" / "events" / "rank-0.jsonl").read_text().splitlines()]
    noticed_s = [event["t_s"] for event in events if "train.max_minutes 0.1 is nearly up" in event.get("text", "")]
    assert len(noticed_s) == 1 and noticed_s[0] < 6, (noticed_s, events[-3:])
    step = metrics(p.folder / "timed")[-1]["step"]
    assert status(p, "timed")["status"] == "interrupted" and p.json("checkpoint", "verify", "timed")["step"] == step


def a_character_model_lives_its_whole_life(p):
    p.run("tokenizer", "train", "--input", "text", "--tokenizer.vocabulary", "300", "--tokenizer.pre", "char", "--out", "chars.json")
    p.run("data", "prepare", "--tokenizer", "chars.json", "--input", "text", "--data.document_bytes", "2000", "--out", "chars-data")
    result = p.run("train", "--run", "chars", "--data", "chars-data", *TINY, "--train.rehearsal", "on", "--train.steps", "40", "--optim.peak_lr", "0.01")
    assert "rehearsal: save, reload on two tensor ranks, qa, bench, (no export" in result.err, result.err
    gates = {gate["id"]: gate["verdict"] for gate in p.json("qa", "chars")["gates"]}
    assert gates["tokenizer_round_trip"] == "pass" and gates["export_ids"] == "not_applicable", gates
    p.refuses(2, "config", "export", "chars", "--out", "chars.gguf", says=("character", "safetensors"))
    p.run("export", "chars", "--out", "chars-hf")
    assert p.json("generate", "chars", "--prompt", "import ", "--tokens", "5", "--temperature", "0")["text"]


def what_was_written_is_refused_when_it_was_changed(p):
    p.run("train", "--run", "edited", "--data", "data", *TINY, "--train.steps", "4")
    ini = p.folder / "edited" / "config.ini"
    ini.write_text(ini.read_text() + "\n[optim]\npeak_lr = 0.5\n")
    p.refuses(2, "config", "train", "--resume", "edited", "--train.steps", "6", says=("optim.peak_lr", "0.5", "0.003"))
    (p.folder / "short.ini").write_text("\ufeff[train] # a byte order mark, and a comment behind a section\nsteps = 50\nsequence = 32\n")
    p.run("train", "--run", "latest", "--data", "data", *TINY, "--config", "short.ini", "--train.tokens", "256")  # the later source counts
    assert metrics(p.folder / "latest")[-1]["step"] == 2
    p.refuses(2, "config", "train", "--run", "x", "--data", "data", *TINY, "--train.steps", "3", "--train.tokens", "9", says=("train.tokens", "one of them"))


def a_rank_that_alone_finds_a_fault_says_it(p):
    mpirun = ["mpirun", "-n", "1", p.path, "train", "--run", "x", "--data", "data", *TINY, ":", "-n", "1", p.path, "train", "--bogus", "1"]
    result = subprocess.run(mpirun, cwd=p.folder, env=os.environ | MPI, capture_output=True, text=True, timeout=60)
    lines = [line for line in result.stderr.splitlines() if line.startswith("slipway: error")]
    assert len(lines) == 1 and "--bogus" in lines[0], result.stderr


def a_signal_in_the_first_moments_still_saves(p):
    for delay_s, signum, exit_status in ((0, signal.SIGTERM, 143), (0.25, signal.SIGHUP, 129)):
        run = f"early{signum}"
        argv = p.command(["train", "--run", run, "--data", "data", *TINY, "--train.rehearsal", "on", "--train.steps", "100000"])
        process = p.start_command(["env", "--default-signal=HUP", *argv])  # which nohup has ignored, and a run then goes on
        wait_until(lambda: is_signal_blocked(process.pid, signum) or (p.folder / run).exists(), f"{run}: a handler of the signal", every_s=0.001)
        assert is_signal_blocked(process.pid, signum), "a run has its folder before it takes note of signals"
        time.sleep(delay_s)
        process.send_signal(signum)
        _, err = process.communicate(timeout=60)
        assert process.returncode == exit_status and "stopped and saved" in err, (process.returncode, err)
        assert p.json("checkpoint", "verify", run)["step"] >= 1


def ctrl_c_saves_though_the_log_goes_through_a_pipe(p):
    for name, start in (("alone", []), ("together", [str(ROOT / "launch" / "run"), "-n", "2"])):
        argv = [*start, p.path, "train", "--run", name, "--data", "data", *TINY, "--train.steps", "1000000", "--checkpoint.every", "0"]
        line = " ".join(map(str, argv)) + " 2>&1 | tee log"
        shell = p.start_command(["bash", "-c", line], stdout=subprocess.DEVNULL, stderr=None, start_new_session=True)
        wait_until(lambda: steps_done(p.folder / name) >= 3, f"three steps of {name}")
        os.killpg(shell.pid, signal.SIGINT)  # as a terminal does: the tee ends too
        shell.wait(60)
        wait_until(lambda: status(p, name)["status"] != "running", f"the end of {name}")
        assert status(p, name)["status"] == "interrupted", (name, status(p, name), (p.folder / "log").read_text()[-500:])
        assert p.json("checkpoint", "verify", name)["step"] == status(p, name)["step"] == metrics(p.folder / name)[-1]["step"]


def results_that_do_not_fit_are_no_success(p):
    for argv in (["plan"], ["checkpoint", "inspect", "base"], ["tokenizer", "encode", "--tokenizer", "tok.json", "--input", "tok.json"]):
        with open("/dev/full", "w") as full:
            result = subprocess.run([p.path, *argv, "--json"], cwd=p.folder, stdout=full, stderr=subprocess.PIPE, text=True)
        assert result.returncode == 4 and "standard output: No space left" in result.stderr, (argv, result)


def a_finished_run_is_left_tidy(p):
    p.run("train", "--run", "tidy", "--data", "data", *TINY, "--train.steps", "6", "--checkpoint.keep", "1")
    checkpoints = p.folder / "tidy" / "checkpoints"
    shutil.copytree(checkpoints / "step-00000006", checkpoints / "step-00000004")  # as if killed right after the last save
    shutil.copytree(checkpoints / "step-00000006", checkpoints / "step-00000002.removed.partial")
    (p.folder / "tidy" / "status.json").write_text('{"status": "running"}')
    assert "finished" in p.run("train", "--resume", "tidy").err
    assert [f.name for f in checkpoints.glob("step*")] == ["step-00000006"] and status(p, "tidy")["status"] == "ok"
    p.refuses(3, "data", "train", "--resume", "tidy", "--data", "otherdata", says=("corpus_sha256",))


def a_killed_run_keeps_its_curves(p):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    p.run("train", "--run", "curves", "--data", "data", *TINY, "--train.steps", "12", "--checkpoint.every", "5", "--fault.kill_step", "9", expect=-9)
    p.run("train", "--resume", "curves")
    board = EventAccumulator(str(p.folder / "curves" / "tb"))
    board.Reload()
    steps = [event.step for event in board.Scalars("loss/train")]
    assert steps == list(range(1, 13)), steps


def what_cannot_be_a_value_is_refused(p):
    for key, value in (("train.tokens", "-5"), ("train.epochs", "-1"), ("train.epochs", "1e300"), ("optim.warmup_steps", "-3"),
                       ("runtime.watchdog_s", "-1"), ("train.sequence", "0"), ("runtime.threads", "100000"), ("sample.every", "-1"), ("train.micro_batch", "-2"), ("numerics.slots", "6")):
        p.refuses(2, "config", "train", "--run", "x", "--data", "data", *TINY, "--" + key, value, says=(key,))
    assert not (p.folder / "x").exists()


if __name__ == "__main__":
    prove((given_weights_survive_a_kill_before_the_first_save, weights_that_mean_something_else_are_refused,
           a_refused_resume_changes_nothing, the_best_of_another_future_is_forgotten, the_end_of_the_data_is_a_saved_end,
           the_time_limit_saves_and_ends, a_character_model_lives_its_whole_life,
           what_was_written_is_refused_when_it_was_changed, a_rank_that_alone_finds_a_fault_says_it,
           a_signal_in_the_first_moments_still_saves, ctrl_c_saves_though_the_log_goes_through_a_pipe,
           results_that_do_not_fit_are_no_success, a_finished_run_is_left_tidy, a_killed_run_keeps_its_curves, what_cannot_be_a_value_is_refused), prepare)

#!/usr/bin/env python3
"""How a run goes on: what its folder keeps of what was asked for, resumes that change its length, earlier checkpoints and what is set
aside for them, forks with other keys, and runs that begin with the weights of a model.

    python3 tests/e2e/continue_runs.py build/release/slipway
"""
import configparser
import json
import os
import pathlib
import re
import shutil
import struct
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from gguf_edit import Gguf
from program import metrics, prove, standard_library

SHAPE = ["--model.preset", "llama-1m", "--model.layers", "1", "--model.width", "32", "--model.heads", "2", "--model.kv_heads", "2", "--model.ffn", "48"]
QUICK = ["--train.sequence", "32", "--train.batch", "4", "--train.rehearsal", "off", "--runtime.threads", "1", "--numerics.compute", "f32",
         "--validate.every", "0", "--checkpoint.every", "5", "--checkpoint.keep", "9"]
NEW_RUN = ["--data", "data", *SHAPE, *QUICK]


def prepare(p):
    standard_library(p.folder / "text", 60_000)
    p.run("tokenizer", "train", "--input", "text", "--tokenizer.vocabulary", "300", "--out", "tok.json")
    for name, size in (("data", "2000"), ("other", "1500")):
        p.run("data", "prepare", "--tokenizer", "tok.json", "--input", "text", "--data.document_bytes", size, "--out", name)
    p.run("train", "--run", "base", *NEW_RUN, "--train.steps", "20", "--optim.warmup_steps", "0")


def read_ini(p, path):
    config = configparser.ConfigParser(interpolation=None)
    config.read(p.folder / path)
    return {f"{section}.{key}": value for section in config.sections() for key, value in config[section].items()}


def read_status(p, run):
    return json.loads((p.folder / run / "status.json").read_text())


def assert_same_checkpoint(p, a, b):
    p.run("checkpoint", "diff", a, b)


def warning_lines(result):
    return [line for line in result.err.splitlines() if line.startswith("slipway: warning: ") and "CPU" not in line]


def a_run_that_did_no_step_is_begun_anew_under_its_name(p):
    p.refuses(4, "storage", "train", "--run", "failed", *NEW_RUN, "--train.steps", "10", "--checkpoint.keep", "100000000", says=("checkpoint.keep",))
    result = p.run("train", "--run", "failed", *NEW_RUN, "--train.steps", "10")
    assert "failed holds a run that ended before its first step; it is begun anew" in result.err, result.err
    p.run("train", "--run", "fresh", *NEW_RUN, "--train.steps", "10")
    assert_same_checkpoint(p, "failed", "fresh")
    assert read_status(p, "failed")["status"] == "ok" and read_ini(p, "failed/config.ini") == read_ini(p, "fresh/config.ini")
    p.refuses(2, "config", "train", "--run", "failed", *NEW_RUN, "--train.steps", "10", says=("already holds a run",))
    (p.folder / "own").mkdir()  # a folder with a config.ini of the user's own is no run
    (p.folder / "own" / "config.ini").write_text("[train]\nsteps = 10\n")
    p.refuses(2, "config", "train", "--run", "own", *NEW_RUN, "--train.steps", "10", says=("already holds a run",))
    assert (p.folder / "own" / "config.ini").read_text() == "[train]\nsteps = 10\n"


def a_stretched_wsd_schedule_goes_on_alike_after_a_kill(p):
    extra = ["--train.steps", "24", "--optim.schedule_steps", "24"]
    for run in ("w-whole", "w-killed"):
        p.run("train", "--run", run, *NEW_RUN, "--train.steps", "10", "--optim.schedule", "wsd")
    stretched = p.run("train", "--resume", "w-whole", *extra)
    p.run("train", "--resume", "w-killed", *extra, "--fault.kill_step", "17", expect=-9)
    result = p.run("train", "--resume", "w-killed", "--fault.kill_step", "0")
    decay = re.search(r"in the last \d+ steps", stretched.err)[0]
    assert decay in result.err, (decay, result.err)
    assert_same_checkpoint(p, "w-whole", "w-killed")


def a_preset_after_a_file_with_a_shape_is_warned_of(p):
    result = p.run("train", "--run", "late", "--config", "base/resolved.ini", "--model.preset", "llama-8m", "--train.steps", "1")
    assert any("model.preset llama-8m leaves" in line and "model.width" in line for line in warning_lines(result)), result.err


def the_folder_keeps_what_was_asked_for_beside_every_value(p):
    requested, resolved = read_ini(p, "base/config.ini"), read_ini(p, "base/resolved.ini")
    assert requested["train.steps"] == "20" and requested["data.path"] == "../data" and requested["optim.warmup_steps"] == "0"
    assert "optim.schedule_steps" not in requested and "optim.peak_lr" not in requested and "model.tied" not in requested, requested
    assert resolved["optim.schedule_steps"] == "20" and resolved["optim.warmup_steps"] == "2" and resolved["optim.peak_lr"] == "0.003"
    assert resolved["model.context"] == "32" and set(requested) < set(resolved) and not [key for key in resolved if key.startswith("fault.")]
    assert "runtime.threads = 1" in (p.folder / "base/resolved.ini").read_text()
    for name in ("config", "resolved"):
        p.run("train", "--run", f"by-{name}", "--config", f"base/{name}.ini")
        assert_same_checkpoint(p, "base", f"by-{name}")
    assert read_ini(p, "by-config/config.ini") == requested and read_ini(p, "by-resolved/resolved.ini") == resolved


def a_template_derives_anew_what_depends_on_a_given_key(p):
    (p.folder / "template.ini").write_text("[data]\npath = data\n[model]\npreset = llama-1m\n[train]\nsequence = 16\nbatch = 2\nsteps = 40\nrehearsal = off\n"
                                            "[validate]\nevery = 0\n[runtime]\nthreads = 1\n")
    p.run("train", "--run", "first", "--config", "template.ini", "--train.steps", "1")
    p.run("train", "--run", "second", "--config", "first/config.ini", "--model.preset", "llama-8m", "--optim.name", "muon", "--train.steps", "2")
    resolved_config = read_ini(p, "second/resolved.ini")
    assert (resolved_config["model.layers"], resolved_config["model.width"], resolved_config["optim.schedule_steps"], resolved_config["optim.peak_lr"]) == ("12", "256", "2", "0.006"), resolved_config


def a_resume_appends_to_the_history_and_leaves_both_files(p):
    shutil.copytree(p.folder / "base", p.folder / "longer")
    before = [(p.folder / "longer" / name).read_bytes() for name in ("config.ini", "resolved.ini")]
    p.run("train", "--resume", "longer", "--train.steps", "25", "--fault.kill_step", "22", expect=-9)
    p.run("train", "--resume", "longer", "--checkpoint.keep", "2")  # goes on to 25
    assert [(p.folder / "longer" / name).read_bytes() for name in ("config.ini", "resolved.ini")] == before
    lines = [json.loads(line) for line in (p.folder / "longer/config.history.jsonl").read_text().splitlines()]
    assert [(line["step"], line["given"]) for line in lines] == [(20, {"train.steps": "25"}), (20, {"checkpoint.keep": "2"})], lines
    assert metrics(p.folder / "longer")[-1]["step"] == 25 and [m["step"] for m in metrics(p.folder / "longer")] == list(range(1, 26))
    shutil.copytree(p.folder / "data", p.folder / "moved")
    p.run("train", "--resume", "longer", "--data", "moved", "--train.steps", "26")
    shutil.move(p.folder / "longer", p.folder / "elsewhere-longer")
    p.run("train", "--resume", "elsewhere-longer", "--train.steps", "27")
    (p.folder / "elsewhere-longer/resolved.ini").unlink()
    p.refuses(4, "storage", "train", "--resume", "elsewhere-longer", says=("resolved.ini is missing", "--fork"))


def runs_of_the_old_form_go_on_to_the_same_bits(p):
    p.run("train", "--run", "stopped", *NEW_RUN, "--train.steps", "20", "--fault.kill_step", "12", "--optim.warmup_steps", "0", expect=-9)
    folder = p.folder / "stopped"
    (folder / "resolved.ini").rename(folder / "config.ini")  # as earlier versions wrote it: every value, and nothing else
    p.run("train", "--resume", "stopped")
    assert_same_checkpoint(p, "base", "stopped")
    assert not (folder / "resolved.ini").exists()
    p.refuses(2, "config", "train", "--resume", "stopped", "--train.seed", "7", "--train.steps", "21", says=("train.seed", "7", "1", "--fork stopped"))


def a_schedule_that_does_not_fit_the_length_is_warned_of(p):
    shutil.copytree(p.folder / "base", p.folder / "length")
    result = p.run("train", "--resume", "length", "--train.steps", "22")
    assert len(warning_lines(result)) == 1 and "steps 21 to 22 train at the floor" in warning_lines(result)[0] and "--optim.schedule_steps 22 " in warning_lines(result)[0], result.err
    assert read_status(p, "length")["status"] == "ok"
    result = p.run("train", "--resume", "length", "--checkpoint", "10", "--train.steps", "15")
    assert len(warning_lines(result)) == 1 and "ends at step 15" in warning_lines(result)[0] and "--optim.schedule_steps 15 " in warning_lines(result)[0], result.err
    result = p.run("train", "--resume", "length", "--train.steps", "20", "--optim.schedule_steps", "40")
    assert len(warning_lines(result)) == 1 and "jumps at step 16" in warning_lines(result)[0], result.err
    assert "optim.schedule_steps is 40 instead of 20; --optim.schedule_steps 20 keeps the old rate" in warning_lines(result)[0], result.err
    assert warning_lines(p.run("train", "--resume", "length", "--train.steps", "21", "--optim.schedule_steps", "40")) == []
    result = p.run("train", "--run", "floor", "--config", "base/resolved.ini", "--train.steps", "22")  # all values of another run
    assert len(warning_lines(result)) == 1 and "--optim.schedule_steps 22" in warning_lines(result)[0], result.err
    assert warning_lines(p.run("train", "--run", "meant", *NEW_RUN, "--train.steps", "3", "--optim.schedule_steps", "9")) == []


def a_context_that_is_not_trained_is_warned_of(p):
    for context, word in (("64", "longer"), ("16", "shorter")):
        result = p.run("train", "--run", f"context{context}", *NEW_RUN, "--train.steps", "1", "--model.context", context)
        assert len(warning_lines(result)) == 1 and f"{word} context than it is trained on; --model.context 32" in warning_lines(result)[0], result.err
    p.run("export", "base", "--out", "hf")
    assert json.loads((p.folder / "hf/config.json").read_text())["max_position_embeddings"] == 32


def an_earlier_checkpoint_sets_the_rest_aside_and_it_can_be_chosen_again(p):
    p.run("train", "--run", "paths", *NEW_RUN, "--train.steps", "20", "--optim.warmup_steps", "0", "--validate.every", "5", "--validate.tokens", "500")
    paths, checkpoints = p.folder / "paths", p.folder / "paths/checkpoints"
    original, best = (paths / "metrics.jsonl").read_text(), json.loads((checkpoints / "best.json").read_text())
    result = p.run("train", "--resume", "paths", "--checkpoint", "10", "--train.steps", "15", "--optim.schedule_steps", "15")
    assert "set aside, all ending in .set-aside: the checkpoints after step 10 (15, 20)" in result.err and "step-00000020.set-aside goes back" in result.err, result.err
    assert [json.loads(line)["step"] for line in (paths / "metrics.jsonl.set-aside").read_text().splitlines()] == list(range(11, 21))
    assert json.loads((paths / "best.json.set-aside").read_text()) == best
    other = (paths / "metrics.jsonl").read_text()
    p.refuses(4, "storage", "train", "--resume", "paths", "--checkpoint", "12", says=("5, 10, 15", "step-00000020.set-aside"))
    p.run("score", "paths", "--checkpoint", "20", "--text", "tok.json", "--json")
    assert_same_checkpoint(p, "base", "paths/checkpoints/step-00000020.set-aside")

    p.run("train", "--resume", "paths", "--checkpoint", "20", "--train.steps", "20")  # back to the first future
    assert (paths / "metrics.jsonl").read_text() == original and json.loads((checkpoints / "best.json").read_text()) == best
    assert sorted(f.name for f in checkpoints.iterdir()) == sorted(["best.json", "step-00000015.set-aside-1"] + [f"step-{n:08}" for n in (5, 10, 15, 20)])
    p.run("train", "--resume", "paths", "--checkpoint", "step-00000015.set-aside-1", "--train.steps", "15")  # and to the other
    assert (paths / "metrics.jsonl").read_text() == other
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    board = EventAccumulator(str(paths / "tb"))
    board.Reload()
    curve = {e.step: e.value for e in board.Scalars("loss/train")}
    assert list(curve) == list(range(1, 16)) and all(abs(curve[m["step"]] - m["train_loss"]) < 1e-5 for m in metrics(paths)), curve
    result = p.run("train", "--resume", "paths", "--train.steps", "16")
    assert len(warning_lines(result)) == 1 and ": step 16 trains at the floor" in warning_lines(result)[0], result.err
    (paths / "metrics.jsonl.set-aside").unlink()  # as earlier versions set aside
    p.refuses(4, "storage", "train", "--resume", "paths", "--checkpoint", "20", "--train.steps", "21", says=("earlier versions", "--fork"))


def a_fork_with_the_same_keys_goes_where_its_parent_went(p):
    p.run("train", "--fork", "base", "--checkpoint", "10", "--run", "same")
    assert_same_checkpoint(p, "base", "same")
    assert [m["step"] for m in metrics(p.folder / "same")] == list(range(11, 21))
    assert metrics(p.folder / "same")[-1]["tokens_seen"] == metrics(p.folder / "base")[-1]["tokens_seen"]
    parent = read_status(p, "same")["parent"]
    assert (parent["run"], parent["step"], parent["run_id"], parent["changed"]) == ("../base", 10, read_status(p, "base")["run_id"], {}), parent
    assert read_status(p, "same")["run_id"] != parent["run_id"] and p.json("checkpoint", "inspect", "same")["sections"]["parent"] == parent
    assert read_ini(p, "same/config.ini") == {"train.fork": "../base/checkpoints/step-00000010"}
    assert read_ini(p, "same/resolved.ini")["train.fork"] == "../base/checkpoints/step-00000010"
    for name in ("config", "resolved"):
        p.run("train", "--run", f"same-{name}", "--config", f"same/{name}.ini")
        assert_same_checkpoint(p, "base", f"same-{name}")
    p.run("train", "--fork", "base", "--checkpoint", "10", "--run", "killed", "--fault.kill_step", "12", expect=-9)
    p.run("train", "--resume", "killed")  # which has not saved: from the parent again
    assert_same_checkpoint(p, "base", "killed")
    p.run("train", "--fork", "base", "--checkpoint", "10", "--run", "killed2", "--checkpoint.every", "1", "--fault.kill_step", "19", expect=-9)
    shutil.move(p.folder / "base", p.folder / "away")
    p.run("train", "--resume", "killed2")  # which has: the parent is not asked for
    shutil.move(p.folder / "away", p.folder / "base")
    assert_same_checkpoint(p, "base", "killed2")
    p.run("train", "--fork", "killed2", "--run", "grandchild", "--train.steps", "21", "--optim.schedule_steps", "20")
    assert read_status(p, "grandchild")["parent"]["parent"]["run_id"] == parent["run_id"]


def a_fork_may_change_all_but_the_shape(p):
    result = p.run("train", "--fork", "base", "--checkpoint", "10", "--run", "changed", "--train.batch", "8", "--optim.peak_lr", "0.001", "--train.steps", "30", "--optim.schedule", "wsd")
    resolved = read_ini(p, "changed/resolved.ini")
    assert (resolved["optim.schedule_steps"], resolved["optim.warmup_steps"], resolved["optim.decay_steps"], resolved["train.micro_batch"]) == ("30", "3", "6", "1"), resolved
    assert "train.batch 4 -> 8" in result.err and read_status(p, "changed")["parent"]["changed"]["train.batch"] == ["4", "8"], result.err
    assert metrics(p.folder / "changed")[0]["tokens_seen"] == 10 * 4 * 32 + 8 * 32
    assert "run: 30 steps = 6.4k tokens = " in result.err and metrics(p.folder / "changed")[-1]["tokens_seen"] == 6400, result.err
    result = p.run("train", "--fork", "base", "--checkpoint", "10", "--run", "muon", "--optim.name", "muon", "--train.steps", "16")
    assert any("moments cannot be taken over" in line for line in warning_lines(result)), result.err
    assert abs(float(read_ini(p, "muon/resolved.ini")["optim.peak_lr"]) - 0.009) < 1e-9
    p.run("train", "--resume", "muon", "--train.steps", "18", "--optim.schedule_steps", "16")
    p.run("train", "--fork", "base", "--checkpoint", "10", "--run", "muon-whole", "--optim.name", "muon", "--train.steps", "18", "--optim.schedule_steps", "16")
    assert_same_checkpoint(p, "muon", "muon-whole")  # where moments began is kept
    result = p.run("train", "--fork", "base", "--checkpoint", "10", "--run", "longer-texts", "--train.sequence", "64", "--train.seed", "3")
    assert "in another order" in result.err and read_ini(p, "longer-texts/resolved.ini")["model.context"] == "64", result.err
    assert metrics(p.folder / "longer-texts")[0]["tokens_seen"] == 10 * 4 * 32 + 4 * 64
    result = p.run("train", "--fork", "base", "--checkpoint", "10", "--run", "other-texts", "--data", "other", ranks=2)
    assert "another corpus than the parent's, from its beginning" in result.err and metrics(p.folder / "other-texts")[-1]["step"] == 20
    p.run("train", "--resume", "other-texts", "--train.steps", "21")
    tokens = [m["tokens_seen"] for m in metrics(p.folder / "other-texts")]
    assert tokens == [(step + 1) * 128 for step in range(10, 21)], tokens


def a_fork_that_cannot_be_is_refused_before_it_has_a_folder(p):
    fork = ["train", "--fork", "base", "--run", "x", "--train.steps", "30"]
    for key, value in (("model.layers", "2"), ("model.preset", "qwen3-1m"), ("model.tied", "off")):
        p.refuses(2, "config", *fork, "--" + key, value, says=("--fork", "shape"))
    p.refuses(2, "config", *fork[:-2], says=("is of step 20", "--train.steps above 20"))
    p.refuses(2, "config", "train", "--fork", "base", says=("--run NEW",))
    p.refuses(2, "config", *fork, "--init", "base", says=("--fork and --init",))
    p.refuses(2, "config", "train", "--resume", "base", "--fork", "base", says=("--fork begins a new run",))
    p.refuses(2, "config", *fork, "--checkpoint", "newest", says=("expected best or a step",))
    p.refuses(4, "storage", *fork, "--checkpoint", "12", says=("5, 10, 15, 20",))
    p.refuses(4, "storage", "train", "--fork", "nowhere", "--run", "x", says=("there is no nowhere",))
    shutil.copytree(p.folder / "base", p.folder / "damaged")
    rank_file = next((p.folder / "damaged/checkpoints/step-00000020").glob("rank-0.*"))
    original = rank_file.read_bytes()
    rank_file.write_bytes(original[:-100] + bytes(255 - byte for byte in original[-100:]))
    p.refuses(4, "storage", "train", "--fork", "damaged", "--run", "x", "--train.steps", "30", says=("step-00000020",))
    assert not (p.folder / "x").exists()
    (p.folder / "damaged/status.json").write_text('{"status": "running", "run_id": "ab"}')  # as after a kill
    p.refuses(4, "storage", "train", "--resume", "damaged", "--train.steps", "30")
    assert (read_status(p, "damaged")["status"], read_status(p, "damaged")["fault"], read_status(p, "damaged")["run_id"]) == ("failed", "storage", "ab")
    p.run("train", "--fork", "base", "--checkpoint", "10", "--run", "bad", "--fault.nan_step", "12", expect=7)
    assert read_status(p, "bad")["status"] == "numerical" and read_status(p, "bad")["parent"]["step"] == 10


def given_weights_give_the_shape(p):
    p.run("export", "base", "--out", "base.gguf", "--type", "f32")
    for name, model in (("from-run", "base"), ("from-gguf", "base.gguf")):
        result = p.run("train", "--run", name, "--data", "data", "--init", model, *QUICK, "--train.steps", "2")
        assert "initial weights: loaded from base" in result.err and "layers 1, width 32, heads 2 (kv 2), ffn 48, vocabulary 300" in result.err, result.err
        resolved = read_ini(p, f"{name}/resolved.ini")
        assert (resolved["model.preset"], resolved["model.width"], resolved["optim.peak_lr"]) == ("llama-1m", "32", "0.003") and "model.width" not in read_ini(p, f"{name}/config.ini")
        assert metrics(p.folder / name)[0]["train_loss"] < metrics(p.folder / "base")[0]["train_loss"] - 0.1
    assert_same_checkpoint(p, "from-run", "from-gguf")
    p.run("train", "--run", "again", "--config", "from-run/config.ini")
    assert_same_checkpoint(p, "from-run", "again")
    for key, value, says in (("model.width", "64", "model.width is 64"), ("model.preset", "llama-8m", "model.layers is 12")):
        p.refuses(2, "config", "train", "--run", "x", "--data", "data", "--init", "base", *QUICK, "--" + key, value, says=("--init base", says, "leave model.* keys out"))
    damaged = Gguf(p.folder / "base.gguf")
    damaged.tensors[-1][3][-4:] = struct.pack("<f", float("nan"))
    damaged.write(p.folder / "damaged.gguf")
    p.refuses(7, "numeric", "train", "--run", "x", "--data", "data", "--init", "damaged.gguf", *QUICK,
              says=("--init damaged.gguf: element ", " is nan; that model is damaged"))
    assert not (p.folder / "x").exists()


def a_path_that_is_no_text_is_refused_before_a_folder_is_made(p):
    non_utf8_name = os.fsdecode(b"odd-\xff")
    shutil.copytree(p.folder / "data", p.folder / non_utf8_name)
    p.refuses(2, "config", "train", "--run", "x", "--data", non_utf8_name, *SHAPE, *QUICK, "--train.steps", "2", says=("data.path", "not UTF-8"))
    assert not (p.folder / "x").exists()
    p.run("train", "--run", os.fsdecode(b"run-\xff"), *NEW_RUN, "--train.steps", "2", "--train.rehearsal", "on")
    p.run("train", "--resume", os.fsdecode(b"run-\xff"), "--train.steps", "3")
    p.refuses(2, "config", "train", "--run", "x", "--fork", os.fsdecode(b"run-\xff"), "--train.steps", "4", says=("train.fork", "not UTF-8"))
    assert not (p.folder / "x").exists()


if __name__ == "__main__":
    prove((a_run_that_did_no_step_is_begun_anew_under_its_name, a_preset_after_a_file_with_a_shape_is_warned_of, a_stretched_wsd_schedule_goes_on_alike_after_a_kill,
           the_folder_keeps_what_was_asked_for_beside_every_value, a_template_derives_anew_what_depends_on_a_given_key,
           a_resume_appends_to_the_history_and_leaves_both_files, runs_of_the_old_form_go_on_to_the_same_bits,
           a_schedule_that_does_not_fit_the_length_is_warned_of, a_context_that_is_not_trained_is_warned_of,
           an_earlier_checkpoint_sets_the_rest_aside_and_it_can_be_chosen_again, a_fork_with_the_same_keys_goes_where_its_parent_went,
           a_fork_may_change_all_but_the_shape, a_fork_that_cannot_be_is_refused_before_it_has_a_folder,
           given_weights_give_the_shape, a_path_that_is_no_text_is_refused_before_a_folder_is_made), prepare)

#!/usr/bin/env python3
"""`train.profile`: the table adds up to the steps, the counted operations are those of the formula, the trace is one that Perfetto
reads (Chrome's trace events), with a process for every rank.

    python3 tests/e2e/profile.py build/release/slipway
"""
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from program import metrics, prove, standard_library

LAYERS, WIDTH, FFN, VOCABULARY, SEQUENCE, BATCH, STEPS = 3, 64, 96, 400, 64, 8, 4
MODEL = ["--model.preset", "llama-1m", "--model.layers", LAYERS, "--model.width", WIDTH, "--model.heads", 4, "--model.kv_heads", 4, "--model.ffn", FFN,
         "--train.sequence", SEQUENCE, "--train.batch", BATCH, "--train.steps", 8, "--train.rehearsal", "off", "--validate.every", 0,
         "--checkpoint.every", 3, "--runtime.threads", 1, "--data.packing", "stream"]


def prepare(p):
    standard_library(p.folder / "text", 120_000)
    p.run("tokenizer", "train", "--input", "text", "--tokenizer.vocabulary", VOCABULARY, "--out", "tok.json")
    p.run("data", "prepare", "--tokenizer", "tok.json", "--input", "text", "--data.document_bytes", "2000", "--out", "data")


def profile(p, run, ranks, steps=STEPS, keys=()):
    result = p.run("train", "--run", run, "--data", "data", *MODEL, *keys, "--train.profile", steps, ranks=ranks)
    assert f"profile of {steps} step{'' if steps == 1 else 's'}, " in result.err, result.err
    folder = p.folder / run / "profile"
    return json.loads((folder / "table.json").read_text()), json.loads((folder / "trace.json").read_text())["traceEvents"]


def the_table_adds_up_to_the_steps(p):
    table, _ = profile(p, "one", 0)
    total = sum(row["seconds"] for row in table["rows"])
    assert table["steps"] == STEPS and abs(total / table["seconds"] - 1) < 0.03, (total, table["seconds"])
    assert abs(sum(row["share"] for row in table["rows"]) - 1) < 0.03
    assert {row["name"] for row in table["rows"]} >= {"matmul fprop (x W^T)", "matmul dgrad (dy W)", "matmul wgrad (dy^T x)", "attention", "attention_grad", "adamw", "input", "other"}


def matmul_flops():
    """6 x matmul parameters x tokens of the traced steps."""
    return 6 * (LAYERS * (4 * WIDTH * WIDTH + 3 * WIDTH * FFN) + VOCABULARY * WIDTH) * BATCH * SEQUENCE * STEPS


def the_counted_operations_are_the_formulas(p):
    table, _ = profile(p, "counted", 0)
    flops = {row["name"]: row["flops"] for row in table["rows"]}
    matmuls = sum(flops[name] for name in ("matmul fprop (x W^T)", "matmul dgrad (dy W)", "matmul wgrad (dy^T x)"))
    assert matmuls == matmul_flops(), (matmuls, matmul_flops())
    pairs = SEQUENCE * (SEQUENCE + 1) / 2 * BATCH * STEPS * LAYERS * WIDTH  # of a query and a key, times the head widths
    assert flops["attention"] == 4 * pairs and flops["attention_grad"] == 10 * pairs, flops


def the_trace_has_every_rank_and_the_checkpoint_writer(p):
    steps = 6  # from the second to the seventh: the save of step 3 ends in there, for that of step 6 waits for it
    _, events = profile(p, "two", 2, steps)
    spans = [event for event in events if event["ph"] == "X"]
    assert {event["pid"] for event in spans} == {0, 1}
    assert {event["args"]["name"] for event in events if event["name"] == "process_name"} == {"rank 0", "rank 1"}
    tracks = [event["args"]["name"] for event in events if event["name"] == "thread_name"]
    assert tracks.count("training") == 2 and len(tracks) > 2, tracks
    assert all(event["dur"] >= 0 and event["ts"] > 0 for event in spans)
    for rank in (0, 1):
        rank_spans = [event for event in spans if event["pid"] == rank]
        assert sum(event["name"] == "step" for event in rank_spans) == steps
        assert any(event["name"] == "reduce_scatter_sum" for event in rank_spans), {event["name"] for event in rank_spans}
        threads = {name: {event["tid"] for event in rank_spans if event["name"] == name} for name in ("step", "checkpoint write", "checkpoint read back")}
        assert all(threads.values()), threads
        for name in ("checkpoint write", "checkpoint read back"):  # two threads write, and one of them reads back
            assert threads[name].isdisjoint(threads["step"]), threads


def what_lies_between_steps_is_not_in_the_table(p):
    for name, ranks, keys in (("validated", 0, ["--validate.every", 2]), ("ranks", 2, ["--validate.every", 2]), ("sampled", 0, ["--sample.every", 2]),
                              ("muon", 0, ["--optim.name", "muon"])):
        table, _ = profile(p, name, ranks, keys=keys)
        total = sum(row["seconds"] for row in table["rows"])
        assert abs(total / table["seconds"] - 1) < 0.03, (name, total, table["seconds"])
        matmuls = sum(row["flops"] for row in table["rows"] if row["name"].startswith("matmul "))
        assert matmuls == matmul_flops() / max(ranks, 1), (name, matmuls, matmul_flops())
    assert any(row["name"] == "orthogonalize" and row["flops"] > 0 for row in table["rows"])


def a_run_shorter_than_its_profile_says_so(p):
    result = p.run("train", "--run", "short", "--data", "data", *MODEL, "--train.profile", 20)
    assert "only 7 steps came" in result.err and "profile of 7 steps, " in result.err, result.err
    result = p.run("train", "--resume", "short", "--train.steps", 9)
    assert "only 0 steps came" in result.err, result.err


def watching_changes_nothing(p):
    p.run("train", "--run", "unwatched", "--data", "data", *MODEL)
    p.run("checkpoint", "diff", "unwatched", "one")
    assert not (p.folder / "unwatched" / "profile").exists()
    assert [m["train_loss"] for m in metrics(p.folder / "unwatched")] == [m["train_loss"] for m in metrics(p.folder / "one")]


if __name__ == "__main__":
    prove((the_table_adds_up_to_the_steps, the_counted_operations_are_the_formulas, the_trace_has_every_rank_and_the_checkpoint_writer,
           what_lies_between_steps_is_not_in_the_table, a_run_shorter_than_its_profile_says_so, watching_changes_nothing), prepare)

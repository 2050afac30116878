#!/usr/bin/env python3
"""Promises about ranks, through the command line: the same numbers on 1, 2 and 4 data ranks, a continuation on another
number of ranks equal to the unbroken run, tensor ranks that follow one rank, and every way of being stopped.

    python3 tests/e2e/ranks.py build/release/slipway
"""
import json
import os
import pathlib
import signal
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from processes import wait_until
from program import metrics, prove, standard_library, steps_done

TINY = ["--model.preset", "llama-1m", "--model.layers", "2", "--model.width", "48", "--model.heads", "3", "--model.kv_heads", "3",
        "--model.ffn", "80", "--train.sequence", "48", "--train.batch", "8", "--train.rehearsal", "off", "--runtime.threads", "1",
        "--numerics.compute", "f32", "--validate.tokens", "2000", "--log.every", "100"]


def prepare(program):
    standard_library(program.folder / "text", 300_000)
    program.run("tokenizer", "train", "--input", "text", "--tokenizer.vocabulary", "515", "--out", "tok.json")
    program.run("data", "prepare", "--tokenizer", "tok.json", "--input", "text", "--data.document_bytes", "2000", "--out", "data")


def train(program, run, *extra, ranks=1, **kwargs):
    return program.run("train", "--run", run, "--data", "data", *TINY, *extra, ranks=ranks, **kwargs)


def losses(program, run):
    return [(m["step"], m["train_loss"], m["grad_norm"], m.get("val_loss")) for m in metrics(program.folder / run)]


def data_ranks_give_the_same_bits(program):
    for ranks in (1, 2, 4):
        train(program, f"d{ranks}", "--train.steps", "12", "--validate.every", "5", "--checkpoint.every", "6", ranks=ranks)
    train(program, "alone", "--train.steps", "12", "--validate.every", "5", "--checkpoint.every", "6", ranks=0)
    for other in ("d2", "d4", "alone"):
        assert losses(program, "d1") == losses(program, other), f"d1 and {other} differ"
        program.run("checkpoint", "diff", "d1", other)
    assert len(losses(program, "d1")) == 12 and losses(program, "d1")[-1][3] is not None
    train(program, "seed2", "--train.steps", "12", "--train.seed", "2")
    program.run("checkpoint", "diff", "d1", "seed2", expect=8)


def data_ranks_give_the_same_bits_in_bf16_and_with_recomputation(program):
    for name, ranks, extra in (("b1", 1, []), ("b2", 2, []), ("b4", 4, ["--train.recompute", "on"])):
        train(program, name, "--train.steps", "6", "--numerics.compute", "bf16", "--validate.every", "3", *extra, ranks=ranks)
    for other in ("b2", "b4"):
        assert losses(program, "b1") == losses(program, other), f"b1 and {other} differ"
        program.run("checkpoint", "diff", "b1", other)
    assert losses(program, "b1") != losses(program, "d1")[:6], "bf16 was not computed"
    hashes = {name: [m["batch_sha256"] for m in metrics(program.folder / name)] for name in ("b1", "b4")}
    assert hashes["b1"] == hashes["b4"] and len(set(hashes["b1"])) == 6


def every_instruction_set_keeps_the_promises(program):
    instruction_sets = json.loads(program.run("doctor", "--json").out)["instruction_sets"]
    assert instruction_sets[:2] == ["auto", "base"], instruction_sets
    for name in instruction_sets[1:]:
        for compute in ("f32", "bf16"):
            runs = [f"{name}-{compute}-{ranks}" for ranks in (1, 2)]
            for run, ranks in zip(runs, (1, 2)):
                train(program, run, "--train.steps", "6", "--checkpoint.every", "3", "--numerics.compute", compute,
                      "--runtime.instructions", name, ranks=ranks)
            assert losses(program, runs[0]) == losses(program, runs[1]), f"{name} in {compute}"
            program.run("checkpoint", "diff", *runs)
            # Back at step 3 on the other number of ranks: the same end.
            program.run("train", "--resume", runs[0], "--checkpoint", "3", ranks=2)
            program.run("checkpoint", "diff", *runs)
    f32 = [losses(program, f"{name}-f32-1") for name in instruction_sets[1:]]
    assert all(abs(a[1] - b[1]) < 1e-4 for other in f32[1:] for a, b in zip(f32[0], other, strict=True)), "sets tell different stories"
    assert len(instruction_sets) == 2 or f32[0] != f32[1], "another instruction set was not used"
    os.environ["DNNL_VERBOSE"] = "1"  # matmuls use the set, too: oneDNN prints what each used
    try:
        for name, forbidden_isa in (("base", "avx512"), ("avx512", "avx512_core_bf16")):
            if name in instruction_sets:
                stdout = program.run("train", "--run", f"verbose-{name}", "--data", "data", *TINY, "--train.steps", "1", "--numerics.compute", "bf16", "--runtime.instructions", name).out
                matmuls = [line for line in stdout.splitlines() if line.startswith("dnnl_verbose,exec")]
                assert not any(forbidden_isa in line for line in matmuls), f"{name}: {[line for line in matmuls if forbidden_isa in line][0]}"
    finally:
        del os.environ["DNNL_VERBOSE"]
    stderr = program.run("train", "--resume", "base-f32-1", "--checkpoint", "3", "--runtime.instructions", "auto").err
    assert len(instruction_sets) == 2 or "equal to rounding, not to the bit" in stderr, stderr
    program.refuses(2, "config", "train", "--run", "no", "--data", "data", *TINY, "--runtime.instructions", "sse9", says=("sse9", "base"))


def a_killed_run_goes_on_elsewhere_to_the_same_bits(program):
    for case_index, (before, after) in enumerate(((2, 4), (4, 1), (1, 2))):
        run = f"killed{case_index}"
        process = program.start("train", "--run", run, "--data", "data", *TINY, "--train.steps", "12", "--validate.every", "5",
                             "--checkpoint.every", "3", "--fault.kill_step", str(4 + 3 * case_index), ranks=before)
        process.communicate(timeout=120)
        assert process.returncode != 0
        program.run("train", "--resume", run, "--fault.kill_step", "0", ranks=after)
        assert losses(program, run) == losses(program, "d1"), f"{run}: {before} ranks, killed, then {after}"
        program.run("checkpoint", "diff", "d1", run)
    # Finished: says so and ends well. A longer horizon goes on.
    assert "finished" in program.run("train", "--resume", "killed0").err
    program.run("train", "--resume", "killed0", "--train.steps", "14", "--fault.kill_step", "0", ranks=2)
    assert losses(program, "killed0")[:12] == losses(program, "d1") and len(losses(program, "killed0")) == 14


def a_run_killed_before_its_first_save_begins_again(program):
    process = program.start("train", "--run", "early", "--data", "data", *TINY, "--train.steps", "12", "--validate.every", "5",
                         "--checkpoint.every", "6", "--fault.kill_step", "2", ranks=2)
    process.communicate(timeout=120)
    result = program.run("train", "--resume", "early", "--fault.kill_step", "0", ranks=1)
    assert "step 1" in result.err, result.err
    program.run("checkpoint", "diff", "d1", "early")


def tensor_ranks_follow_one_rank(program):
    steps = ["--train.steps", "20", "--validate.every", "0"]
    train(program, "t1", *steps)
    one = losses(program, "t1")
    for name, ranks, extra in (("t2", 2, []), ("d2t2", 4, []), ("t3", 3, ["--mesh.tensor", "3"])):
        train(program, name, *steps, *(extra or ["--mesh.tensor", "2"]), ranks=ranks)
        for a, b in zip(one, losses(program, name), strict=True):
            assert abs(a[1] - b[1]) < 1e-4, f"{name}: step {a[0]} has loss {b[1]}, one rank {a[1]}"
    program.run("train", "--resume", "t2", "--train.steps", "22", "--mesh.tensor", "1", ranks=2)  # another layout goes on
    assert len(losses(program, "t2")) == 22


def data_ranks_repeat_each_other_beside_tensor_ranks(program):
    """Also where a tensor rank sees only a part of a gradient: of key-value heads that both hold, and of qwen3's norms of heads."""
    for name, keys in (("shared", ["--model.heads", "4", "--model.kv_heads", "1"]),
                       ("norms", ["--model.preset", "qwen3-1m", "--model.heads", "4", "--model.kv_heads", "2"])):
        for ranks in (2, 4):
            train(program, f"{name}{ranks}", *keys, "--train.steps", "6", "--validate.every", "0", "--mesh.tensor", "2", ranks=ranks)
        assert losses(program, f"{name}2") == losses(program, f"{name}4"), name
        program.run("checkpoint", "diff", f"{name}2", f"{name}4")


def a_gpt2_gives_the_same_bits_and_goes_on_elsewhere(program):
    """Learned positions and biases of every kind: their gradients are summed over rows, ranks and slots, too."""
    gpt2 = ["--model.preset", "gpt2-1m", "--train.steps", "6", "--validate.every", "3", "--checkpoint.every", "3"]
    for ranks in (1, 2, 4):
        train(program, f"g{ranks}", *gpt2, ranks=ranks)
    program.run("train", "--resume", "g2", "--checkpoint", "3", ranks=4)
    train(program, "g-blocks", *gpt2, "--train.recompute", "blocks")
    for other in ("g2", "g4", "g-blocks"):
        assert losses(program, "g1") == losses(program, other), f"g1 and {other} differ"
        program.run("checkpoint", "diff", "g1", other)
    train(program, "gt2", *gpt2, "--mesh.tensor", "2", ranks=4)
    for a, b in zip(losses(program, "g1"), losses(program, "gt2"), strict=True):
        assert abs(a[1] - b[1]) < 1e-4 and abs(a[2] - b[2]) < 5e-3 * a[2], f"gt2: {b}, one rank {a}"


def mixed_blocks_share_what_they_recompute_by_kind(program):
    mixed = ["--model.blocks", "attention+swiglu,attention+gelu", "--model.layers", "4", "--train.steps", "6", "--validate.every", "3"]
    for name, ranks, extra in (("m1", 1, []), ("m2", 2, ["--train.recompute", "blocks"]), ("mt", 2, ["--mesh.tensor", "2"])):
        train(program, name, *mixed, *extra, ranks=ranks)
    assert losses(program, "m1") == losses(program, "m2")
    program.run("checkpoint", "diff", "m1", "m2")
    assert all(abs(a[1] - b[1]) < 1e-4 for a, b in zip(losses(program, "m1"), losses(program, "mt"), strict=True))


def signals_save_and_resume(program):
    for name, ranks, signum, status in (("usr1", 2, signal.SIGUSR1, 138), ("int", 0, signal.SIGINT, 130), ("term", 0, signal.SIGTERM, 143)):
        process = program.start("train", "--run", name, "--data", "data", *TINY, "--train.steps", "100000", "--validate.every", "0",
                                "--checkpoint.every", "0", ranks=ranks)
        wait_until(lambda: steps_done(program.folder / name) >= 3, f"three steps of {name}")
        process.send_signal(signum)
        _, err = process.communicate(timeout=60)
        assert process.returncode == status, f"{name}: {process.returncode}, not {status}\n{err}"
        step = losses(program, name)[-1][0]
        assert f"at step {step} " in err, err
        program.run("checkpoint", "verify", name)
        program.run("train", "--resume", name, "--train.steps", str(step + 2), ranks=1)
        assert losses(program, name)[-1][0] == step + 2


def numbers_that_are_not_finite_stop_all_ranks(program):
    for ranks, nan_rank in ((1, 0), (2, 1)):
        run = f"nan{ranks}"
        program.refuses(7, "numeric", "train", "--run", run, "--data", "data", *TINY, "--train.steps", "9", "--checkpoint.every", "2",
                        "--fault.nan_step", "5", "--fault.nan_rank", str(nan_rank), ranks=ranks, says=("step 5", f"rank {nan_rank}", "tensor"))
        program.run("checkpoint", "verify", run)
        program.run("train", "--resume", run, "--fault.nan_step", "0", ranks=ranks)
        assert [x[0] for x in losses(program, run)] == list(range(1, 10))


if __name__ == "__main__":
    prove((data_ranks_give_the_same_bits, data_ranks_give_the_same_bits_in_bf16_and_with_recomputation,
           every_instruction_set_keeps_the_promises, a_killed_run_goes_on_elsewhere_to_the_same_bits,
           a_run_killed_before_its_first_save_begins_again, tensor_ranks_follow_one_rank, data_ranks_repeat_each_other_beside_tensor_ranks,
           a_gpt2_gives_the_same_bits_and_goes_on_elsewhere, mixed_blocks_share_what_they_recompute_by_kind, signals_save_and_resume,
           numbers_that_are_not_finite_stop_all_ranks), prepare)

#!/usr/bin/env python3
"""Muon and the schedule warm-up, stable, decay, through the command line: the promises of ranks.py hold for them too.

    python3 tests/e2e/muon.py build/release/slipway
"""
import math
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from program import metrics, prove
from ranks import TINY, losses, prepare, train

MUON = ["--optim.name", "muon", "--optim.schedule", "wsd", "--train.steps", "12", "--validate.every", "5", "--checkpoint.every", "3"]


def data_ranks_give_the_same_bits(program):
    for name, ranks, extra in (("m1", 1, []), ("m2", 2, []), ("m4", 4, []), ("alone", 0, ["--train.rehearsal", "on"]), ("b1", 1, ["--numerics.compute", "bf16"]),
                              ("b4", 4, ["--numerics.compute", "bf16"])):
        train(program, name, *MUON, *extra, ranks=ranks)
    for one, other in (("m1", "m2"), ("m1", "m4"), ("m1", "alone"), ("b1", "b4")):
        assert losses(program, one) == losses(program, other), f"{one} and {other} differ"
        program.run("checkpoint", "diff", one, other)
    first, last = losses(program, "m1")[0][1], losses(program, "m1")[-1][1]
    assert last < first - 0.2, f"the loss went from {first} to {last}"
    assert losses(program, "b1") != losses(program, "m1"), "bf16 was not computed"


def a_killed_run_goes_on_elsewhere_to_the_same_bits(program):
    for case_index, (before, after) in enumerate(((2, 4), (4, 1))):
        run = f"killed{case_index}"
        process = program.start("train", "--run", run, "--data", "data", *TINY, *MUON, "--fault.kill_step", str(5 + 3 * case_index), ranks=before)
        process.communicate(timeout=120)
        assert process.returncode != 0
        program.run("train", "--resume", run, "--fault.kill_step", "0", ranks=after)
        assert losses(program, run) == losses(program, "m1"), f"{run}: {before} ranks, killed, then {after}"
        program.run("checkpoint", "diff", "m1", run)


def tensor_ranks_follow_one_rank(program):
    steps = [*MUON, "--train.steps", "20", "--validate.every", "0"]
    train(program, "t1", *steps)
    one = losses(program, "t1")
    for name, ranks, extra in (("t2", 2, "2"), ("d2t2", 4, "2"), ("t3", 3, "3")):  # three heads: on two ranks there is padding
        train(program, name, *steps, "--mesh.tensor", extra, ranks=ranks)
        for a, b in zip(one, losses(program, name), strict=True):
            assert abs(a[1] - b[1]) < 1e-4, f"{name}: step {a[0]} has loss {b[1]}, one rank {a[1]}"
    program.run("train", "--resume", "t2", "--train.steps", "22", "--mesh.tensor", "1", ranks=2)  # another layout goes on
    assert len(losses(program, "t2")) == 22


def a_checkpoint_holds_one_moment_of_what_muon_moves(program):
    tensors = program.json("checkpoint", "inspect", "m4")["tensors"]
    kinds = {}
    for tensor in tensors:
        kinds.setdefault(tensor["name"], set()).add(tensor["kind"])
    for name, actual in kinds.items():
        hidden = name.startswith("blk.") and "norm" not in name
        assert actual == ({"value", "muon_m"} if hidden else {"value", "adam_m", "adam_v"}), (name, actual)
    program.run("checkpoint", "verify", "m4")
    plans = {name: program.json("plan", *TINY, "--optim.name", name, "--vocabulary", "515") for name in ("adamw", "muon")}
    hidden = sum(math.prod(t["shape"]) for t in tensors if t["kind"] == "muon_m")
    assert plans["adamw"]["checkpoint_bytes"] - plans["muon"]["checkpoint_bytes"] == 4 * hidden
    assert plans["muon"]["memory_bytes"]["orthogonal"] > 0 and plans["muon"]["step_orthogonal_flops"] > 0


def the_rate_is_stable_then_falls(program):
    rates = [m["lr"] for m in metrics(program.folder / "m1")]
    assert rates[:10] == [rates[0]] * 10, rates  # a warmup of one step, and two steps of decay
    assert rates[10] == rates[0] and abs(rates[11] / rates[0] - (0.1 + 0.9 * (1 - math.sqrt(0.5)))) < 1e-6, rates
    # From a checkpoint of the stable part, a longer schedule: it stays up, then falls over as many steps as it is told.
    program.run("train", "--resume", "m2", "--checkpoint", "9", "--train.steps", "20", "--optim.schedule_steps", "20", "--optim.decay_steps", "4", ranks=1)
    rates = [m["lr"] for m in metrics(program.folder / "m2")]
    assert rates[:17] == [rates[0]] * 17 and rates[17] > rates[18] > rates[19] > 0.1 * rates[0], rates


def what_cannot_be_is_refused(program):
    for key, value, says in (("optim.name", "lion", "AdamW or Muon"), ("optim.schedule", "linear", "cosine or wsd"), ("optim.momentum", "1", "below 1"),
                             ("optim.decay_steps", "-1", "0 (automatic) or more"), ("optim.decay_steps", "12", "after its warmup")):
        program.refuses(2, "config", "train", "--run", "x", "--data", "data", *TINY, *MUON, "--" + key, value, says=(key, value, says))
    program.refuses(2, "config", "train", "--run", "x", "--data", "data", *TINY, "--optim.decay_steps", "5", says=("optim.decay_steps", "cosine", "wsd"))
    assert not (program.folder / "x").exists()
    resume = ("train", "--resume", "m1", "--train.steps", "14")
    program.refuses(2, "config", *resume, "--optim.name", "adamw", says=("optim.name is AdamW", "Muon", "begin a new run"))
    program.refuses(2, "config", *resume, "--optim.schedule", "cosine", "--optim.decay_steps", "0", says=("optim.schedule is cosine", "wsd", "begin a new run"))
    program.refuses(2, "config", *resume, "--optim.momentum", "0.9", says=("optim.momentum is 0.9", "0.95"))
    program.run("train", "--resume", "m1", "--optim.name", "Muon", "--train.steps", "13", ranks=2)  # the same by another spelling


if __name__ == "__main__":
    prove((data_ranks_give_the_same_bits, a_killed_run_goes_on_elsewhere_to_the_same_bits, tensor_ranks_follow_one_rank,
           a_checkpoint_holds_one_moment_of_what_muon_moves, the_rate_is_stable_then_falls, what_cannot_be_is_refused), prepare)

#!/usr/bin/env python3
"""Kills runs at random moments, saves in flight included, and resumes each on another number of data ranks until it is done:
the end must be the same bytes as the run that nobody touched.

    python3 tests/e2e/kill_storm.py build/release/slipway [KILLS [SEED]]
"""
import pathlib
import random
import shutil
import signal
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from processes import children, send, until, working_in
from program import metrics, prove, standard_library

KILLS, SEED = (int(x) for x in (sys.argv[2:] + ["12", "1"][len(sys.argv) - 2:]))
STEPS_A_KILL = 100  # more than a run makes before the next kill finds it, so that it is seldom done too early
MODEL = ["--model.preset", "llama-1m", "--model.layers", "2", "--model.width", "64", "--model.heads", "4", "--model.kv_heads", "2", "--model.ffn", "96",
         "--train.sequence", "32", "--train.batch", "8", "--train.rehearsal", "off", "--runtime.threads", "1", "--validate.every", "25",
         "--validate.tokens", "500", "--checkpoint.every", "3", "--checkpoint.keep", "2", "--log.every", "100"]


def storm(program, kills, seed):
    steps = STEPS_A_KILL * kills
    dice = random.Random(seed)
    run = program.folder / "storm"
    where = {"before the folder": 0, "mpirun": 0, "a rank": 0}
    for _ in range(kills):
        ranks = dice.choice((0, 1, 2, 4))
        words = ["--resume", "storm"] if (run / "config.ini").exists() else ["--run", "storm", "--data", "data", *MODEL, "--train.steps", steps]
        running = program.start("train", *words, ranks=ranks)
        time.sleep(dice.uniform(0.05, 1.5) + 0.4 * (ranks > 0))
        victims = [running.pid] if dice.random() < 0.5 else children(running.pid) or [running.pid]
        where["mpirun" if victims == [running.pid] else "a rank"] += 1
        send(dice.choice(victims), signal.SIGKILL)
        _, err = running.communicate(timeout=120)
        until(lambda: not working_in(program.folder), "the end of the ranks of a mpirun that was killed", limit_s=20)  # they hold the run's lock
        assert not any(f"error ({fault})" in err for fault in ("bug", "storage", "config")), err
        if not (run / "config.ini").exists():
            where["before the folder"] += 1
            shutil.rmtree(run, ignore_errors=True)
        if running.returncode == 0:
            break  # it was done before
    program.run("train", "--resume", "storm", ranks=2, timeout=600)
    return where


def prepare(program):
    standard_library(program.folder / "text", 120_000)
    program.run("tokenizer", "train", "--input", "text", "--tokenizer.vocabulary", "400", "--out", "tok.json")
    program.run("data", "prepare", "--tokenizer", "tok.json", "--input", "text", "--data.document_bytes", "2000", "--out", "data")
    program.run("train", "--run", "calm", "--data", "data", *MODEL, "--train.steps", STEPS_A_KILL * KILLS, timeout=3000)


def a_run_that_is_killed_again_and_again_ends_in_the_bytes_of_a_calm_one(program):
    where = storm(program, KILLS, SEED)
    program.run("checkpoint", "diff", "calm", "storm")
    program.run("checkpoint", "verify", "storm")
    seen = [[(m["step"], m["train_loss"], m.get("val_loss")) for m in metrics(program.folder / run)] for run in ("calm", "storm")]
    assert seen[0] == seen[1], "the curves differ"
    print(f"kills: {where}, seed {SEED}: {STEPS_A_KILL * KILLS} steps, equal bytes and curves")


if __name__ == "__main__":
    prove([a_run_that_is_killed_again_and_again_ends_in_the_bytes_of_a_calm_one], prepare)

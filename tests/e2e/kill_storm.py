#!/usr/bin/env python3
"""Kills runs at random moments, saves in flight included, and resumes each on another number of data ranks until it is done:
the end must be the same bytes as the run that nobody touched.

    python3 tests/e2e/kill_storm.py build/release/slipway [KILLS [SEED]]
"""
import os
import pathlib
import random
import shutil
import signal
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from program import Program, metrics, standard_library  # noqa: E402

STEPS_A_KILL = 100  # more than a run makes before the next kill finds it, so that it is seldom done too early
MODEL = ["--model.preset", "llama-1m", "--model.layers", "2", "--model.width", "64", "--model.heads", "4", "--model.kv_heads", "2", "--model.ffn", "96",
         "--train.sequence", "32", "--train.batch", "8", "--train.rehearsal", "off", "--runtime.threads", "1", "--validate.every", "25",
         "--validate.tokens", "500", "--checkpoint.every", "3", "--checkpoint.keep", "2", "--log.every", "100"]


def children_of(pid):
    """The ranks of a mpirun, or the process itself."""
    found = [int(c) for task in pathlib.Path(f"/proc/{pid}/task").glob("*/children") for c in task.read_text().split()]
    return found or [pid]


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
        victims = [running.pid] if dice.random() < 0.5 else children_of(running.pid)
        where["mpirun" if victims == [running.pid] else "a rank"] += 1
        try:
            os.kill(dice.choice(victims), signal.SIGKILL)
        except ProcessLookupError:
            pass
        _, err = running.communicate(timeout=120)
        assert "error (bug)" not in err and "error (storage)" not in err, err
        if not (run / "config.ini").exists():
            where["before the folder"] += 1
            shutil.rmtree(run, ignore_errors=True)
        if running.returncode == 0:
            break  # it was done before
    program.run("train", "--resume", "storm", ranks=2, timeout=600)
    return where


def main():
    kills, seed = (int(x) for x in (sys.argv[2:] + ["12", "1"][len(sys.argv) - 2:]))
    with tempfile.TemporaryDirectory() as folder:
        program = Program(sys.argv[1], folder)
        standard_library(program.folder / "text", 120_000)
        program.run("tokenizer", "train", "--input", "text", "--tokenizer.vocabulary", "400", "--out", "tok.json")
        program.run("data", "prepare", "--tokenizer", "tok.json", "--input", "text", "--data.document_bytes", "2000", "--out", "data")
        program.run("train", "--run", "calm", "--data", "data", *MODEL, "--train.steps", STEPS_A_KILL * kills, timeout=3000)
        where = storm(program, kills, seed)
        program.run("checkpoint", "diff", "calm", "storm")
        program.run("checkpoint", "verify", "storm")
        seen = [[(m["step"], m["train_loss"], m.get("val_loss")) for m in metrics(program.folder / run)] for run in ("calm", "storm")]
        assert seen[0] == seen[1], "the curves differ"
        print(f"ok kills: {where}, seed {seed}: {STEPS_A_KILL * kills} steps, equal bytes and curves")


if __name__ == "__main__":
    main()

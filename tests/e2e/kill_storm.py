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
from processes import children, pids_in_folder, send_to_process, wait_until
from program import metrics, prove, standard_library

KILLS, SEED = (int(x) for x in (sys.argv[2:] + ["12", "1"][len(sys.argv) - 2:]))
STEPS_A_KILL = 100  # more than a run makes before the next kill finds it, so that it is seldom done too early
MODEL = ["--model.preset", "llama-1m", "--model.layers", "2", "--model.width", "64", "--model.heads", "4", "--model.kv_heads", "2", "--model.ffn", "96",
         "--train.sequence", "32", "--train.batch", "8", "--train.rehearsal", "off", "--runtime.threads", "1", "--validate.every", "25",
         "--validate.tokens", "500", "--checkpoint.every", "3", "--checkpoint.keep", "2", "--log.every", "100"]


def storm(program, kills, seed):
    steps = STEPS_A_KILL * kills
    rng = random.Random(seed)
    run = program.folder / "storm"
    kill_counts = {"before the folder": 0, "mpirun": 0, "a rank": 0}
    for _ in range(kills):
        ranks = rng.choice((0, 1, 2, 4))
        argv = ["--resume", "storm"] if (run / "config.ini").exists() else ["--run", "storm", "--data", "data", *MODEL, "--train.steps", steps]
        process = program.start("train", *argv, ranks=ranks)
        time.sleep(rng.uniform(0.05, 1.5) + 0.4 * (ranks > 0))
        victims = [process.pid] if rng.random() < 0.5 else children(process.pid) or [process.pid]
        kill_counts["mpirun" if victims == [process.pid] else "a rank"] += 1
        send_to_process(rng.choice(victims), signal.SIGKILL)
        _, err = process.communicate(timeout=120)
        wait_until(lambda: not pids_in_folder(program.folder), "the end of the ranks of a mpirun that was killed", timeout_s=20)  # they hold the run's lock
        assert not any(f"error ({fault})" in err for fault in ("bug", "storage", "config")), err
        if not (run / "config.ini").exists():
            kill_counts["before the folder"] += 1
            shutil.rmtree(run, ignore_errors=True)
        if process.returncode == 0:
            break  # it was done before
    program.run("train", "--resume", "storm", ranks=2, timeout=600)
    return kill_counts


def prepare(program):
    standard_library(program.folder / "text", 120_000)
    program.run("tokenizer", "train", "--input", "text", "--tokenizer.vocabulary", "400", "--out", "tok.json")
    program.run("data", "prepare", "--tokenizer", "tok.json", "--input", "text", "--data.document_bytes", "2000", "--out", "data")
    program.run("train", "--run", "calm", "--data", "data", *MODEL, "--train.steps", STEPS_A_KILL * KILLS, timeout=3000)


def a_run_that_is_killed_again_and_again_ends_in_the_bytes_of_a_calm_one(program):
    kill_counts = storm(program, KILLS, SEED)
    program.run("checkpoint", "diff", "calm", "storm")
    program.run("checkpoint", "verify", "storm")
    curves = [[(m["step"], m["train_loss"], m.get("val_loss")) for m in metrics(program.folder / run)] for run in ("calm", "storm")]
    assert curves[0] == curves[1], "the curves differ"
    print(f"kills: {kill_counts}, seed {SEED}: {STEPS_A_KILL * KILLS} steps, equal bytes and curves")


if __name__ == "__main__":
    prove([a_run_that_is_killed_again_and_again_ends_in_the_bytes_of_a_calm_one], prepare)

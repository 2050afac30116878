#!/usr/bin/env python3
"""Signals during a matmul: none is handled on a thread that computes, every stop is saved, and a death by a signal is recorded.

oneDNN before 3.11.2 points the stack pointer into the heap inside its f32 kernels for AVX2 (K above 252) and AVX-512 (K above 84), so
that a signal's frame damages the heap. The model here is wide enough for these kernels, and the instructions are held to AVX2.

    python3 tests/e2e/signals.py build/release/slipway [STOPS [SEED]]
"""
import json
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from processes import children, read_proc_file, send_to_process, wait_until
from program import MPI, prove, standard_library, steps_done

STOPS, SEED = (int(x) for x in (sys.argv[2:] + ["8", "1"][len(sys.argv) - 2:]))
LAUNCH_RUN = str(pathlib.Path(__file__).resolve().parents[2] / "launch" / "run")
AVX2 = {"ONEDNN_MAX_CPU_ISA": "AVX2"}
MODEL = ["--model.preset", "llama-1m", "--model.layers", "2", "--model.width", "256", "--model.heads", "4", "--model.kv_heads", "4",
         "--model.ffn", "512", "--train.sequence", "64", "--train.batch", "8", "--train.rehearsal", "off", "--numerics.compute", "f32",
         "--runtime.instructions", "base", "--runtime.threads", "1", "--validate.every", "0", "--checkpoint.every", "0", "--log.every", "50"]
STEPS_A_STOP = 8
STOP_SIGNALS = {"INT", "TERM", "HUP", "USR1", "USR2"}


def environment():
    return os.environ | MPI | AVX2


def prepare(p):
    standard_library(p.folder / "text", 120_000)
    p.run("tokenizer", "train", "--input", "text", "--tokenizer.vocabulary", "400", "--out", "tok.json")
    p.run("data", "prepare", "--tokenizer", "tok.json", "--input", "text", "--data.document_bytes", "2000", "--out", "data")


def start_train(p, run, *argv, ranks=0, launcher=()):
    argv = [*argv] if argv else ["--run", run, "--data", "data", *MODEL, "--train.steps", "1000000"]
    command = [*launcher, *(["-n", str(ranks)] if ranks else []), p.path, "train", *map(str, argv)]
    return p.start_command(["env", "--default-signal=HUP,INT", *(f"{k}={v}" for k, v in AVX2.items()), *command])


def wait_for_steps(p, process, run, steps=1):
    wait_until(lambda: steps_done(p.folder / run) >= steps or process.poll() is not None, f"step {steps} of {run}")
    assert process.poll() is None, process.communicate()


def rank_pids(process, ranks):
    return children(process.pid) if ranks else [process.pid]


def read_status(p, run):
    return json.loads((p.folder / run / "status.json").read_text())


def blocked_signals(pid):
    """The names of the signals that each thread has blocked, by the thread's number."""
    threads = {}
    for task in os.listdir(f"/proc/{pid}/task"):
        mask = re.search(r"^SigBlk:\s*([0-9a-f]+)", read_proc_file(f"/proc/{pid}/task/{task}/status"), re.M)
        if mask:
            threads[task] = {s.name.removeprefix("SIG") for s in signal.Signals if int(mask[1], 16) >> (s - 1) & 1}
    return threads


def every_thread_but_the_waiting_one_has_the_signals_blocked(p):
    process = start_train(p, "threads", "--run", "threads", "--data", "data", *MODEL, "--train.steps", "1000000", "--runtime.threads", "3", ranks=2,
                    launcher=["mpirun"])
    wait_for_steps(p, process, "threads")
    for pid in children(process.pid):
        threads = blocked_signals(pid)
        waiting = [t for t, blocked in threads.items() if not STOP_SIGNALS <= blocked]
        assert len(threads) >= 5, f"only {len(threads)} threads: main, 2 of OpenMP, MPI's, the waiting one"
        assert len(waiting) == 1, f"{len(waiting)} of {len(threads)} threads would be interrupted: {threads}"
        assert not threads[waiting[0]] & STOP_SIGNALS, threads[waiting[0]]
        assert all({"PROF", "VTALRM", "ALRM"} <= blocked for blocked in threads.values()), threads
    process.send_signal(signal.SIGUSR1)
    assert process.wait(60) == 138


def a_storm_of_signals_never_damages_the_heap(p):
    """Many signals during training: without the fix 5 of 8 such runs died of SIGABRT or SIGSEGV on a processor with AVX2."""
    for attempt in range(4):
        run = f"storm{attempt}"
        process = start_train(p, run)
        wait_for_steps(p, process, run)
        end_s = time.monotonic() + 5
        while process.poll() is None and time.monotonic() < end_s:
            send_to_process(process.pid, signal.SIGUSR1)
            time.sleep(0.002)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 138, f"ended with {process.returncode}\n{err}"
        p.run("checkpoint", "verify", run)


def stop_repeatedly(p, rng, stops):
    """Each stop by another signal and launcher, until STEPS_A_STOP * stops steps are done."""
    steps = STEPS_A_STOP * stops
    sent_counts = {}
    for _ in range(stops):
        num_steps = steps_done(p.folder / "stopped")
        if num_steps >= steps:
            break
        ranks, signum = rng.choice((0, 2)), rng.choice((signal.SIGUSR1, signal.SIGTERM, signal.SIGHUP, signal.SIGINT))
        new_run = ["--run", "stopped", "--data", "data", *MODEL, "--train.steps", steps]
        process = start_train(p, "stopped", *(["--resume", "stopped"] if num_steps else new_run), ranks=ranks, launcher=[LAUNCH_RUN] if ranks else [])
        wait_until(lambda: steps_done(p.folder / "stopped") > num_steps or process.poll() is not None, "a step", every_s=0.001)
        time.sleep(rng.uniform(0, 0.1))
        send_to_process(process.pid, signum)
        _, err = process.communicate(timeout=120)
        expected = 138 if ranks else 128 + signum
        assert process.returncode in (0, expected), f"{signum} to {ranks} ranks: {process.returncode}\n{err}"
        assert "ORTE" not in err and "MPI_ABORT" not in err and "----------" not in err, err
        assert read_status(p, "stopped")["status"] in ("interrupted", "ok")
        p.run("checkpoint", "verify", "stopped")
        sent_counts[signum.name] = sent_counts.get(signum.name, 0) + 1
    p.run("train", "--resume", "stopped")
    return steps, sent_counts


def every_stop_is_saved_and_resumed_to_the_bytes_of_the_unbroken_run(p):
    steps, sent_counts = stop_repeatedly(p, random.Random(SEED), STOPS)
    p.run("train", "--run", "unbroken", "--data", "data", *MODEL, "--train.steps", steps)
    p.run("checkpoint", "diff", "unbroken", "stopped")
    print(f"stops: {sent_counts}, seed {SEED}: {steps} steps, equal bytes")


def a_death_by_a_signal_is_recorded_and_the_newest_checkpoint_holds(p):
    for signum, ranks, victim in ((signal.SIGSEGV, 0, 0), (signal.SIGABRT, 2, 1), (signal.SIGSEGV, 2, 0), (signal.SIGKILL, 2, 1)):
        run = f"death-{signum.name}-{ranks}"
        process = start_train(p, run, "--run", run, "--data", "data", *MODEL, "--train.steps", "1000000", "--checkpoint.every", "2", ranks=ranks,
                        launcher=["mpirun"] if ranks else [])
        wait_for_steps(p, process, run, steps=5)
        send_to_process(rank_pids(process, ranks)[victim], signum)
        _, err = process.communicate(timeout=60)
        assert process.returncode in (-signum, 128 + signum), f"{run}: {process.returncode}\n{err}"
        status = read_status(p, run)
        assert status["status"] == "failed", status
        sentences = [line for line in err.splitlines() if line.startswith("slipway: error")]
        if signum == signal.SIGKILL:
            assert status["fault"] == "comm" and "another rank was lost" in status["error"], status
        else:
            assert status.get("signal") == signum and status["rank"] == victim and signum.name in status["error"], status
            assert len(sentences) == 1 and signum.name in sentences[0] and f"--resume {run}" in sentences[0], err
        p.run("checkpoint", "verify", run)
        num_steps = steps_done(p.folder / run)
        p.run("train", "--resume", run, "--train.steps", num_steps + 2)


def launch_run_adds_nothing_to_an_error(p):
    bad_args = ["--run", "x", "--data", "data", *MODEL, "--train.batch", "0"]
    for argv, status in ((bad_args, 2), (["--resume", "nowhere"], 4)):
        process = start_train(p, "x", *argv, ranks=2, launcher=[LAUNCH_RUN])
        _, err = process.communicate(timeout=60)
        assert process.returncode == status, f"{process.returncode}\n{err}"
        lines = [line for line in err.splitlines() if not line.startswith("launch/run:")]
        assert len(lines) == 1 and lines[0].startswith("slipway: error ("), err
    process = start_train(p, "killed", ranks=2, launcher=[LAUNCH_RUN])
    wait_for_steps(p, process, "killed")
    mpirun = next(pid for pid in children(process.pid) if "mpirun" in read_proc_file(f"/proc/{pid}/comm"))
    send_to_process(children(mpirun)[1], signal.SIGKILL)
    _, err = process.communicate(timeout=60)
    sentences = [line for line in err.splitlines() if line.startswith("slipway: error (comm): rank 1 on ")]
    assert process.returncode == 137 and len(sentences) == 1 and "signal 9" in sentences[0] and "------" not in err, f"{process.returncode}\n{err}"
    process = subprocess.run([LAUNCH_RUN, "-n", "1", "no-such-program"], cwd=p.folder, env=environment(), capture_output=True, text=True)
    assert process.returncode == 2 and process.stdout == "" and "there is no program no-such-program" in process.stderr, process


def two_interrupts_at_once_are_one_and_a_later_one_stops_unsaved(p):
    process = start_train(p, "at-once", launcher=["timeout", "-s", "INT", "4"])  # one to the process, and one to its group
    _, err = process.communicate(timeout=60)
    assert process.returncode == 124, f"{process.returncode}\n{err}"
    status = read_status(p, "at-once")
    assert (status["status"], status["signal"]) == ("interrupted", signal.SIGINT) and "stopped and saved" in err, err
    p.run("checkpoint", "verify", "at-once")

    slow = ["--run", "unsaved", "--data", "data", *MODEL, "--train.steps", "1000000", "--train.batch", "256", "--train.micro_batch", "8"]
    process = start_train(p, "unsaved", *slow)
    wait_until(lambda: (p.folder / "unsaved" / "plan.json").exists() or process.poll() is not None, "the first step of unsaved")
    send_to_process(process.pid, signal.SIGINT)
    time.sleep(0.3)
    assert process.poll() is None, "the first step was done within 0.3 s: it should be longer"
    send_to_process(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode in (-signal.SIGINT, 130) and "stopped at once by a second INT" in err, f"{process.returncode}\n{err}"
    status = read_status(p, "unsaved")
    assert (status["status"], status["signal"]) == ("interrupted", signal.SIGINT) and "without a save" in status["error"], status


def launch_run_ends_an_mpirun_that_does_not_listen(p):
    """As mpirun itself does while it waits for ranks that never come up."""
    deaf = p.folder / "deaf"
    deaf.mkdir()
    (deaf / "mpirun").write_text("#!/bin/bash\ntrap '' USR1 TERM INT HUP\necho up >&2\nwhile :; do sleep 0.1; done\n")
    (deaf / "mpirun").chmod(0o755)
    process = subprocess.Popen(["env", "--default-signal=INT", LAUNCH_RUN, "-n", "1", p.path, "--version"], cwd=p.folder, stderr=subprocess.PIPE, text=True,
                               env=environment() | {"PATH": f"{deaf}:{os.environ['PATH']}"})
    wait_until(lambda: process.stderr.readline() == "up\n", "the deaf mpirun")
    for _ in range(2):
        send_to_process(process.pid, signal.SIGINT)
        time.sleep(0.3)
    process.communicate(timeout=15)
    assert process.returncode == 137, process.returncode


def launch_run_refuses_a_limit_on_files_that_ranks_cannot_live_with(p):
    argv = ["bash", "-c", 'ulimit -f 1000; exec "$@"', "limited", LAUNCH_RUN, "-n", "1", p.path, "--version"]
    result = subprocess.run(argv, cwd=p.folder, env=environment(), capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout) == (2, "") and "limits files to 1000 KiB" in result.stderr and "raise ulimit -f" in result.stderr, result


def launch_run_opens_closed_streams(p):
    for closed in (">&- 2>&-", "<&- >&- 2>&-", "2>&-"):
        result = subprocess.run(["bash", "-c", f'"{LAUNCH_RUN}" -n 1 "{p.path}" --version {closed}'], cwd=p.folder, env=environment(), timeout=60)
        assert result.returncode == 0, (closed, result.returncode)


if __name__ == "__main__":
    prove([every_thread_but_the_waiting_one_has_the_signals_blocked, a_storm_of_signals_never_damages_the_heap,
           every_stop_is_saved_and_resumed_to_the_bytes_of_the_unbroken_run, a_death_by_a_signal_is_recorded_and_the_newest_checkpoint_holds,
           launch_run_adds_nothing_to_an_error, two_interrupts_at_once_are_one_and_a_later_one_stops_unsaved,
           launch_run_ends_an_mpirun_that_does_not_listen, launch_run_refuses_a_limit_on_files_that_ranks_cannot_live_with,
           launch_run_opens_closed_streams], prepare)

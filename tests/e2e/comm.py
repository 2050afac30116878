#!/usr/bin/env python3
"""What a user of mpirun and launch/run sees of errors, lost and stuck ranks, signals, the run's lock and its threads.

usage: comm.py PROBE LAUNCH_RUN [NAME...]   (PROBE is tests/e2e/comm_probe.cpp; NAMEs choose cases)
"""
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from processes import alive, children, end_all, until

PROBE, LAUNCH_RUN = (pathlib.Path(path).resolve() for path in sys.argv[1:3])
CHOSEN = sys.argv[3:]
ENVIRONMENT = {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
               "OMPI_MCA_rmaps_base_oversubscribe": "1", "OMPI_MCA_hwloc_base_binding_policy": "none"}
STARTED, FOLDER = [], tempfile.TemporaryDirectory()
CASES = []


def case(function):
    CASES.append(function)
    return function


class Outcome:
    def __init__(self, process, begun_s):
        self.out, self.err = process.communicate(timeout=60)
        self.status, self.seconds = process.returncode, time.monotonic() - begun_s

    @property
    def errors(self):
        return re.findall(r"slipway: error \(\w+\): .*", self.err)

    def __str__(self):
        return f"status {self.status} after {self.seconds:.1f} s\n--- out\n{self.out}\n--- err\n{self.err}"


def start(*command, **variables):
    STARTED.append(subprocess.Popen([str(word) for word in command], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                    stdin=subprocess.DEVNULL, cwd=FOLDER.name, env={**ENVIRONMENT, **variables}))
    return STARTED[-1]


def run(*command, **variables):
    begun_s = time.monotonic()
    return Outcome(start(*command, **variables), begun_s)


def mpirun(ranks, *words, **variables):
    return run("mpirun", "-n", ranks, PROBE, *words, **variables)


def expect(good, what, outcome):
    if not good:
        raise AssertionError(f"{what}\n{outcome}")


@case
def an_error_before_mpi_is_printed_once_with_its_status():
    for ranks in (1, 2, 4):
        seen = mpirun(ranks, "config")
        expect(seen.errors == ["slipway: error (config): the key is unknown"], "one sentence", seen)
        expect(seen.status == 2 and seen.seconds < 20, "status 2, soon", seen)
    alone = run(PROBE, "config")
    expect(alone.err == "slipway: error (config): the key is unknown\n" and alone.status == 2, "one line", alone)


@case
def an_error_that_all_ranks_find_is_printed_once_with_its_status():
    for ranks in (1, 2, 4):
        for what, delay, status in (("all", 0, 7), ("late", 10, 4), ("late", 80, 4)):  # rank 0 first; soon; after others have spoken
            seen = mpirun(ranks, what, delay)
            expect(len(seen.errors) == 1 and "every rank finds this" in seen.errors[0], "one sentence", seen)
            expect(seen.status == status and seen.seconds < 20, f"status {status}, soon", seen)


@case
def an_error_that_one_rank_finds_ends_all_with_its_sentence():
    for ranks, rank in ((2, 1), (4, 0), (4, 3)):
        seen = mpirun(ranks, "one", rank)
        expect(seen.errors == ["slipway: error (data): one rank finds this"], "one sentence", seen)
        expect(seen.status == 3 and "saved" not in seen.out, "status 3, and the TERM that follows saves nothing", seen)


@case
def a_lost_rank_ends_the_run_without_a_save():
    seen = mpirun(3, "lost", 1)
    expect(seen.status == 137 and "saved" not in seen.out and seen.seconds < 20, "137, as mpirun reports it", seen)


@case
def a_stuck_rank_is_noticed_and_named_once():
    seen = mpirun(3, "stuck", 2)
    expect(len(seen.errors) == 1, "one sentence", seen)
    expect(re.search(r"\(comm\): rank \d waits for \d+ s in all_reduce_max \(step 3\)", seen.errors[0]), "it names all", seen)
    expect(seen.status == 5 and seen.seconds < 25, "status 5, soon", seen)


def begin(*command, **variables):
    process = start(*command, **variables)
    begun_s = time.monotonic()
    for line in process.stdout:
        if line == "ready\n":
            return process, begun_s
    raise AssertionError(f"it never got ready\n{Outcome(process, begun_s)}")


@case
def a_single_process_saves_on_each_signal():
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        process, begun_s = begin(PROBE, "signal")
        process.send_signal(number)
        seen = Outcome(process, begun_s)
        expect(seen.status == 128 + number and "saved on " in seen.out, f"status {128 + number}", seen)


@case
def usr1_to_mpirun_saves():
    process, begun_s = begin("mpirun", "-n", 2, PROBE, "signal")
    process.send_signal(signal.SIGUSR1)
    seen = Outcome(process, begun_s)
    expect(seen.status == 138 and "saved on USR1" in seen.out, "status 138", seen)


@case
def a_signal_to_one_rank_saves_on_all():
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2):
        process, begun_s = begin("mpirun", "-n", 2, PROBE, "signal")
        os.kill(children(process.pid)[-1], number)
        seen = Outcome(process, begun_s)
        expect(seen.status == 128 + number and seen.out.count("saved on") == 1, f"status {128 + number}", seen)


@case
def launch_run_passes_signals_on_so_that_the_run_saves():
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
        process, begun_s = begin("env", "--default-signal=HUP", LAUNCH_RUN, "-n", 2, PROBE, "signal")  # a shell cannot trap what nohup has ignored
        process.send_signal(number)
        seen = Outcome(process, begun_s)
        expect(seen.status == 138 and "saved on USR1" in seen.out, "status 138", seen)
        expect("Ctrl-C or TERM" in seen.err.splitlines()[0], "the first line says so", seen)


@case
def launch_run_passes_statuses_on():
    for what, status in (("stop", 0), ("config", 2), ("all", 7)):
        seen = run(LAUNCH_RUN, "-n", 4, PROBE, what)
        expect(seen.status == status, f"status {status}", seen)
    expect(run(LAUNCH_RUN).status == 2, "without words: its usage", "")


@case
def ranks_end_with_launch_run_and_with_mpirun():
    for command in ([LAUNCH_RUN], ["mpirun"]):
        process, _ = begin(*command, "-n", 2, PROBE, "signal")
        ranks = [pid for child in [process.pid, *children(process.pid)] for pid in children(child)]
        process.kill()
        process.communicate()
        until(lambda: not any(alive(pid) for pid in ranks), f"the end of ranks whose {command[0]} was killed, {ranks}", limit_s=20)


@case
def the_lock_refuses_a_second_run_and_outlives_rank_0():
    with tempfile.TemporaryDirectory() as folder:
        process, begun_s = begin("mpirun", "-n", 2, PROBE, "lock", 0, folder)
        for ranks in (1, 2):
            seen = mpirun(ranks, "lock", 0, folder)
            expect(seen.status == 2 and len(seen.errors) == 1, "refused, once", seen)
            expect(f"process {children(process.pid)[0]} on host {os.uname().nodename}" in seen.errors[0], "it names the holder", seen)
        process.send_signal(signal.SIGUSR1)
        expect(Outcome(process, begun_s).status == 138, "the first run is not disturbed", "")
        process, begun_s = begin(PROBE, "lock", 0, folder)
        process.kill()
        Outcome(process, begun_s)
        again, begun_s = begin(PROBE, "lock", 0, folder)  # free, whatever ended it
        again.send_signal(signal.SIGUSR1)
        expect(Outcome(again, begun_s).status == 138, "free after a kill", "")


@case
def threads_follow_the_masks_and_misfits_are_named():
    cores = len(os.sched_getaffinity(0))
    seen = run(PROBE, "threads")
    expect(seen.out == f"threads {cores}\n" and "warning" not in seen.err, "all cores", seen)
    for ranks in (1, 2, 4):
        seen = mpirun(ranks, "threads")
        expect(seen.out == f"threads {max(1, cores // ranks)}\n", "cores / ranks", seen)
    seen = mpirun(2, "threads", cores)
    expect(cores == 1 or (seen.err.count("warning") == 1 and f"--runtime.threads {max(1, cores // 2)}" in seen.err), "too many", seen)
    bound = {"OMPI_MCA_hwloc_base_binding_policy": "core"}
    seen = mpirun(1, "threads", 2, **bound)
    expect(seen.err.count("warning") == 1 and "--bind-to none" in seen.err, "bound to one core", seen)
    seen = mpirun(1, "threads", **bound)
    expect(cores == 1 or ("threads 1" in seen.out and "--bind-to none" in seen.err), "idle cores are named", seen)


def main():
    for function in CASES:
        if CHOSEN and function.__name__ not in CHOSEN:
            continue
        begun_s = time.monotonic()
        try:
            function()
        finally:
            end_all(STARTED, FOLDER.name)
        print(f"ok  {function.__name__} ({time.monotonic() - begun_s:.1f} s)", flush=True)


with FOLDER:
    main()

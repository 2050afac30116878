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
from processes import children, is_alive, terminate_all, wait_until

PROBE, LAUNCH_RUN = (pathlib.Path(path).resolve() for path in sys.argv[1:3])
SELECTED = sys.argv[3:]
ENVIRONMENT = {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
               "OMPI_MCA_rmaps_base_oversubscribe": "1", "OMPI_MCA_hwloc_base_binding_policy": "none"}
PROCESSES, FOLDER = [], tempfile.TemporaryDirectory()
CASES = []


def case(function):
    CASES.append(function)
    return function


class Outcome:
    def __init__(self, process, start_s):
        self.out, self.err = process.communicate(timeout=60)
        self.status, self.seconds = process.returncode, time.monotonic() - start_s

    @property
    def errors(self):
        return re.findall(r"slipway: error \(\w+\): .*", self.err)

    def __str__(self):
        return f"status {self.status} after {self.seconds:.1f} s\n--- out\n{self.out}\n--- err\n{self.err}"


def start(*command, **variables):
    PROCESSES.append(subprocess.Popen([str(word) for word in command], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                    stdin=subprocess.DEVNULL, cwd=FOLDER.name, env={**ENVIRONMENT, **variables}))
    return PROCESSES[-1]


def run(*command, **variables):
    start_s = time.monotonic()
    return Outcome(start(*command, **variables), start_s)


def mpirun(ranks, *argv, **variables):
    return run("mpirun", "-n", ranks, PROBE, *argv, **variables)


def expect(condition, what, outcome):
    if not condition:
        raise AssertionError(f"{what}\n{outcome}")


@case
def an_error_before_mpi_is_printed_once_with_its_status():
    for ranks in (1, 2, 4):
        outcome = mpirun(ranks, "config")
        expect(outcome.errors == ["slipway: error (config): the key is unknown"], "one sentence", outcome)
        expect(outcome.status == 2 and outcome.seconds < 20, "status 2, soon", outcome)
    single = run(PROBE, "config")
    expect(single.err == "slipway: error (config): the key is unknown\n" and single.status == 2, "one line", single)


@case
def an_error_that_all_ranks_find_is_printed_once_with_its_status():
    for ranks in (1, 2, 4):
        for what, delay, status in (("all", 0, 7), ("late", 10, 4), ("late", 80, 4)):  # rank 0 first; soon; after others have spoken
            outcome = mpirun(ranks, what, delay)
            expect(len(outcome.errors) == 1 and "every rank finds this" in outcome.errors[0], "one sentence", outcome)
            expect(outcome.status == status and outcome.seconds < 20, f"status {status}, soon", outcome)


@case
def an_error_that_one_rank_finds_ends_all_with_its_sentence():
    for ranks, rank in ((2, 1), (4, 0), (4, 3)):
        outcome = mpirun(ranks, "one", rank)
        expect(outcome.errors == ["slipway: error (data): one rank finds this"], "one sentence", outcome)
        expect(outcome.status == 3 and "saved" not in outcome.out, "status 3, and the TERM that follows saves nothing", outcome)


@case
def a_lost_rank_ends_the_run_without_a_save():
    outcome = mpirun(3, "lost", 1)
    expect(outcome.status == 137 and "saved" not in outcome.out and outcome.seconds < 20, "137, as mpirun reports it", outcome)


@case
def a_stuck_rank_is_noticed_and_named_once():
    outcome = mpirun(3, "stuck", 2)
    expect(len(outcome.errors) == 1, "one sentence", outcome)
    expect(re.search(r"\(comm\): rank \d waits for \d+ s in all_reduce_max \(step 3\)", outcome.errors[0]), "it names all", outcome)
    expect(outcome.status == 5 and outcome.seconds < 25, "status 5, soon", outcome)


def start_until_ready(*command, **variables):
    process = start(*command, **variables)
    start_s = time.monotonic()
    for line in process.stdout:
        if line == "ready\n":
            return process, start_s
    raise AssertionError(f"it never got ready\n{Outcome(process, start_s)}")


@case
def a_single_process_saves_on_each_signal():
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        process, start_s = start_until_ready(PROBE, "signal")
        process.send_signal(signum)
        outcome = Outcome(process, start_s)
        expect(outcome.status == 128 + signum and "saved on " in outcome.out, f"status {128 + signum}", outcome)


@case
def usr1_to_mpirun_saves():
    process, start_s = start_until_ready("mpirun", "-n", 2, PROBE, "signal")
    process.send_signal(signal.SIGUSR1)
    outcome = Outcome(process, start_s)
    expect(outcome.status == 138 and "saved on USR1" in outcome.out, "status 138", outcome)


@case
def a_signal_to_one_rank_saves_on_all():
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2):
        process, start_s = start_until_ready("mpirun", "-n", 2, PROBE, "signal")
        os.kill(children(process.pid)[-1], signum)
        outcome = Outcome(process, start_s)
        expect(outcome.status == 128 + signum and outcome.out.count("saved on") == 1, f"status {128 + signum}", outcome)


@case
def launch_run_passes_signals_on_so_that_the_run_saves():
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
        process, start_s = start_until_ready("env", "--default-signal=HUP", LAUNCH_RUN, "-n", 2, PROBE, "signal")  # a shell cannot trap what nohup has ignored
        process.send_signal(signum)
        outcome = Outcome(process, start_s)
        expect(outcome.status == 138 and "saved on USR1" in outcome.out, "status 138", outcome)
        expect("Ctrl-C or TERM" in outcome.err.splitlines()[0], "the first line says so", outcome)


@case
def launch_run_passes_statuses_on():
    for what, status in (("stop", 0), ("config", 2), ("all", 7)):
        outcome = run(LAUNCH_RUN, "-n", 4, PROBE, what)
        expect(outcome.status == status, f"status {status}", outcome)
    expect(run(LAUNCH_RUN).status == 2, "without words: its usage", "")


@case
def ranks_end_with_launch_run_and_with_mpirun():
    for command in ([LAUNCH_RUN], ["mpirun"]):
        process, _ = start_until_ready(*command, "-n", 2, PROBE, "signal")
        ranks = [pid for child in [process.pid, *children(process.pid)] for pid in children(child)]
        process.kill()
        process.communicate()
        wait_until(lambda: not any(is_alive(pid) for pid in ranks), f"the end of ranks whose {command[0]} was killed, {ranks}", timeout_s=20)


@case
def the_lock_refuses_a_second_run_and_outlives_rank_0():
    with tempfile.TemporaryDirectory() as folder:
        process, start_s = start_until_ready("mpirun", "-n", 2, PROBE, "lock", 0, folder)
        for ranks in (1, 2):
            outcome = mpirun(ranks, "lock", 0, folder)
            expect(outcome.status == 2 and len(outcome.errors) == 1, "refused, once", outcome)
            expect(f"process {children(process.pid)[0]} on host {os.uname().nodename}" in outcome.errors[0], "it names the holder", outcome)
        process.send_signal(signal.SIGUSR1)
        expect(Outcome(process, start_s).status == 138, "the first run is not disturbed", "")
        process, start_s = start_until_ready(PROBE, "lock", 0, folder)
        process.kill()
        Outcome(process, start_s)
        second, start_s = start_until_ready(PROBE, "lock", 0, folder)  # free, whatever ended it
        second.send_signal(signal.SIGUSR1)
        expect(Outcome(second, start_s).status == 138, "free after a kill", "")


@case
def threads_follow_the_masks_and_misfits_are_named():
    cores = len(os.sched_getaffinity(0))
    outcome = run(PROBE, "threads")
    expect(outcome.out == f"threads {cores}\n" and "warning" not in outcome.err, "all cores", outcome)
    for ranks in (1, 2, 4):
        outcome = mpirun(ranks, "threads")
        expect(outcome.out == f"threads {max(1, cores // ranks)}\n", "cores / ranks", outcome)
    outcome = mpirun(2, "threads", cores)
    expect(cores == 1 or (outcome.err.count("warning") == 1 and f"--runtime.threads {max(1, cores // 2)}" in outcome.err), "too many", outcome)
    bind_env = {"OMPI_MCA_hwloc_base_binding_policy": "core"}
    outcome = mpirun(1, "threads", 2, **bind_env)
    expect(outcome.err.count("warning") == 1 and "--bind-to none" in outcome.err, "bound to one core", outcome)
    outcome = mpirun(1, "threads", **bind_env)
    expect(cores == 1 or ("threads 1" in outcome.out and "--bind-to none" in outcome.err), "idle cores are named", outcome)


def main():
    for function in CASES:
        if SELECTED and function.__name__ not in SELECTED:
            continue
        start_s = time.monotonic()
        try:
            function()
        finally:
            terminate_all(PROCESSES, FOLDER.name)
        print(f"ok  {function.__name__} ({time.monotonic() - start_s:.1f} s)", flush=True)


with FOLDER:
    main()

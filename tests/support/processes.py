"""Inspects processes in /proc, any of which may end meanwhile; and waits with a deadline."""
import glob
import os
import re
import signal
import time


def wait_until(predicate, description, timeout_s=60, every_s=0.05):
    """Calls `predicate()` every `every_s` until it holds; fails after `timeout_s`, naming `description` it waited for."""
    end_s = time.monotonic() + timeout_s
    while not predicate():
        assert time.monotonic() < end_s, f"not within {timeout_s} s: {description}"
        time.sleep(every_s)


def read_proc_file(path):
    """The text of a file in /proc; empty where its process or thread has ended."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def children(pid):
    """Children in the kernel's order, the oldest first for each thread: those of mpirun are its ranks, in rank order."""
    return [int(pid_text) for path in glob.glob(f"/proc/{pid}/task/*/children") for pid_text in read_proc_file(path).split()]


def is_alive(pid):
    stat_fields = read_proc_file(f"/proc/{pid}/stat").rsplit(")", 1)[-1].split()
    return bool(stat_fields) and stat_fields[0] not in "ZX"


def is_signal_blocked(pid, signum):
    """Whether the process's main thread has the signal blocked, as in a run, which waits for it in another thread."""
    blocked = re.search(r"^SigBlk:\s*([0-9a-f]+)", read_proc_file(f"/proc/{pid}/status"), re.M)
    return blocked is not None and int(blocked[1], 16) >> (signum - 1) & 1 == 1


def send_to_process(pid, signum):
    """Sends a signal; returns whether the process existed."""
    try:
        os.kill(pid, signum)
        return True
    except ProcessLookupError:
        return False


def pids_in_folder(folder):
    """Processes whose working folder is in `folder`: those that a test started there, even if their parent or main thread has ended."""
    folder_path, pids = os.path.realpath(folder), set()
    for path in glob.glob("/proc/[0-9]*/task/*/cwd"):
        try:
            cwd = os.readlink(path)
        except OSError:  # it ended, or is another user's
            continue
        if cwd == folder_path or cwd.startswith(folder_path + os.sep):
            pids.add(int(path.split(os.sep)[2]))
    return sorted(pids)


def terminate_all(started, folder):
    """Ends the processes that were `started` and all others in `folder`: TERM first, on which mpirun ends its ranks, and KILL 5 s later."""
    for process in started:
        if process.poll() is None:
            process.terminate()
    begin_s = time.monotonic()
    while pids_in_folder(folder) and time.monotonic() - begin_s < 5:
        time.sleep(0.05)
    wait_until(lambda: not [pid for pid in pids_in_folder(folder) if send_to_process(pid, signal.SIGKILL)], f"the end of what was started in {folder}", timeout_s=20)
    for process in started:
        process.wait()

"""Inspects processes in /proc, any of which may end meanwhile; and waits with a deadline."""
import glob
import os
import re
import signal
import time


def until(true, what, limit_s=60, every_s=0.05):
    """Calls `true()` every `every_s` until it holds; fails after `limit_s`, naming `what` it waited for."""
    end_s = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < end_s, f"not within {limit_s} s: {what}"
        time.sleep(every_s)


def text_of(path):
    """The text of a file in /proc; empty where its process or thread has ended."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def children(pid):
    """Children in the kernel's order, the oldest first for each thread: those of mpirun are its ranks, in rank order."""
    return [int(word) for path in glob.glob(f"/proc/{pid}/task/*/children") for word in text_of(path).split()]


def alive(pid):
    state = text_of(f"/proc/{pid}/stat").rsplit(")", 1)[-1].split()
    return bool(state) and state[0] not in "ZX"


def blocks(pid, number):
    """Whether the process's main thread has the signal blocked, as in a run, which waits for it in another thread."""
    blocked = re.search(r"^SigBlk:\s*([0-9a-f]+)", text_of(f"/proc/{pid}/status"), re.M)
    return blocked is not None and int(blocked[1], 16) >> (number - 1) & 1 == 1


def send(pid, number):
    """Sends a signal; returns whether the process existed."""
    try:
        os.kill(pid, number)
        return True
    except ProcessLookupError:
        return False


def working_in(folder):
    """Processes whose working folder is in `folder`: those that a test started there, even if their parent or main thread has ended."""
    top, found = os.path.realpath(folder), set()
    for path in glob.glob("/proc/[0-9]*/task/*/cwd"):
        try:
            at = os.readlink(path)
        except OSError:  # it ended, or is another user's
            continue
        if at == top or at.startswith(top + os.sep):
            found.add(int(path.split(os.sep)[2]))
    return sorted(found)


def end_all(started, folder):
    """Ends the processes that were `started` and all others in `folder`: TERM first, on which mpirun ends its ranks, and KILL 5 s later."""
    for process in started:
        if process.poll() is None:
            process.terminate()
    asked_s = time.monotonic()
    while working_in(folder) and time.monotonic() - asked_s < 5:
        time.sleep(0.05)
    until(lambda: not [pid for pid in working_in(folder) if send(pid, signal.SIGKILL)], f"the end of what was started in {folder}", limit_s=20)
    for process in started:
        process.wait()

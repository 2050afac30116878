"""Processes as Linux shows them in /proc, where each may end between two looks at it; and how to wait, with a deadline."""
import glob
import os
import re
import signal
import time


def until(true, what, limit_s=60, every_s=0.05):
    """Returns once `true()`, asked every `every_s`; fails, and says what it waited for, where that takes `limit_s`."""
    end_s = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < end_s, f"not within {limit_s} s: {what}"
        time.sleep(every_s)


def text_of(path):
    """Of a file in /proc; empty where its process or thread has ended."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def children(pid):
    """As the kernel lists them, for each thread the oldest first: mpirun's are its ranks, in their order, whatever their numbers are."""
    return [int(word) for path in glob.glob(f"/proc/{pid}/task/*/children") for word in text_of(path).split()]


def alive(pid):
    state = text_of(f"/proc/{pid}/stat").rsplit(")", 1)[-1].split()
    return bool(state) and state[0] not in "ZX"


def blocks(pid, number):
    """Whether the process's first thread has the signal blocked, as a run has that waits for it in another."""
    blocked = re.search(r"^SigBlk:\s*([0-9a-f]+)", text_of(f"/proc/{pid}/status"), re.M)
    return blocked is not None and int(blocked[1], 16) >> (number - 1) & 1 == 1


def send(pid, number):
    """Whether there was anyone to get it."""
    try:
        os.kill(pid, number)
        return True
    except ProcessLookupError:
        return False


def working_in(folder):
    """Whose working folder is `folder` or lies in it: what a test started there, though its parent or its first thread has ended."""
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
    """Ends what was `started`, and what else works in `folder`: is asked to, for a mpirun then takes its ranks along, and killed 5 s later."""
    for process in started:
        if process.poll() is None:
            process.terminate()
    asked_s = time.monotonic()
    while working_in(folder) and time.monotonic() - asked_s < 5:
        time.sleep(0.05)
    until(lambda: not [pid for pid in working_in(folder) if send(pid, signal.SIGKILL)], f"the end of what was started in {folder}", limit_s=20)
    for process in started:
        process.wait()

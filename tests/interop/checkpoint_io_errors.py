"""checkpoint_io_errors.py SLIPWAY CHECKPOINT_MAKER: an I/O error at any system call of a save loses nothing.

strace makes the n-th call of a kind fail, for n = 1, 2, ... until the save no longer meets it."""

import os
import shutil
import subprocess
import sys
import tempfile

SLIPWAY, CHECKPOINT_MAKER = (os.path.abspath(path) for path in sys.argv[1:3])
CALLS = {"pwrite64": "EIO", "fallocate": "ENOSPC", "fsync": "EIO", "ftruncate": "EIO", "rename": "EIO", "renameat2": "EIO"}
MAX_CALLS = 60  # a save of one rank makes fewer calls of each kind


def main():
    if shutil.which("strace") is None:
        sys.exit("strace is not installed: apt-get install strace")
    with tempfile.TemporaryDirectory() as scratch:
        folder = f"{scratch}/checkpoints"
        failures = 0
        for call, error in CALLS.items():
            for n in range(1, MAX_CALLS):
                shutil.rmtree(folder, ignore_errors=True)
                subprocess.run([CHECKPOINT_MAKER, folder, "2", "1", "1"], check=True, capture_output=True)
                result = subprocess.run(["strace", "-f", "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={call}:error={error}:when={n}",
                                       CHECKPOINT_MAKER, folder, "3", "1", "1"], capture_output=True, text=True, timeout=120)
                names = sorted(os.listdir(folder))
                newest = subprocess.run([SLIPWAY, "checkpoint", "verify", folder], capture_output=True, text=True)
                context = f"{call} {n}: status {result.returncode}, {names}, {result.stderr}"
                assert newest.returncode == 0, context + newest.stderr
                if result.returncode == 0:
                    assert names == ["step-00000002", "step-00000003"], context
                    break
                failures += 1
                assert "step-00000002" in names and not any(name.endswith(".partial") for name in names), context
                assert len(result.stderr.strip().splitlines()) == 1 and "step 3 is not saved: " in result.stderr, context
            else:
                sys.exit(f"the save still fails at {call} number {MAX_CALLS}")
        assert failures > len(CALLS), failures
    print(f"{failures} injected I/O errors: each told, none lost a checkpoint")


main()

"""Runs the program's commands as a user would, and shows what they printed when they do not end as expected."""
import json
import os
import pathlib
import subprocess
import sys
import sysconfig
import tempfile
import time

from processes import terminate_all

MPI = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "OMPI_MCA_rmaps_base_oversubscribe": "1",
       "OMPI_MCA_mpi_yield_when_idle": "1", "OMPI_MCA_hwloc_base_binding_policy": "none", "OMP_NUM_THREADS": "1"}


class Program:
    """`slipway` in a folder of its own."""

    def __init__(self, path, folder):
        self.path = str(pathlib.Path(path).resolve())
        self.folder = pathlib.Path(folder)
        self.started = []

    def command(self, arguments, ranks=0):
        mpirun = ["mpirun", "-n", str(ranks)] if ranks else []
        return mpirun + [self.path] + [str(w) for w in arguments]

    def start(self, *arguments, ranks=0):
        return self.start_command(self.command(arguments, ranks))

    def start_command(self, command, **popen_options):
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        self.started.append(subprocess.Popen(command, cwd=self.folder, env=os.environ | MPI, **(pipes | popen_options)))
        return self.started[-1]

    def end(self):
        """Ends all processes that were started and still run."""
        terminate_all(self.started, self.folder)
        self.started = []

    def run(self, *arguments, ranks=0, expect=0, timeout=300, input=None):
        result = subprocess.run(self.command(arguments, ranks), cwd=self.folder, env=os.environ | MPI, capture_output=True,
                              timeout=timeout, input=input)
        result.out, result.err = result.stdout.decode("utf-8", "replace"), result.stderr.decode("utf-8", "replace")
        if result.returncode != expect:
            raise AssertionError(f"{' '.join(map(str, arguments))} (ranks {ranks}) ended with {result.returncode}, not {expect}\n"
                                 f"--- stdout\n{result.out[-3000:]}\n--- stderr\n{result.err[-3000:]}")
        return result

    def json(self, *arguments, **kwargs):
        return json.loads(self.run(*arguments, "--json", **kwargs).stdout)

    def refuses(self, expect, fault, *arguments, says=(), **kwargs):
        """The command ends with `expect` and one line `slipway: error (fault): ...` that holds every text of `says`."""
        result = self.run(*arguments, expect=expect, **kwargs)
        lines = [line for line in result.err.splitlines() if line.startswith("slipway: error")]
        assert len(lines) == 1, f"{arguments}: {len(lines)} error lines\n{result.err}"
        assert lines[0].startswith(f"slipway: error ({fault}): "), lines[0]
        for text in says:
            assert text in lines[0], f"{text!r} is not in: {lines[0]}"
        return lines[0]


def standard_library(folder, bytes_wanted, suffix=".py"):
    """Copies real Python source, alphabetically, until there is enough; returns the folder."""
    target = pathlib.Path(folder)
    target.mkdir(parents=True)
    total = 0
    for path in sorted(pathlib.Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
        text = path.read_bytes()
        (target / path.name).write_bytes(text)
        total += len(text)
        if total >= bytes_wanted:
            break
    return target


def prove(proofs, prepare):
    """Runs `prepare` and then each proof, in order, with the program named on the command line, in a temporary folder. Processes that a
    proof started are ended after it. With --all on the command line the proofs after one that failed are run too."""
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        program = Program(sys.argv[1], folder)
        prepare(program)
        for proof in proofs:
            begin = time.time()
            try:
                proof(program)
                print(f"ok {proof.__name__} ({time.time() - begin:.1f} s)", flush=True)
            except AssertionError as why:
                if "--all" not in sys.argv:
                    raise
                failed.append(proof.__name__)
                print(f"FAILED {proof.__name__}: {why}", flush=True)
            finally:
                program.end()
    if failed:
        sys.exit("failed: " + ", ".join(failed))


def metrics(run):
    return [json.loads(line) for line in (pathlib.Path(run) / "metrics.jsonl").read_text().splitlines()]


def steps_done(run):
    """Steps in metrics.jsonl of a run that may not have started yet, or may be writing the next line."""
    path = pathlib.Path(run) / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0

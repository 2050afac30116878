"""Rows of the table: Slipway and the peer in turns, medians, their ratio with its spread, the machine's limit."""
import dataclasses
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "support"))
import program

MPI = {key: value for key, value in program.MPI.items() if not key.startswith("OMP_")}  # threads are a row's own matter
TCMALLOC = ["/usr/lib/x86_64-linux-gnu/libtcmalloc_minimal.so.4", "/usr/lib/x86_64-linux-gnu/libtcmalloc.so.4"]


@dataclasses.dataclass
class Row:
    """One line of the table. `ours` and `peer` are samples in `unit`, one a pair."""
    name: str                     # such as "training llama-8m bf16"
    unit: str                     # such as "tokens/s"
    peer_name: str = ""           # the program that Slipway is compared with
    ours: list = dataclasses.field(default_factory=list)
    peer: list = dataclasses.field(default_factory=list)
    goal: float | None = None     # of the ratio ours / peer; a floor for rates, a ceiling where less is better
    less_is_better: bool = False
    limit: float | None = None    # of the machine, in `unit`
    limit_name: str = ""
    limit_goal: float | None = None  # share of the limit that is asked for
    why_void: str = ""            # why a measured row is not a valid comparison
    why_not: str = ""             # why the row was not measured
    details: dict = dataclasses.field(default_factory=dict)

    @property
    def ratio(self):
        peer = statistics.median(self.peer) if self.peer else 0
        return statistics.median(self.ours) / peer if self.ours and peer > 0 else None

    @property
    def spread(self):
        """Smallest and largest ratio of a pair."""
        ratios = [a / b for a, b in zip(self.ours, self.peer) if b > 0]
        return (min(ratios), max(ratios)) if ratios else None

    @property
    def share(self):
        """Of the machine's limit, by our median."""
        return statistics.median(self.ours) / self.limit if self.ours and self.limit else None

    def verdict(self):
        if self.why_not:
            return "not run"
        if self.why_void:
            return "VOID"
        verdicts = []
        if self.goal is not None and self.ratio is not None:
            verdicts.append(self.ratio <= self.goal if self.less_is_better else self.ratio >= self.goal)
        if self.limit_goal is not None and self.share is not None:
            verdicts.append(self.share >= self.limit_goal)
        return "-" if not verdicts else "met" if all(verdicts) else "missed"

    def record(self):
        return dataclasses.asdict(self) | {"ratio": self.ratio, "spread": self.spread, "share": self.share,
                                           "verdict": self.verdict()}


@dataclasses.dataclass
class Bench:
    """What every row needs: the program, a folder, how often, and the machine."""
    program: program.Program
    pairs: int
    quick: bool
    machine: dict
    limits: dict
    threads: int
    inputs: object = None  # inputs.BenchInputs

    @property
    def folder(self):
        return self.program.folder

    @property
    def has_amx(self):
        return "amx_tile" in self.machine["features"]

    def goal(self, amx, avx512):
        """The goal of this machine's kind."""
        return amx if self.has_amx else avx512

    def fresh_path(self, name):
        """A path in the bench's folder at which nothing lies."""
        path = self.folder / name
        shutil.rmtree(path, ignore_errors=True)
        path.unlink(missing_ok=True)
        return path

    def alternate(self, row, ours, peer):
        """Calls both `pairs` times, each first in half of the pairs, and keeps what they return."""
        for pair in range(self.pairs):
            sides = [(row.ours, ours), (row.peer, peer)]
            for samples, measure in sides if pair % 2 == 0 else reversed(sides):
                samples.append(measure())
        return row


@dataclasses.dataclass
class CompletedRun:
    """A program that has ended: how long it took, what it held, when its lines came (seconds after its start)."""
    seconds: float
    peak_bytes: int
    lines: list  # of both streams
    line_times_s: list

    def result(self):
        """The JSON object that it printed last."""
        line = next(line for line in reversed(self.lines) if '{"' in line)
        return json.loads(line[line.index('{"'):])  # what stands before it is a progress line without its end

    def step_s(self, step):
        """When the line of a training step came."""
        return next(s for s, line in zip(self.line_times_s, self.lines) if line.split()[:2] == ["Step", str(step)])


def run(command, env=None, input=None, cwd=None):
    """Runs a command to its end. Its peak memory is that of its largest process (under mpirun: of mpirun itself), but
    never less than this process held when it began: the kernel counts what a child was before it became its program."""
    argv = list(map(str, command))
    with tempfile.TemporaryFile("w+") as stdin:
        stdin.write(input or "")
        stdin.seek(0)
        begin = time.monotonic()
        child = subprocess.Popen(argv, env=os.environ | MPI | (env or {}), cwd=cwd, stdin=stdin, text=True,
                                 stdout=subprocess.PIPE, stderr=subprocess.STDOUT, errors="replace")
        lines, line_times_s = [], []
        for line in child.stdout:
            lines.append(line.rstrip("\n"))
            line_times_s.append(time.monotonic() - begin)
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.monotonic() - begin
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode != 0:
            raise RuntimeError(f"{' '.join(argv)} ended with {child.returncode}: {' '.join(lines)[-2000:]}")
    return CompletedRun(seconds, usage.ru_maxrss * 1024, lines, line_times_s)


def peer_environment(threads):
    """What a careful user of the peers sets: threads, and tcmalloc where it is installed."""
    env = {"OMP_NUM_THREADS": str(threads), "RAYON_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "true"}
    library = next((path for path in TCMALLOC if pathlib.Path(path).exists()), None)
    return env | ({"LD_PRELOAD": library} if library else {})

"""The bench: rows of training, text, decoding and storage, Slipway and its peers in turns; see run.sh and docs/bench/README.md."""
import argparse
import datetime
import json
import os
import pathlib
import re
import sys
import tempfile
import time

import decode
import machine
import materials
import storage
import texts
import training
from measure import Bench, Row, program, run

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCHEMA = "slipway.bench_table"


def all_reduce(bench):
    """The canonical sum over ranks, as a step of training has it, against MPI_Allreduce; both in one program, in turns."""
    probe = pathlib.Path(bench.program.path).parent / "tests/all_reduce"
    if not probe.is_file():
        return [Row("canonical reduction", "MB/s", "MPI_Allreduce", why_not=f"there is no {probe}: build the tests")]
    rows = []
    for ranks in (2, 4):
        row = Row(f"canonical reduction, {ranks} ranks", "MB/s", "MPI_Allreduce", goal=1.0)
        for _ in range(bench.pairs):
            answer = run(["mpirun", "-n", ranks, probe, 4 if bench.quick else 64]).answer()
            for samples, key in ((row.ours, "canonical_s"), (row.peer, "mpi_s")):
                samples.append(answer["bytes"] / 1e6 / median(answer[key]))
        rows.append(row)
    return rows


def row_makers(bench):
    return [maker for make in (training.row_makers, texts.row_makers, decode.row_makers, storage.row_makers)
            for maker in make(bench)] + [("all-reduce", lambda: all_reduce(bench))]


def measured(name, make):
    """The rows of one maker; a failure becomes a row that says so."""
    begin = time.time()
    print(f"bench: {name} ...", end=" ", file=sys.stderr, flush=True)
    try:
        rows = make()
    except Exception as error:  # the other rows are still measured, and this one reports the error
        rows = [Row(name, "", why_not=f"it failed: {type(error).__name__} " + " ".join(str(error).split())[-400:])]
    for row in rows:
        row.details |= {"load_average": os.getloadavg(), "seconds_in_all": round(time.time() - begin, 1)}
    print(f"{time.time() - begin:.0f} s, load {os.getloadavg()[0]:.1f}", file=sys.stderr, flush=True)
    return rows


def number(value):
    return "-" if value is None else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def print_table(rows, before):
    lines = [["what", "ours", "peer", "unit", "ratio", "spread", "goal", "before", "limit", "share", "verdict"]]
    for row in rows:
        record = row.record()
        middle = [number(median(samples)) for samples in (row.ours, row.peer)]
        goal = "-" if row.goal is None else ("<= " if row.less_is_better else ">= ") + f"{row.goal:.2f}"
        lines.append([row.name, middle[0], middle[1], row.unit, number(record["ratio"]),
                      "-" if not record["spread"] else "{:.2f}-{:.2f}".format(*record["spread"]), goal,
                      number(before.get(row.name)), number(row.limit),
                      "-" if record["share"] is None else f"{100 * record['share']:.0f} %", record["verdict"]])
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    for line in lines:
        print("  ".join(text.ljust(width) if i in (0, 3) else text.rjust(width)
                        for i, (text, width) in enumerate(zip(line, widths))).rstrip())
    for row in rows:
        for why in filter(None, (row.why_void and f"void: {row.why_void}", row.why_not and f"not run: {row.why_not}")):
            print(f"{row.name}: {why}")


def median(samples):
    ordered = sorted(samples)
    return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2 if ordered else None


def last_ratios(cpu, features):
    """Ratios of the newest record of such a machine, by row."""
    for file in sorted((ROOT / "docs/bench").glob("*.json"), reverse=True):
        record = json.loads(file.read_text())
        if record.get("schema") == SCHEMA and record["machine"]["cpu"] == cpu and record["machine"]["features"] == features:
            return {row["name"]: row["ratio"] for row in record["rows"] if row["ratio"] is not None and not row["why_void"]}
    return {}


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("program")
    options.add_argument("--only", metavar="NAME", action="append", default=[], help="rows whose name holds NAME")
    options.add_argument("--pairs", metavar="N", type=int, default=0, help="pairs of ours and the peer [5; quick: 2]")
    options.add_argument("--quick", action="store_true", help="small sizes, to see that it works")
    options.add_argument("--list", action="store_true", help="print the names of the rows")
    options.add_argument("--out", metavar="FILE", help="where the samples go [all rows: docs/bench/; else build/bench/]")
    options.add_argument("--folder", metavar="DIR", help="work here and leave everything [a folder that is removed]")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(given.folder or temporary).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        threads = min(2, len(os.sched_getaffinity(0)))  # what the goals are for
        bench = Bench(program.Program(given.program, folder), given.pairs or (2 if given.quick else 5), given.quick, {}, {},
                      threads)
        bench.machine = machine.facts(bench.program, threads)
        bench.materials = materials.Materials(bench)
        makers = [(name, make) for name, make in row_makers(bench)
                  if not given.only or any(word in name for word in given.only)]
        if given.list or not makers:
            print("\n".join(name for name, _ in row_makers(bench)))
            return 0 if given.list else 2

        if os.getloadavg()[0] > 0.5:
            print(f"bench: the load average is {os.getloadavg()[0]:.1f} before anything began: others use this machine, and "
                  "limits and rows will be too low", file=sys.stderr)
        bench.limits = machine.limits(folder, threads, given.quick)
        print("limits: " + ", ".join(f"{key.rsplit('_per_s')[0].replace('_', ' ')} {value / 1e9:.1f} G/s"
                                     for key, value in bench.limits.items()))
        before = last_ratios(bench.machine["cpu"], bench.machine["features"])
        rows = [row for name, make in makers for row in measured(name, make)]
        print_table(rows, before)

    now = datetime.datetime.now(datetime.UTC)
    whole = not given.only and not given.quick
    cpu = re.sub(r"[^a-z0-9]+", "-", bench.machine["cpu"].lower()).strip("-")
    kind = "amx" if bench.has_amx else "avx512-bf16" if "avx512_bf16" in bench.machine["features"] else "avx2"
    default = ROOT / (f"docs/bench/{now:%Y-%m-%d}-{cpu}-{kind}.json" if whole else "build/bench/last.json")
    out = pathlib.Path(given.out or default)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({"schema": SCHEMA, "schema_version": 1, "time": now.isoformat(timespec="seconds"),
                               "quick": given.quick, "pairs": bench.pairs, "machine": bench.machine,
                               "load_average_at_end": os.getloadavg(), "limits": bench.limits,
                               "rows": [row.record() for row in rows]}, indent=1) + "\n")
    print(f"samples: {out}")
    return 1 if any(row.why_void or row.why_not.startswith("it failed") for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())

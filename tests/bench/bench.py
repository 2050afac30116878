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
import inputs
import machine
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
            result = run(["mpirun", "-n", ranks, probe, 4 if bench.quick else 64]).result()
            for samples, key in ((row.ours, "canonical_s"), (row.peer, "mpi_s")):
                samples.append(result["bytes"] / 1e6 / median(result[key]))
        rows.append(row)
    return rows


def benchmarks(bench):
    return [benchmark for list_benchmarks in (training.benchmarks, texts.benchmarks, decode.benchmarks, storage.benchmarks)
            for benchmark in list_benchmarks(bench)] + [("all-reduce", lambda: all_reduce(bench))]


def run_benchmark(name, run_rows):
    """The rows of one maker; a failure becomes a row that says so."""
    begin = time.time()
    print(f"bench: {name} ...", end=" ", file=sys.stderr, flush=True)
    try:
        rows = run_rows()
    except Exception as error:  # the other rows are still measured, and this one reports the error
        rows = [Row(name, "", why_not=f"it failed: {type(error).__name__} " + " ".join(str(error).split())[-400:])]
    for row in rows:
        row.details |= {"load_average": os.getloadavg(), "seconds_in_all": round(time.time() - begin, 1)}
    print(f"{time.time() - begin:.0f} s, load {os.getloadavg()[0]:.1f}", file=sys.stderr, flush=True)
    return rows


def format_number(value):
    return "-" if value is None else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def print_table(rows, previous_ratios):
    lines = [["what", "ours", "peer", "unit", "ratio", "spread", "goal", "before", "limit", "share", "verdict"]]
    for row in rows:
        record = row.record()
        medians = [format_number(median(samples)) for samples in (row.ours, row.peer)]
        goal = "-" if row.goal is None else ("<= " if row.less_is_better else ">= ") + f"{row.goal:.2f}"
        lines.append([row.name, medians[0], medians[1], row.unit, format_number(record["ratio"]),
                      "-" if not record["spread"] else "{:.2f}-{:.2f}".format(*record["spread"]), goal,
                      format_number(previous_ratios.get(row.name)), format_number(row.limit),
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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program")
    parser.add_argument("--only", metavar="NAME", action="append", default=[], help="rows whose name holds NAME")
    parser.add_argument("--pairs", metavar="N", type=int, default=0, help="pairs of ours and the peer [5; quick: 2]")
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it works")
    parser.add_argument("--list", action="store_true", help="print the names of the rows")
    parser.add_argument("--out", metavar="FILE", help="where the samples go [all rows: docs/bench/; else build/bench/]")
    parser.add_argument("--folder", metavar="DIR", help="work here and leave everything [a folder that is removed]")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(args.folder or temporary).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        threads = min(2, len(os.sched_getaffinity(0)))  # what the goals are for
        bench = Bench(program.Program(args.program, folder), args.pairs or (2 if args.quick else 5), args.quick, {}, {},
                      threads)
        bench.machine = machine.describe_machine(bench.program, threads)
        bench.inputs = inputs.BenchInputs(bench)
        selected = [(name, run_rows) for name, run_rows in benchmarks(bench)
                  if not args.only or any(word in name for word in args.only)]
        if args.list or not selected:
            print("\n".join(name for name, _ in benchmarks(bench)))
            return 0 if args.list else 2

        if os.getloadavg()[0] > 0.5:
            print(f"bench: the load average is {os.getloadavg()[0]:.1f} before anything began: others use this machine, and "
                  "limits and rows will be too low", file=sys.stderr)
        bench.limits = machine.limits(folder, threads, args.quick)
        print("limits: " + ", ".join(f"{key.rsplit('_per_s')[0].replace('_', ' ')} {value / 1e9:.1f} G/s"
                                     for key, value in bench.limits.items()))
        previous_ratios = last_ratios(bench.machine["cpu"], bench.machine["features"])
        rows = [row for name, run_rows in selected for row in run_benchmark(name, run_rows)]
        print_table(rows, previous_ratios)

    now = datetime.datetime.now(datetime.UTC)
    is_complete = not args.only and not args.quick
    cpu = re.sub(r"[^a-z0-9]+", "-", bench.machine["cpu"].lower()).strip("-")
    isa = "amx" if bench.has_amx else "avx512-bf16" if "avx512_bf16" in bench.machine["features"] else "avx2"
    default = ROOT / (f"docs/bench/{now:%Y-%m-%d}-{cpu}-{isa}.json" if is_complete else "build/bench/last.json")
    out = pathlib.Path(args.out or default)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({"schema": SCHEMA, "schema_version": 1, "time": now.isoformat(timespec="seconds"),
                               "quick": args.quick, "pairs": bench.pairs, "machine": bench.machine,
                               "load_average_at_end": os.getloadavg(), "limits": bench.limits,
                               "rows": [row.record() for row in rows]}, indent=1) + "\n")
    print(f"samples: {out}")
    return 1 if any(row.why_void or row.why_not.startswith("it failed") for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())

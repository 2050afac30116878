#!/usr/bin/env python3
"""Predictions of `train.calibrate_s` against measurements: seconds of a step and peak memory of a rank, for three presets, one and two ranks and
two sequence lengths. Both are of the same process, ten seconds apart.

    python3 tests/e2e/plan_measured.py build/release/slipway [--presets 8m,30m] [--ranks 1,2] [--sequences 512] [--threads 1] [--tries 5] [--wait 120] [--out FILE.md]

Times are judged only where the machine was quiet: a run counts when other programs took less than a 25th of it, and is tried again when not. With
--busy every run counts, and the median of all tries is judged.
"""
import argparse
import json
import os
import pathlib
import resource
import shutil
import statistics
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from program import Program, standard_library

TIME_BOUND, MEMORY_BOUND = 0.10, 0.03  # the promise
OTHER_LOAD_BOUND = 0.04  # of the machine's time: what one interactive shell takes
TOKENS = 4096  # a step: what the presets' rates are made for
STEPS = {"8m": 10, "30m": 7, "124m": 5}
VOCABULARY = 16384


def cpu_seconds():
    """Of all programs, and of our own children that have ended."""
    ticks = [int(word) for word in pathlib.Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
    children_usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK"), children_usage.ru_utime + children_usage.ru_stime


def wait_until_quiet(seconds):
    """Returns once nothing but this script has run for two seconds, or when the time is up."""
    end = time.time() + seconds
    while time.time() < end:
        before, begin = cpu_seconds()[0], time.time()
        time.sleep(2)
        if (cpu_seconds()[0] - before) / (time.time() - begin) / os.cpu_count() < OTHER_LOAD_BOUND:
            return


def measure_run(program, preset, ranks, sequence, threads):
    """One run with a calibration before it: its plan.json, and which share of the machine others took."""
    begin, (total_before, children_before) = time.time(), cpu_seconds()
    program.run("train", "--run", "run", "--data", "data", "--model.preset", f"llama-{preset}", "--train.sequence", sequence, "--train.batch", TOKENS // sequence,
                "--train.steps", STEPS[preset], "--train.rehearsal", "off", "--validate.every", 0, "--train.calibrate_s", 10, "--runtime.threads", threads,
                ranks=ranks if ranks > 1 else 0, timeout=3600)
    (total_after, children_after), seconds = cpu_seconds(), time.time() - begin
    plan = json.loads((program.folder / "run" / "plan.json").read_text())
    shutil.rmtree(program.folder / "run")
    return plan, ((total_after - total_before) - (children_after - children_before)) / seconds / os.cpu_count()


def relative_error(plan, what):
    return plan["predicted"][what] / plan["measured"][what] - 1


def examine(program, preset, ranks, sequence, options):
    runs = []
    while len(runs) < options.tries and (options.busy or not any(other_load < OTHER_LOAD_BOUND for _, other_load in runs)):
        if not options.busy:
            wait_until_quiet(options.wait)
        runs.append(measure_run(program, preset, ranks, sequence, options.threads))
        plan, other_load = runs[-1]
        print(f"llama-{preset}, {ranks} rank(s), {sequence}: step {plan['predicted']['step_seconds']:.3f} / {plan['measured']['step_seconds']:.3f} s "
              f"({relative_error(plan, 'step_seconds'):+.1%}), memory {relative_error(plan, 'peak_resident_bytes'):+.1%}, {plan['calibration']['layers']} layers, "
              f"spread {plan['calibration']['spread']:.0%}, others {other_load:.0%}", flush=True)
    quietest, other_load = min(runs, key=lambda p: p[1])
    seconds_off = statistics.median(relative_error(plan, "step_seconds") for plan, _ in runs) if options.busy else relative_error(quietest, "step_seconds")
    return {"name": f"llama-{preset} | {ranks} | {sequence}", "plan": quietest, "time": seconds_off, "others": other_load,
            "memory": max((relative_error(plan, "peak_resident_bytes") for plan, _ in runs), key=abs), "judged": options.busy or other_load < OTHER_LOAD_BOUND}


def table(rows):
    lines = ["| model | ranks | sequence | step, predicted | measured | off | peak memory, predicted | measured | off | others took |", "|---|---|---|---|---|---|---|---|---|---|"]
    for row in rows:
        predicted, measured = row["plan"]["predicted"], row["plan"]["measured"]
        lines.append(f"| {row['name']} | {predicted['step_seconds']:.3f} s | {measured['step_seconds']:.3f} s | {row['time']:+.1%} | "
                     f"{predicted['peak_resident_bytes'] / 2**20:.1f} MiB | {measured['peak_resident_bytes'] / 2**20:.1f} MiB | {row['memory']:+.1%} | {row['others']:.0%} |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--presets", default="8m,30m,124m")
    parser.add_argument("--ranks", default="1,2")
    parser.add_argument("--sequences", default="512,1024")
    parser.add_argument("--threads", type=int, default=0, help="of a rank; 0: what a run takes by itself")
    parser.add_argument("--tries", type=int, default=5)
    parser.add_argument("--wait", type=int, default=120, help="seconds to wait for a quiet machine before each try")
    parser.add_argument("--busy", action="store_true")
    parser.add_argument("--out")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        program = Program(options.program, folder)
        standard_library(program.folder / "text", 6_000_000)
        program.run("tokenizer", "train", "--input", "text", "--tokenizer.vocabulary", VOCABULARY, "--out", "tok.json")
        program.run("data", "prepare", "--tokenizer", "tok.json", "--input", "text", "--out", "data")
        for preset in options.presets.split(","):
            for ranks in options.ranks.split(","):
                for sequence in options.sequences.split(","):
                    rows.append(examine(program, preset, int(ranks), int(sequence), options))
    print(table(rows))
    if options.out:
        pathlib.Path(options.out).write_text(table(rows))
    failed = [row["name"] for row in rows if abs(row["memory"]) > MEMORY_BOUND or row["judged"] and abs(row["time"]) > TIME_BOUND]
    noisy = [row["name"] for row in rows if not row["judged"]]
    if noisy:
        print("times not judged, the machine was never quiet: " + "; ".join(noisy))
    if failed:
        sys.exit("out of bounds: " + "; ".join(failed))


if __name__ == "__main__":
    main()

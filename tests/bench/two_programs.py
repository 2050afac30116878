#!/usr/bin/env python3
"""Speed and memory of two programs, such as the one before a change and the one after it, in interleaved pairs.

    python3 tests/bench/two_programs.py OLD NEW [--pairs 5] [--threads 2] [--out FILE.md]

Each row has the medians of both, the median over the pairs of NEW / OLD, and the ratio of their best: tokens per second of training (median
step), seconds of the first step, peak memory, tokens per second of reading a prompt and of decoding, and seconds of `data prepare`. Nothing
else may run on the machine; where something does, only the best say something.
"""
import argparse
import json
import pathlib
import shutil
import statistics
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from program import Program, metrics, standard_library

COPIES = 16  # of the standard library's modules: 60 MB
MODELS = {  # preset: steps, options
    "llama-8m": (9, ["--train.sequence", "256", "--train.batch", "8", "--train.micro_batch", "4"]),
    "llama-124m": (4, ["--train.sequence", "256", "--train.batch", "2", "--train.micro_batch", "2"]),
}


def step_tokens(options):
    values = dict(zip(options[::2], options[1::2]))
    return int(values["--train.sequence"]) * int(values["--train.batch"])


def train(program, preset, compute, name, threads):
    steps, options = MODELS[preset]
    program.run("train", "--data", "data", "--run", name, "--model.preset", preset, "--train.steps", steps, *options, "--numerics.compute", compute,
                "--runtime.threads", threads, "--train.rehearsal", "off", "--validate.every", "0", "--checkpoint.every", "0", "--progress", "off")
    rows = metrics(program.folder / name)
    plan = json.loads((program.folder / name / "plan.json").read_text())
    shutil.rmtree(program.folder / name)
    return {"training, tokens/s": statistics.median(row["tokens_per_sec"] for row in rows[1:]),
            "training, first step, s": step_tokens(options) / rows[0]["tokens_per_sec"],
            "training, peak memory, bytes": plan["measured"]["peak_resident_bytes"]}


def measure(program, threads, turn):
    found = {}
    for preset in MODELS:
        for compute in ("f32", "bf16"):
            for what, value in train(program, preset, compute, f"{turn}-{preset}-{compute}", threads).items():
                found[f"{preset} {compute}: {what}"] = value
    report = json.loads(program.run("bench", "model.gguf", "--prompt", "256", "--tokens", "64", "--iterations", "3", "--json").stdout)
    found["llama-8m prompt, tokens/s"] = report["prompt_tokens_per_s"]
    found["llama-8m decoding, tokens/s"] = report["decode_tokens_per_s"]
    start = time.monotonic()
    program.run("data", "prepare", "--tokenizer", "tokenizer.json", "--input", "text", "--out", f"{turn}-data")
    found["data prepare, s"] = time.monotonic() - start
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old"), parser.add_argument("new")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=pathlib.Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        old, new = Program(options.old, folder), Program(options.new, folder)
        modules = sorted(standard_library(old.folder / "text", 12_000_000).glob("*.py"))
        for copy in range(1, COPIES):
            for path in modules:
                path.with_stem(f"{path.stem}_{copy}").write_bytes(b"# copy %d\n" % copy + path.read_bytes())  # of other contents
        old.run("tokenizer", "train", "--input", "text", "--tokenizer.vocabulary", "4096", "--out", "tokenizer.json")
        old.run("data", "prepare", "--tokenizer", "tokenizer.json", "--input", "text", "--out", "data")
        old.run("train", "--data", "data", "--run", "trained", "--model.preset", "llama-8m", "--train.steps", "2", "--train.sequence", "256",
                "--train.batch", "4", "--train.rehearsal", "off")
        old.run("export", "trained", "--out", "model.gguf")
        pairs = []
        for pair in range(options.pairs):
            sides = (("old", old), ("new", new)) if pair % 2 == 0 else (("new", new), ("old", old))
            pairs.append({name: measure(program, options.threads, f"{name}{pair}") for name, program in sides})
            print(f"pair {pair + 1} of {options.pairs}", file=sys.stderr)
    lines = ["| | old, median | new, median | new / old, median of pairs | new / old, best of each | pairs |", "|---|---|---|---|---|---|"]
    for what in pairs[0]["old"]:
        before, after = ([pair[side][what] for pair in pairs] for side in ("old", "new"))
        ratios = [b / a for a, b in zip(before, after)]
        best = max if what.endswith("tokens/s") else min
        lines.append(f"| {what} | {statistics.median(before):.4g} | {statistics.median(after):.4g} | {statistics.median(ratios):.3f} | "
                     f"{best(after) / best(before):.3f} | "
                     f"{' '.join(f'{ratio:.3f}' for ratio in ratios)} |")
    print("\n".join(lines))
    if options.out:
        options.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()

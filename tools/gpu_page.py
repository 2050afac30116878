#!/usr/bin/env python3
"""Writes the tables of docs/gpu.md from the counts of `slipway plan --gpu`.

    tools/gpu_page.py build/release/slipway docs/gpu.md            in place
    tools/gpu_page.py build/release/slipway docs/gpu.md --check    ends with 1 where the page is another one
"""
import json
import pathlib
import subprocess
import sys

GPUS = ("a100", "h100", "h200", "b200")
MIN_SLOTS = 8  # or as many as data ranks: the bits of up to 8 ranks
# name, keys, tensor ranks by number of GPUs, sequences a step
MODELS = {
    "124m": (["--model.preset", "llama-124m", "--train.sequence", 1024, "--train.micro_batch", 16, "--train.recompute", "none", "--vocabulary", 50304], {1: 1, 8: 1, 64: 1}, 1024),
    "1.1B": (["--model.preset", "llama-1b", "--train.sequence", 2048, "--train.micro_batch", 8, "--train.recompute", "none", "--vocabulary", 32000], {1: 1, 8: 1, 64: 1}, 1024),
    "7B": (["--model.preset", "llama-7b", "--train.sequence", 4096, "--train.micro_batch", 2, "--vocabulary", 32000], {1: 1, 8: 2, 64: 2}, 1024),
}
BEGIN, END = "<!-- tables: tools/gpu_page.py -->", "<!-- end of tables -->"


def run_plan(program, model, gpus, gpu):
    keys, tensor, batch = MODELS[model]
    argv = ["plan", *keys, "--train.batch", batch, "--ranks", gpus, "--mesh.tensor", tensor[gpus], "--numerics.slots", max(MIN_SLOTS, gpus // tensor[gpus]), "--gpu", gpu, "--json"]
    return json.loads(subprocess.run([program, *map(str, argv)], check=True, capture_output=True, text=True).stdout)["on_gpu"]


def markdown_table(head, rows):
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in [head, ["---"] * len(head), *rows]) + "\n"


def format_number(value):
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def step_table(program):
    rows = []
    for model, (_, tensor, _) in MODELS.items():
        for gpus in tensor:
            row = [model, f"{gpus // tensor[gpus]} x {tensor[gpus]}"]
            for gpu in GPUS:
                plan = run_plan(program, model, gpus, gpu)
                fits = plan["peak_bytes"] < 0.97 * plan["memory_bytes"]
                row.append(f"{plan['step_seconds']:.3g} s, {100 * plan['mfu']:.0f} %" if fits else f"{plan['peak_bytes'] / 1e9:.0f} GB do not fit")
            rows.append(row)
    return markdown_table(["model", "data x tensor ranks", *GPUS], rows)


def kernel_rows_table(program):
    plans = [run_plan(program, "1.1B", 8, gpu) for gpu in GPUS]
    floors = [{row["op"]: row for row in plan["rows"]} for plan in plans]
    rows = [[row["op"], f"{row['calls']:,}", format_number(row["flops"] / 1e9), format_number(row["bytes"] / 1e9),
             *(format_number(1e3 * floor[row["op"]]["floor_seconds"]) for floor in floors),
             format_number(1e3 * floors[1][row["op"]]["expected_seconds"])] for row in plans[1]["rows"]]
    sums = [format_number(1e3 * plan["step_floor_seconds"]) for plan in plans]
    rows.append(["a step", "", "", "", *sums, format_number(1e3 * plans[1]["step_seconds"])])
    return markdown_table(["op", "calls", "GFLOP", "GB", *(f"floor {gpu}, ms" for gpu in GPUS), "expected h100, ms"], rows)


def page(program, text):
    head, rest = text.split(BEGIN)
    tail = rest.split(END)[1]
    middle = ("\n## A step\n\n1,024 sequences a step, of 1,024 tokens (124m), 2,048 (1.1B) and 4,096 (7B); bf16; with `train.recompute = none`, 7B\n"
              "with `norms`. Seconds, and MFU: 6 x matmul parameters x tokens, as a fraction of the tensor cores' peak.\n\n" + step_table(program)
              + "\n## Each kernel\n\nA step of 1.1B on one of 8 GPUs (data parallel): 128 sequences of 2,048 tokens.\n\n" + kernel_rows_table(program) + "\n")
    return head + BEGIN + "\n" + middle + END + tail


if __name__ == "__main__":
    path = pathlib.Path(sys.argv[2])
    current = path.read_text()
    generated = page(sys.argv[1], current)
    if "--check" in sys.argv:
        sys.exit(current != generated and f"{path} is not what the program counts: tools/gpu_page.py {sys.argv[1]} {path}")
    path.write_text(generated)

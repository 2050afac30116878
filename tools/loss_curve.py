#!/usr/bin/env python3
"""Draws a run's losses in the terminal: training as a line, validation as circles, the unigram and bigram baselines as rulers.

    tools/loss_curve.py RUN [--data DIR] [--width COLUMNS] [--height LINES]

With --data the rulers are the unigram and bigram entropies of the training text, which `slipway data prepare` counted.
"""
import argparse
import json
import math
import pathlib
import shutil


def read_losses(run):
    """Steps with their training losses, and with their validation losses where there are any."""
    steps = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    training = [(s["step"], s["train_loss"]) for s in steps]
    return training, [(s["step"], s["val_loss"]) for s in steps if "val_loss" in s]


def read_baselines(data):
    """The unigram and the bigram baseline, in nats per token."""
    train = json.loads((data / "manifest.json").read_text())["splits"]["train"]
    return {"unigram": train["unigram_entropy_nats"], "bigram": train["bigram_entropy_nats"]}


def column_means(points, first, last, columns):
    """The mean of the points that fall into each column; None for a column without any."""
    sums, counts = [0.0] * columns, [0] * columns
    for step, value in points:
        column = min(columns - 1, (step - first) * columns // max(1, last - first + 1))
        sums[column] += value
        counts[column] += 1
    return [s / n if n else None for s, n in zip(sums, counts)]


def draw(training, validation, baselines, width, height):
    first, last = training[0][0], training[-1][0]
    values = [v for _, v in training + validation] + list(baselines.values())
    low, high = math.floor(min(values) * 2) / 2, math.ceil(max(values) * 2) / 2
    label = len(f"{high:.1f}") + 1
    columns = width - label - 2

    def row_of(value):
        return min(height - 1, int((high - value) / max(1e-9, high - low) * height))

    grid = [[" "] * columns for _ in range(height)]
    for value in baselines.values():
        grid[row_of(value)] = ["·"] * columns
    for column, value in enumerate(column_means(training, first, last, columns)):
        if value is not None:
            grid[row_of(value)][column] = "█"
    for column, value in enumerate(column_means(validation, first, last, columns)):
        if value is not None:
            grid[row_of(value)][column] = "o"
    for name, value in baselines.items():
        text = f" {name} {value:.2f} "
        grid[row_of(value)][columns - len(text):] = text

    for row, cells in enumerate(grid):
        edge = high - (high - low) * row / height
        print(f"{edge:{label}.1f} ┤{''.join(cells)}")
    print(" " * label + " └" + "─" * columns)
    ends = f"step {first}", f"{last}"
    print(" " * (label + 2) + ends[0] + " " * max(1, columns - len(ends[0]) - len(ends[1])) + ends[1])
    print(" " * (label + 2) + "█ training loss, o validation loss, in nats a token")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=pathlib.Path, metavar="RUN")
    parser.add_argument("--data", type=pathlib.Path, metavar="DIR", help="the run's data folder: draws its entropies as rulers")
    parser.add_argument("--width", type=int, default=min(100, shutil.get_terminal_size((80, 24)).columns))
    parser.add_argument("--height", type=int, default=14)
    options = parser.parse_args()
    try:
        training, validation = read_losses(options.run)
        baselines = read_baselines(options.data) if options.data else {}
    except OSError as error:
        parser.error(f"cannot read {error.filename}: {error.strerror}")
    if not training:
        parser.error(f"{options.run} has no steps yet")
    draw(training, validation, baselines, max(30, options.width), max(4, options.height))


if __name__ == "__main__":
    main()

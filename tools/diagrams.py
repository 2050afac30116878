#!/usr/bin/env python3
"""Draws docs/pictures/run.svg, the life of a run, and docs/pictures/layers.svg, which folder builds on which.

    tools/diagrams.py             writes both
    tools/diagrams.py --check     exits with 1 where a picture is out of date
"""
import pathlib
import sys

from svg import Picture

PICTURES = pathlib.Path(__file__).resolve().parents[1] / "docs" / "pictures"


def run():
    p = Picture(960, 392, "The life of a run: text, tokenizer and shards, rehearsal, training with checkpoints, checks, export")
    # what goes in
    p.box(20, 40, 118, 92, "text", ["files, JSONL,", "gz, zst"])
    p.box(164, 40, 140, 92, "prepare", ["tokenizer train", "data prepare", "hashed shards"])
    p.arrow([(138, 86), (164, 86)])
    p.arrow([(304, 86), (330, 86)])
    # the rehearsal
    p.box(330, 40, 158, 92, "rehearsal", ["untrained weights:", "save, reload, qa,", "export, reopen"], "warn_soft", "warn", "warn")
    p.arrow([(488, 86), (514, 86)])
    # training
    p.box(514, 40, 196, 92, "training", ["1, 2, 4 or 8 data ranks:", "the same bits;", "validation, samples"], "accent_soft", "accent", "accent")
    p.arrow([(710, 86), (736, 86)])
    p.box(736, 40, 92, 92, "evaluate", ["qa, bench,", "score"])
    p.arrow([(828, 86), (850, 86)])
    p.box(850, 40, 92, 92, "export", ["reopened,", "compared"], "good_soft", "good", "good")
    p.arrow([(896, 132), (896, 204)], "good")
    p.box(836, 204, 106, 66, "model.gguf", ["llama.cpp"], "good_soft", "good", "good")
    # what fails early
    p.arrow([(409, 132), (409, 204)], "warn", dashed=True)
    p.box(310, 204, 186, 66, "a stage fails", ["one sentence, the stage's", "name, before step 1"], "page", "warn", "warn", dashed=True)
    # checkpoints
    p.arrow([(570, 132), (570, 204)], "accent")
    p.text(562, 174, "save", 12, "quiet", anchor="end")
    p.arrow([(654, 204), (654, 132)], "accent")
    p.text(662, 174, "--resume", 12, "quiet", anchor="start", mono=True)
    p.box(514, 204, 196, 66, "checkpoints/step-N", ["hashed HDF5, all or nothing"], "accent_soft", "accent", "accent")
    p.arrow([(612, 270), (612, 306)], "accent")
    p.text(622, 292, "--fork", 12, "quiet", anchor="start", mono=True)
    p.box(514, 306, 196, 66, "a new run", ["other rate, batch, optimizer;", "the parent is recorded"])
    # stops
    p.box(20, 204, 264, 168, "stops", ["Ctrl-C, TERM, USR1:", "finish the step, save, status 138", "", "kill -9, a lost host, a full disk:", "the last checkpoint is whole,",
                                      "--resume repeats the lost steps", "bit for bit"], "page", "edge", dashed=True)
    p.box(310, 306, 186, 66, "every run leaves", ["metrics.jsonl, status.json,", "plan.json, tb/, events/"], "page", "edge", dashed=True)
    return p


def layers():
    p = Picture(960, 604, "Folders of the source; each builds on those below it only")
    left, width, y = 20, 736, 20

    def row(height, parts, fill="soft", stroke="edge", color="ink"):
        nonlocal y
        share = (width - 12 * (len(parts) - 1)) / len(parts)
        for number, (name, lines) in enumerate(parts):
            p.box(round(left + number * (share + 12), 1), y, round(share, 1), height, name, lines, fill, stroke, color, mono=True)
        y += height + 12

    row(56, [("launch/", ["main.cpp, one file a command, the rehearsal: joins jobs together"])], "accent_soft", "accent", "accent")
    row(74, [("src/train/", ["the step and the loop,", "checkpoints"]), ("src/eval/", ["qa, bench", ""]), ("src/export/", ["GGUF, safetensors;", "reopened, compared"])],
        "good_soft", "good", "good")
    row(74, [("src/monitor/", ["metrics,", "warnings"]), ("src/plan/", ["memory, time,", "profile"]), ("src/config/", ["the keys", "of a run"]), ("src/optim/", ["gradients,", "AdamW, Muon"]),
             ("src/infer/", ["sampling,", "scores"])])
    row(56, [("src/model/", ["blocks: forward and backward"]), ("src/data/", ["tokenizer, packing, loader"])])
    row(74, [("io/", ["checkpoints, GGUF, safetensors,", "token shards, TensorBoard"]), ("comm/", ["ranks: MPI, NCCL, threads;", "canonical sums"])])
    row(56, [("kernels/", ["the ops, and their backends: cpu/, cuda/"])])
    # the last row is built on nothing but the standard library
    p.box(left, y, width, 32, "src/core/", [], mono=True)
    p.text(left + width / 2 + 52, y + 21, "errors, config, dtypes, tensors, random streams", 12, "quiet", anchor="start")
    x = 790
    p.arrow([(x, 40), (x, y + 24)])
    for number, line in enumerate(["An include points", "down; within a row", "as the table in", "contributing.md says.", "The three jobs do not", "include each other."]):
        p.text(x + 16, 150 + 18 * number, line, 13, anchor="start")
    for number, line in enumerate(["tests/layers reads", "every include and", "says where one", "points up."]):
        p.text(x + 16, 280 + 18 * number, line, 13, "quiet", anchor="start")
    return p


DIAGRAMS = {"run.svg": run, "layers.svg": layers}


def main(check):
    outdated = []
    for name, draw in DIAGRAMS.items():
        path, svg = PICTURES / name, draw().svg()
        if check and (not path.is_file() or path.read_text() != svg):
            outdated.append(name)
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(svg)
    for name in outdated:
        print(f"docs/pictures/{name} is old: run tools/diagrams.py")
    return 1 if outdated else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] == ["--check"]))

"""Text: training a tokenizer, encoding, and preparing folders of code, against tokenizers and tiktoken."""
import json
import pathlib
import sys

import measure
from measure import Row

HERE = pathlib.Path(__file__).parent


def peer(threads, **request):
    ended = measure.run([sys.executable, HERE / "text_peer.py"], env=measure.peer_environment(threads),
                        input=json.dumps(request | {"threads": threads}))
    return ended.answer()


def row_makers(bench):
    threads = sorted({1, bench.threads})
    return ([("tokenizer training", lambda: training(bench))]
            + [(f"encode by {name}, {n} thread(s)", lambda name=name, n=n: encoding(bench, name, n))
               for name in ("tokenizers", "tiktoken") for n in threads]
            + [("data prepare", lambda: preparing(bench))])


def vocabulary(bench):
    return 1024 if bench.quick else 16384


def training(bench):
    materials, size = bench.materials, vocabulary(bench)
    pieces, megabytes = str(materials.text_pieces()), materials.text_bytes / 1e6
    row = Row(f"tokenizer training, {size} ids on {megabytes:.0f} MB", "MB/s", "tokenizers", goal=3)
    row.details["note"] = "ours: the whole command, files read and written; the peer: texts in memory, training only"

    def ours():
        words = ["tokenizer", "train", "--input", materials.texts, "--tokenizer.vocabulary", size, "--runtime.threads",
                 bench.threads, "--out", bench.folder / "trained.json"]
        return megabytes / measure.run(bench.program.command(words)).seconds

    def theirs():
        answer = peer(bench.threads, what="train", pieces=pieces, vocabulary=size)
        if answer["vocabulary"] != size:
            row.why_void = f"the peer stopped at {answer['vocabulary']} ids"
        return megabytes / answer["seconds"]

    return [bench.in_turns(row, ours, theirs)]


def prepare(bench, threads):
    """MB/s of the whole command: files read, cut, hashed, encoded, divided, written."""
    out = bench.fresh("prepared")
    words = ["data", "prepare", "--tokenizer", bench.materials.tokenizer(vocabulary(bench)), "--input", bench.materials.texts,
             "--runtime.threads", threads, "--out", out]
    return bench.materials.text_bytes / 1e6 / measure.run(bench.program.command(words)).seconds


def ids_of(bench, text):
    file = bench.folder / "sample.txt"
    file.write_text(text)
    return bench.program.json("tokenizer", "encode", "--tokenizer", bench.materials.tokenizer(vocabulary(bench)), "--input",
                              file)["ids"]


def encoding(bench, name, threads):
    materials = bench.materials
    file = materials.text_pieces()
    row = Row(f"encode, {threads} thread(s), against {name}", "MB/s", name, goal={"tokenizers": 10, "tiktoken": 3}[name])
    row.details["note"] = "ours: the whole `data prepare`, files, hashes and shards included; the peer: texts in memory to lists of ids"

    def theirs():
        answer = peer(threads, what="encode", peer=name, pieces=str(file), tokenizer=str(materials.tokenizer(vocabulary(bench))))
        if answer["sample"] != ids_of(bench, json.loads(file.read_text())[0]):
            row.why_void = "the peer's ids are not ours"
        return materials.text_bytes / 1e6 / answer["seconds"]

    return [bench.in_turns(row, lambda: prepare(bench, threads), theirs)]


def preparing(bench):
    """`data prepare` with one thread against `tokenizer encode` of one large file, which does nothing but encode."""
    materials = bench.materials
    whole, nothing = bench.folder / "whole.txt", bench.folder / "nothing.txt"
    whole.write_bytes(b"".join(p.read_bytes() for p in sorted(materials.texts.rglob("*.py"))))
    nothing.write_bytes(b"")
    row = Row("data prepare, 1 thread, against encoding alone", "MB/s", "ours, encode", goal=0.9)
    row.details["note"] = "encoding alone: `tokenizer encode` less what it takes for an empty file; it prints the ids as well"
    row.limit, row.limit_name = bench.limits["disk_write_fsync_bytes_per_s"] / 1e6, "disk write"

    def encode(file):
        return measure.run(bench.program.command(["tokenizer", "encode", "--tokenizer",
                                                  materials.tokenizer(vocabulary(bench)), "--input", file])).seconds

    return [bench.in_turns(row, lambda: prepare(bench, 1),
                           lambda: materials.text_bytes / 1e6 / (encode(whole) - encode(nothing)))]

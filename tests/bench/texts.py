"""Text: training a tokenizer, encoding, and preparing folders of code, against tokenizers and tiktoken."""
import json
import pathlib
import sys

import measure
from measure import Row

HERE = pathlib.Path(__file__).parent


def peer(threads, **request):
    completed = measure.run([sys.executable, HERE / "text_peer.py"], env=measure.peer_environment(threads),
                        input=json.dumps(request | {"threads": threads}))
    return completed.result()


def benchmarks(bench):
    threads = sorted({1, bench.threads})
    return ([("tokenizer training", lambda: bench_tokenizer_training(bench))]
            + [(f"encode by {name}, {n} thread(s)", lambda name=name, n=n: bench_encoding(bench, name, n))
               for name in ("tokenizers", "tiktoken") for n in threads]
            + [("data prepare", lambda: bench_data_prepare(bench))])


def vocabulary(bench):
    return 1024 if bench.quick else 16384


def bench_tokenizer_training(bench):
    inputs, size = bench.inputs, vocabulary(bench)
    chunks, megabytes = str(inputs.text_chunks()), inputs.text_bytes / 1e6
    row = Row(f"tokenizer training, {size} ids on {megabytes:.0f} MB", "MB/s", "tokenizers", goal=3)
    row.details["note"] = "ours: the whole command, files read and written; the peer: texts in memory, training only"

    def ours():
        argv = ["tokenizer", "train", "--input", inputs.texts, "--tokenizer.vocabulary", size, "--runtime.threads",
                 bench.threads, "--out", bench.folder / "trained.json"]
        return megabytes / measure.run(bench.program.command(argv)).seconds

    def theirs():
        result = peer(bench.threads, what="train", chunks=chunks, vocabulary=size)
        if result["vocabulary"] != size:
            row.why_void = f"the peer stopped at {result['vocabulary']} ids"
        return megabytes / result["seconds"]

    return [bench.alternate(row, ours, theirs)]


def measure_prepare(bench, threads):
    """MB/s of the whole command: files read, cut, hashed, encoded, divided, written."""
    out = bench.fresh_path("prepared")
    argv = ["data", "prepare", "--tokenizer", bench.inputs.tokenizer(vocabulary(bench)), "--input", bench.inputs.texts,
             "--runtime.threads", threads, "--out", out]
    return bench.inputs.text_bytes / 1e6 / measure.run(bench.program.command(argv)).seconds


def encode_text(bench, text):
    file = bench.folder / "sample.txt"
    file.write_text(text)
    return bench.program.json("tokenizer", "encode", "--tokenizer", bench.inputs.tokenizer(vocabulary(bench)), "--input",
                              file)["ids"]


def bench_encoding(bench, name, threads):
    inputs = bench.inputs
    file = inputs.text_chunks()
    row = Row(f"encode, {threads} thread(s), against {name}", "MB/s", name, goal={"tokenizers": 10, "tiktoken": 3}[name])
    row.details["note"] = "ours: the whole `data prepare`, files, hashes and shards included; the peer: texts in memory to lists of ids"

    def theirs():
        result = peer(threads, what="encode", peer=name, chunks=str(file), tokenizer=str(inputs.tokenizer(vocabulary(bench))))
        if result["sample"] != encode_text(bench, json.loads(file.read_text())[0]):
            row.why_void = "the peer's ids are not ours"
        return inputs.text_bytes / 1e6 / result["seconds"]

    return [bench.alternate(row, lambda: measure_prepare(bench, threads), theirs)]


def bench_data_prepare(bench):
    """`data prepare` with one thread against `tokenizer encode` of one large file, which does nothing but encode."""
    inputs = bench.inputs
    full_file, empty_file = bench.folder / "whole.txt", bench.folder / "nothing.txt"
    full_file.write_bytes(b"".join(p.read_bytes() for p in sorted(inputs.texts.rglob("*.py"))))
    empty_file.write_bytes(b"")
    row = Row("data prepare, 1 thread, against encoding alone", "MB/s", "ours, encode", goal=0.9)
    row.details["note"] = "encoding alone: `tokenizer encode` less what it takes for an empty file; it prints the ids as well"
    row.limit, row.limit_name = bench.limits["disk_write_fsync_bytes_per_s"] / 1e6, "disk write"

    def encode(file):
        return measure.run(bench.program.command(["tokenizer", "encode", "--tokenizer",
                                                  inputs.tokenizer(vocabulary(bench)), "--input", file])).seconds

    return [bench.alternate(row, lambda: measure_prepare(bench, 1),
                           lambda: inputs.text_bytes / 1e6 / (encode(full_file) - encode(empty_file)))]

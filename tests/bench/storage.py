"""Checkpoints against dd and plain hashing, exports against the gguf package."""
import json
import pathlib
import statistics
import sys
import time

import machine
import measure
from inputs import PRESETS
from measure import Row

HERE = pathlib.Path(__file__).parent


def benchmarks(bench):
    return ([("checkpoint write", lambda: bench_checkpoint_write(bench)), ("checkpoint load and verify", lambda: bench_checkpoint_load(bench))]
            + [(f"export {kind}", lambda kind=kind: bench_export(bench, kind)) for kind in ("f16", "q8_0", "q4_0")])


def model_size(bench):
    return ("llama-8m", 1024) if bench.quick else ("llama-124m", 50304)


def folder_bytes(folder):
    return sum(p.stat().st_size for p in pathlib.Path(folder).rglob("*") if p.is_file())


def train_run(bench, name, steps, *keys):
    preset, vocabulary = model_size(bench)
    run = bench.fresh_path(name)
    argv = ["train", "--run", run, "--data", bench.inputs.data(vocabulary), "--model.preset", preset, "--train.steps",
             steps, "--train.rehearsal", "off", "--validate.every", 0,
             "--runtime.threads", bench.threads, "--checkpoint.keep", 2, "--progress", "off", *keys]
    measure.run(bench.program.command(argv), cwd=bench.folder)
    return run


def run_events(run, kind):
    events = (json.loads(line) for file in (run / "events").iterdir() for line in file.read_text().splitlines())
    return [event for event in events if event["event"] == kind]


def overlap(a, b):
    return min(a["ts"] + a["dur"], b["ts"] + b["dur"]) - max(a["ts"], b["ts"])


def bench_checkpoint_write(bench):
    """From the trace of a run that saves while it trains: how long a write takes until it is synced, and what a save, which
    then reads back what the disk holds, costs the steps beside it."""
    steps = 11
    shape = ["--train.batch", 4, "--train.micro_batch", 4, "--train.sequence", 512]  # the shape of the training rows
    write = Row("checkpoint write", "MB/s", "dd with fsync", goal=0.9, limit_name="disk write with fsync",
                limit=bench.limits["disk_write_fsync_bytes_per_s"] / 1e6)
    stall = Row("a save stands in the training's way", "s", "ours, a step", goal=0.05, less_is_better=True)
    stall.details["note"] = "the `checkpoint` event's stalled_s: the training waits; what a save's processors take from a step is the next row"
    slowdown = Row("steps while a checkpoint is written", "steps/s", "ours, other steps", goal=0.95)
    written_bytes = []

    def ours():
        run = train_run(bench, "saved", steps, *shape, "--checkpoint.every", 4, "--train.profile", steps - 2)
        written_bytes.append(folder_bytes(sorted((run / "checkpoints").glob("step-*"))[-1]))
        events = json.loads((run / "profile/trace.json").read_text())["traceEvents"]
        writes = [e for e in events if e["name"] == "checkpoint write"]
        saves = [e for e in events if e["name"].startswith("checkpoint ")]
        saving_steps, idle_steps = [], []
        for step in (e for e in events if e["name"] == "step"):
            (saving_steps if sum(max(0, overlap(step, s)) for s in saves) > 0.1 * step["dur"] else idle_steps).append(1e6 / step["dur"])
        if saving_steps and idle_steps:
            slowdown.ours.append(statistics.median(saving_steps))
            slowdown.peer.append(statistics.median(idle_steps))
            stall.ours.append(statistics.median(event["stalled_s"] for event in run_events(run, "checkpoint")))
            stall.peer.append(1 / slowdown.peer[-1])
        return written_bytes[-1] / statistics.median(w["dur"] for w in writes)

    def theirs():
        file = bench.folder / "dd.bin"
        rate = machine.dd("/dev/zero", file, f"count={max(1, (written_bytes or [2**28])[-1] >> 22)}", "conv=fsync")
        file.unlink()
        return rate / 1e6

    bench.alternate(write, ours, theirs)
    write.details["bytes"] = written_bytes
    if not slowdown.ours:
        slowdown.why_not = stall.why_not = "no save takes a tenth of a traced step: the checkpoint is too small"
    return [write, stall, slowdown]


def bench_checkpoint_load(bench):
    import xxhash
    run = train_run(bench, "loaded", 2, "--train.batch", 1, "--train.sequence", 256, "--checkpoint.every", 2)
    checkpoint = sorted((run / "checkpoints").glob("step-*"))[-1]
    checkpoint_bytes = folder_bytes(checkpoint)

    load = Row("checkpoint load", "MB/s", "cached read", goal=0.9, limit_name="cached read",
               limit=bench.limits["cached_read_bytes_per_s"] / 1e6)
    load.details["note"] = ("ours: weights and moments into place, hashes checked (the run's own `load` event), without the process's "
                            "start and the system's clearing of the memory they go to; both from the page cache, where a save, which goes "
                            "past it, is brought first")
    load.details["start_s"] = []
    verify = Row("checkpoint verify", "MB/s", "XXH3, 1 thread", goal=0.9, limit_name="XXH3 from memory, 1 thread",
                 limit=bench.limits["xxh3_bytes_per_s"] / 1e6)
    steps = [2]

    def cache_newest():
        newest = sorted((run / "checkpoints").glob("step-*"))[-1]
        for file in newest.iterdir():
            machine.dd(file, "/dev/null")
        return newest

    def resume():
        cache_newest()
        steps[0] += 1
        completed = measure.run(bench.program.command(["train", "--resume", run, "--train.steps", steps[0], "--checkpoint.every", 0,
                                                   "--validate.every", 0, "--progress", "off"]), cwd=bench.folder)
        step_s = 256 / measure.program.metrics(run)[-1]["tokens_per_sec"]
        load.details["start_s"].append(completed.step_s(steps[0]) - step_s)  # of the whole resumed run
        loaded = run_events(run, "load")[-1]
        return loaded["bytes"] / 1e6 / loaded["seconds"]

    def measure_cached_read():
        seconds = sum(file.stat().st_size / machine.dd(file, "/dev/null") for file in cache_newest().iterdir())
        return checkpoint_bytes / 1e6 / seconds

    def measure_verify():
        newest = cache_newest()
        return folder_bytes(newest) / 1e6 / measure.run(bench.program.command(["checkpoint", "verify", newest])).seconds

    def hash_files():
        newest = cache_newest()
        begin = time.monotonic()
        for file in newest.iterdir():
            hasher = xxhash.xxh3_128()
            with open(file, "rb") as data:
                while chunk := data.read(1 << 20):
                    hasher.update(chunk)
        return folder_bytes(newest) / 1e6 / (time.monotonic() - begin)

    return [bench.alternate(load, resume, measure_cached_read), bench.alternate(verify, measure_verify, hash_files)]


def bench_export(bench, kind):
    preset, vocabulary = model_size(bench)
    source, weights = bench.inputs.initial_run(preset, vocabulary), bench.inputs.export(preset, vocabulary, "transformers")
    weights = weights / "model.safetensors"
    megabytes = weights.stat().st_size / 1e6  # of f32, whatever comes out
    limit = "disk write of the file"
    row = Row(f"export {kind}", "MB/s of f32", "gguf package", goal=5, limit_name=limit)
    row.details["note"] = "ours: the whole command, which reopens the file and compares logits and text; the peer: conversion and fsync"
    write_row = Row(f"export {kind}, written", "MB/s of f32", "gguf package", goal=5, limit_name=limit)
    write_row.details["note"] = "both: weights read, converted and written, fsync included; ours as the command of the row above says it"
    out = bench.folder / f"export-{kind}.gguf"

    def ours():
        completed = measure.run(bench.program.command(["export", source, "--out", out, "--type", kind, "--json",
                                                   "--runtime.threads", bench.threads]))
        row.limit = write_row.limit = bench.limits["disk_write_fsync_bytes_per_s"] * megabytes / out.stat().st_size
        write_row.ours.append(megabytes / completed.result()["write_seconds"])
        return megabytes / completed.seconds

    def theirs():
        request = {"weights": str(weights), "kind": kind, "out": str(bench.fresh_path(f"peer-{kind}.gguf")),
                   **{key: PRESETS[preset][key] for key in ("heads", "kv_heads")}}
        completed = measure.run([sys.executable, HERE / "export_peer.py"], env=measure.peer_environment(bench.threads),
                             input=json.dumps(request))
        write_row.peer.append(megabytes / completed.result()["seconds"])
        return write_row.peer[-1]

    return [bench.alternate(row, ours, theirs), write_row]

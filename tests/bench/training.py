"""Training against PyTorch, and comparisons of Slipway with itself: ranks, long sequences, large vocabularies."""
import dataclasses
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import batches
import measure
import numpy as np
from inputs import attention_flops, model, step_flops
from measure import Row

HERE = pathlib.Path(__file__).parent
LOSS_STEPS = 20
WARM_UP = 2  # steps of each of our runs that do not count: buffers are allocated in the first

# Bounds of the difference from the peer's f32 loss, in nats, over the first LOSS_STEPS steps: on average, and at the worst step.
# In f32 only the order of sums differs. A bf16 value has 8 significant bits, so a matmul has an error of up to 2^-9; about 84 matmuls
# follow each other (7 in each of 12 blocks), their errors add up in quadrature to 2 % of the logits' deviation of about one nat. The
# mean over thousands of targets removes most of that; while the learning rate is high, training amplifies it at single steps.
LOSS_BOUND = {"bf16": {"mean": 0.006, "worst": 0.05}, "f32": {"mean": 1e-4, "worst": 1e-3}}

# Settings that are tried for the peer; the fastest is compared with. --quick uses the last, which does not compile.
PEER_SETTINGS = [
    {"compile": True, "mode": "default", "loss_chunks": 4},
    {"compile": True, "mode": "default", "loss_chunks": 1},
    {"compile": True, "mode": "max-autotune-no-cudagraphs", "loss_chunks": 4},
    {"compile": False, "mode": "default", "loss_chunks": 1},
]
PEER_NAME = "PyTorch"


@dataclasses.dataclass
class Case:
    preset: str
    vocabulary: int
    batch: int
    sequence: int
    compute: str
    steps: int  # of a timed run, WARM_UP included

    @property
    def name(self):
        return f"{self.preset} {self.compute}"

    @property
    def tokens(self):
        return self.batch * self.sequence

    @property
    def model(self):
        return model(self.preset, self.vocabulary)


class Peer:
    """The peer, warm and waiting. Each start compiles anew, as it is for a user whose model is new."""

    def __init__(self, case, settings, request, threads):
        self.cache = tempfile.TemporaryDirectory()
        env = measure.peer_environment(threads) | {"TORCHINDUCTOR_CACHE_DIR": self.cache.name}
        self.errors = tempfile.TemporaryFile("w+")
        self.begin = time.monotonic()
        self.child = subprocess.Popen([sys.executable, HERE / "torch_peer.py"], env=os.environ | env, text=True,
                                      stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors)
        self.send_line(json.dumps(request | settings | {"compute": case.compute, "threads": threads, "model": case.model}))

    def send_line(self, line):
        self.child.stdin.write(line + "\n")
        self.child.stdin.flush()

    def steps(self, count):
        self.send_line(str(count))
        result = self.child.stdout.readline()
        if not result:
            self.errors.seek(0)
            raise RuntimeError("the peer ended: " + self.errors.read()[-1500:])
        return json.loads(result)

    def close(self):
        self.child.stdin.close()
        self.child.wait()
        self.cache.cleanup()


def train_ours(bench, case, init, steps, *keys, ranks=0):
    """One run. Returns its metrics, its rate over the steps that count, and how it ended."""
    run = bench.fresh_path("run")
    argv = ["train", "--run", run, "--data", bench.inputs.data(case.vocabulary), "--data.packing", "stream",
             "--model.preset", case.preset, "--train.steps", steps, "--train.batch", case.batch, "--train.sequence",
             case.sequence, "--train.micro_batch", case.batch // max(ranks, 1), "--numerics.compute", case.compute,
             "--runtime.threads", bench.threads, "--train.rehearsal", "off", "--validate.every", 0, "--checkpoint.every", 0,
             "--progress", "off"]
    argv += (["--init", init] if init else []) + list(keys)
    completed = measure.run(bench.program.command(argv, ranks), cwd=bench.folder)
    metrics = measure.program.metrics(run)
    completed.metrics = metrics
    completed.rate = statistics.median(m["tokens_per_sec"] for m in metrics[WARM_UP:])
    completed.first_step_s = completed.step_s(1)
    completed.peak_bytes = json.loads((run / "plan.json").read_text())["measured"]["peak_resident_bytes"]  # of the largest rank
    return completed


def choose_peer_settings(bench, case, request):
    """Rates of each setting over a few steps, and the fastest."""
    trials = []
    for settings in PEER_SETTINGS[-1:] if bench.quick else PEER_SETTINGS:
        peer = Peer(case, settings, request, bench.threads)
        try:
            peer.steps(2)
            seconds = statistics.median(peer.steps(4)["step_s"])
            trials.append(settings | {"tokens_per_s": case.tokens / seconds})
        except RuntimeError as error:
            trials.append(settings | {"error": str(error)[-300:]})
        finally:
            peer.close()
    successful = [t for t in trials if "tokens_per_s" in t]
    if not successful:
        raise RuntimeError("no setting of the peer works: " + trials[0]["error"])
    best = max(successful, key=lambda t: t["tokens_per_s"])
    return {key: best[key] for key in ("compile", "mode", "loss_chunks")}, trials


def loss_difference(losses, reference):
    differences = [abs(a - b) for a, b in zip(losses, reference, strict=True)]
    return {"mean": statistics.mean(differences), "worst": max(differences)}


def find_mismatch(case, first, reference, rows):
    """Why ours did not train what the peer does in f32; empty when it did."""
    for step, metrics in enumerate(first.metrics):
        if metrics["batch_sha256"] != batches.batch_sha256(rows[step]):
            return f"the peer's batch of step {step + 1} is not the trainer's"
    differences, bound = loss_difference([m["train_loss"] for m in first.metrics], reference), LOSS_BOUND[case.compute]
    if not all(differences[which] <= bound[which] for which in bound):
        return (f"losses of the first {len(reference)} steps are {differences['mean']:.4f} nats from the peer's in f32 on average, "
                f"{differences['worst']:.4f} at the worst; {bound['mean']} and {bound['worst']} are what {case.compute} explains")
    return ""


def f32_losses(bench, case, request):
    """The peer's first losses in f32, which is what every program should have come to."""
    peer = Peer(dataclasses.replace(case, compute="f32"), PEER_SETTINGS[-1], request, bench.threads)
    try:
        return peer.steps(LOSS_STEPS)["losses"]
    finally:
        peer.close()


def compare_with_torch(bench, case, rate_goal, memory_goal, limit_goal):
    """Rows: rate, memory, time to the first step."""
    inputs = bench.inputs
    init = inputs.initial_run(case.preset, case.vocabulary)
    weights = inputs.export(case.preset, case.vocabulary, "transformers") / "model.safetensors"
    first = train_ours(bench, case, init, LOSS_STEPS, "--optim.warmup_steps", 4)

    loader = batches.Batches(inputs.data(case.vocabulary), case.sequence)
    rows = np.stack([loader.step(step, case.batch) for step in range(LOSS_STEPS)])
    np.save(bench.folder / "ids.npy", rows)
    request = {"ids": str(bench.folder / "ids.npy"), "weights": str(weights),
               "optimizer": {"rates": [m["lr"] for m in first.metrics], "beta1": 0.9, "beta2": 0.95, "eps": 1e-8,
                             "weight_decay": 0.1, "max_grad_norm": 1.0}}  # train/config.hpp's defaults
    settings, trials = choose_peer_settings(bench, case, request)
    peer = Peer(case, settings, request, bench.threads)
    try:
        losses = peer.steps(1)
        first_step_s = time.monotonic() - peer.begin
        for key, values in peer.steps(LOSS_STEPS - 1).items():
            losses[key] = values if key == "peak_bytes" else losses[key] + values
        reference = losses["losses"] if case.compute == "f32" else f32_losses(bench, case, request)
        void_reason = find_mismatch(case, first, reference, rows)

        name = f"training {case.name}"
        rate = Row(name, "tokens/s", PEER_NAME, goal=rate_goal, why_void=void_reason, limit_name=f"{case.compute} products",
                   limit=bench.limits[f"products_{case.compute}_flops_per_s"] / step_flops(case.model, 1))
        rate.details = {"settings_tried": trials, "settings": settings, "losses_peer": losses["losses"],
                        "losses_ours": [m["train_loss"] for m in first.metrics], "losses_f32": reference,
                        "peer_from_its_f32": loss_difference(losses["losses"], reference),
                        "operations_per_s_asked": limit_goal}
        memory = Row(f"memory of {name}", "GiB", PEER_NAME, goal=memory_goal, less_is_better=True, why_void=void_reason)
        start = Row(f"first step of {name}", "s", PEER_NAME, goal=0.1, less_is_better=True, why_void=void_reason)
        start.peer = [first_step_s]

        def our_turn():
            completed = train_ours(bench, case, init, case.steps)
            memory.ours.append(completed.peak_bytes / 2**30)
            start.ours.append(completed.first_step_s)
            return completed.rate

        def peer_turn():
            result = peer.steps(case.steps - WARM_UP)
            memory.peer.append(result["peak_bytes"] / 2**30)
            return case.tokens / statistics.median(result["step_s"])

        bench.alternate(rate, our_turn, peer_turn)
        start.details["note"] = "the peer starts once: compiled with an empty cache, losses run before the pairs"
    finally:
        peer.close()
    return [rate, memory, start]


def cases(bench):
    if bench.quick:
        return [(Case("llama-8m", 1024, 2, 128, compute, 6), None, None, None) for compute in ("bf16", "f32")]
    goal = bench.goal
    return [(Case("llama-8m", 16384, 8, 512, "bf16", 10), goal(3.0, 2.0), 0.5, goal(1.4e12, 6e11)),
            (Case("llama-8m", 16384, 8, 512, "f32", 8), goal(1.5, 1.3), 0.5, None),
            (Case("llama-124m", 50304, 4, 512, "bf16", 8), goal(2.5, 1.4), 0.8, goal(2e12, 7.3e11)),
            (Case("llama-124m", 50304, 4, 512, "f32", 6), goal(1.5, 1.3), 0.8, None)]


def benchmarks(bench):
    """Names and what makes their rows."""
    listed = [(f"training {case.name}", lambda case=case, goals=goals: compare_with_torch(bench, case, *goals))
            for case, *goals in cases(bench)]
    return listed + [("slots", lambda: slots(bench)), ("ranks", lambda: ranks(bench)),
                   ("long sequence", lambda: long_sequence(bench)), ("large vocabulary", lambda: large_vocabulary(bench))]


def slots(bench):
    """The price of canonical slots: eight micro-batches in place of one, which any number of ranks up to eight repeats to the bit."""
    case = Case("llama-8m", 1024, 8, 64, "bf16", 6) if bench.quick else Case("llama-8m", 16384, 8, 512, "bf16", 8)
    rate = Row("slots: 8 micro-batches against 1", "tokens/s", "ours, 1 micro-batch")
    memory = Row("memory of slots: 8 micro-batches against 1", "GiB", rate.peer_name, less_is_better=True)

    def turn(micro_batch, peaks):
        completed = train_ours(bench, case, None, case.steps, "--train.micro_batch", micro_batch)
        peaks.append(completed.peak_bytes / 2**30)
        return completed.rate

    bench.alternate(rate, lambda: turn(1, memory.ours), lambda: turn(case.batch, memory.peer))
    return [rate, memory]


def ranks(bench):
    case = Case("llama-1m", 1024, 4, 64, "bf16", 6) if bench.quick else Case("llama-30m", 16384, 8, 512, "bf16", 8)
    row = Row("ranks: 2 x 1 thread against 1 x 2 threads", "tokens/s", "ours, 1 rank", goal=0.97)
    if bench.threads < 2:
        row.why_not = "this machine has one CPU for the bench"
        return [row]
    return [bench.alternate(row, lambda: train_ours(bench, case, None, case.steps, "--runtime.threads", 1, ranks=2).rate,
                           lambda: train_ours(bench, case, None, case.steps, "--runtime.threads", 2, "--train.micro_batch",
                                        case.batch // 2).rate)]


def long_sequence(bench):
    """The same tokens a step in sequences of 8,192 and of 512: only attention has more to do, and it should be no slower at that."""
    long, short = (Case("llama-8m", 1024, 1, 1024, "bf16", 5), Case("llama-8m", 1024, 8, 128, "bf16", 5)) if bench.quick else (
        Case("llama-8m", 16384, 1, 8192, "bf16", 5), Case("llama-8m", 16384, 16, 512, "bf16", 5))
    row = Row(f"sequence {long.sequence} against {short.sequence}", "tokens/s", f"ours, {short.sequence}")
    flops_ratio = attention_flops(long.model, long.sequence, long.batch) / attention_flops(short.model, short.sequence, short.batch)
    explained = row.details.setdefault("explained_ratio", [])

    def turn(case):
        completed = train_ours(bench, case, None, case.steps, "--train.profile", 3)
        if case is short:
            table = json.loads((bench.folder / "run/profile/table.json").read_text())
            attention_s = sum(one["seconds"] for one in table["rows"] if one["name"] in ("attention", "attention_grad"))
            explained.append(table["seconds"] / (table["seconds"] + (flops_ratio - 1) * attention_s))
        return completed.rate

    bench.alternate(row, lambda: turn(long), lambda: turn(short))
    row.goal = 0.9 * statistics.median(explained)
    row.details["goal"] = (f"attention has {flops_ratio:.1f} times the operations; at its rate in the short sequences that explains a ratio of "
                           f"{statistics.median(explained):.3f}; within 10 % of that")
    return [row]


def large_vocabulary(bench):
    """131,072 ids: the extra time is that of the larger matmul, and memory does not grow with tokens x vocabulary."""
    sizes = (4096, 1024) if bench.quick else (131072, 16384)
    batch, sequence = (4, 64) if bench.quick else (4, 512)
    large, small = (Case("llama-8m", size, batch, sequence, "bf16", 5) for size in sizes)
    rate = Row(f"vocabulary {large.vocabulary} against {small.vocabulary}", "tokens/s", f"ours, {small.vocabulary}")
    memory = Row(f"memory of {large.tokens} more tokens at vocabulary {large.vocabulary}", "GiB", rate.peer_name,
                 goal=1.1, less_is_better=True)
    try:
        bench.inputs.data(large.vocabulary)
    except AssertionError as error:
        rate.why_not = memory.why_not = "the texts of this machine have too few pairs: " + str(error).strip().splitlines()[-1]
        return [rate, memory]
    explained = step_flops(small.model, 1) / step_flops(large.model, 1)
    rate.goal, rate.details["goal"] = 0.9 * explained, f"products explain a ratio of {explained:.3f}; within 10 % of that"

    def turn(case, growth):
        single = train_ours(bench, case, None, case.steps)
        doubled = train_ours(bench, dataclasses.replace(case, batch=2 * case.batch), None, 3)
        growth.append((doubled.peak_bytes - single.peak_bytes) / 2**30)
        return single.rate

    return [bench.alternate(rate, lambda: turn(large, memory.ours), lambda: turn(small, memory.peer)), memory]

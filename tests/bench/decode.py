"""Decoding and reading a prompt, against llama.cpp on the same file."""
import json
import pathlib
import sys

import measure
from inputs import model, step_flops
from measure import Row

HERE = pathlib.Path(__file__).parent
TYPES = ("f32", "bf16", "q8_0")


def benchmarks(bench):
    return [(f"decode and prompt, {kind}, batch {batch}", lambda kind=kind, batch=batch: compare_with_llama_cpp(bench, kind, batch))
            for kind in TYPES for batch in (1, 8)]


def compare_with_llama_cpp(bench, kind, batch):
    preset, vocabulary = ("llama-8m", 1024) if bench.quick else ("llama-124m", 50304)
    prompt, tokens, iterations = (64, 16, 1) if bench.quick else (512 if batch == 1 else 128, 128, 3)
    file = bench.inputs.export(preset, vocabulary, kind)
    name = f"{preset} {kind}, batch {batch}"
    decode = Row(f"decode {name}", "tokens/s", "llama.cpp", goal=1.1, limit_name="memory read of all weights",
                 limit=batch * bench.limits["memory_read_bytes_per_s"] / file.stat().st_size)
    decode.limit_goal = 0.8 if batch == 1 else None
    prefill = Row(f"prompt {name}", "tokens/s", "llama.cpp", goal=1.1, limit_name=f"{limit_type(kind)} products",
               limit=3 * bench.limits[f"products_{limit_type(kind)}_flops_per_s"] / step_flops(model(preset, vocabulary=0), 1))
    prefill.details["note"] = "the limit is that of the blocks' products, a third of a training step's; logits are of the last token only"
    peer_prefill = []

    def ours():
        argv = ["bench", file, "--prompt", prompt, "--tokens", tokens, "--batch", batch, "--iterations", iterations,
                 "--runtime.threads", bench.threads, "--json"]
        result = measure.run(bench.program.command(argv)).result()
        decode.details["compute_class"] = result["compute_class"]
        prefill.ours.append(result["prompt_tokens_per_s"])
        return result["decode_tokens_per_s"]

    def theirs():
        request = {"model": str(file), "batch": batch, "prompt": prompt, "tokens": tokens, "iterations": iterations,
                   "threads": bench.threads, "vocabulary": vocabulary}
        env = measure.peer_environment(bench.threads)
        env.pop("LD_PRELOAD", None)  # llama.cpp allocates before it decodes
        result = measure.run([sys.executable, HERE / "decode_peer.py"], env=env, input=json.dumps(request)).result()
        peer_prefill.append(result["prompt_tokens_per_s"])
        return result["decode_tokens_per_s"]

    bench.alternate(decode, ours, theirs)
    prefill.peer = peer_prefill
    if batch > 1:
        prefill.goal = None  # only the prompt of one sequence has a goal
    return [decode, prefill]


def limit_type(kind):
    return "bf16" if kind == "bf16" else "f32"

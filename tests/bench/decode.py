"""Decoding and reading a prompt, against llama.cpp on the same file."""
import json
import pathlib
import sys

import measure
from materials import model, step_flops
from measure import Row

HERE = pathlib.Path(__file__).parent
KINDS = ("f32", "bf16", "q8_0")


def row_makers(bench):
    return [(f"decode and prompt, {kind}, batch {batch}", lambda kind=kind, batch=batch: against_llama_cpp(bench, kind, batch))
            for kind in KINDS for batch in (1, 8)]


def against_llama_cpp(bench, kind, batch):
    preset, vocabulary = ("llama-8m", 1024) if bench.quick else ("llama-124m", 50304)
    prompt, tokens, iterations = (64, 16, 1) if bench.quick else (512 if batch == 1 else 128, 128, 3)
    file = bench.materials.export(preset, vocabulary, kind)
    name = f"{preset} {kind}, batch {batch}"
    decode = Row(f"decode {name}", "tokens/s", "llama.cpp", goal=1.1, limit_name="memory read of all weights",
                 limit=batch * bench.limits["memory_read_bytes_per_s"] / file.stat().st_size)
    decode.limit_goal = 0.8 if batch == 1 else None
    read = Row(f"prompt {name}", "tokens/s", "llama.cpp", goal=1.1, limit_name=f"{limit_type(kind)} products",
               limit=3 * bench.limits[f"products_{limit_type(kind)}_flops_per_s"] / step_flops(model(preset, vocabulary=0), 1))
    read.details["note"] = "the limit is that of the blocks' products, a third of a training step's; logits are of the last token only"
    peer_read = []

    def ours():
        words = ["bench", file, "--prompt", prompt, "--tokens", tokens, "--batch", batch, "--iterations", iterations,
                 "--runtime.threads", bench.threads, "--json"]
        answer = measure.run(bench.program.command(words)).answer()
        decode.details["compute_class"] = answer["compute_class"]
        read.ours.append(answer["prompt_tokens_per_s"])
        return answer["decode_tokens_per_s"]

    def theirs():
        request = {"model": str(file), "batch": batch, "prompt": prompt, "tokens": tokens, "iterations": iterations,
                   "threads": bench.threads, "vocabulary": vocabulary}
        env = measure.peer_environment(bench.threads)
        env.pop("LD_PRELOAD", None)  # llama.cpp allocates before it decodes
        answer = measure.run([sys.executable, HERE / "decode_peer.py"], env=env, input=json.dumps(request)).answer()
        peer_read.append(answer["prompt_tokens_per_s"])
        return answer["decode_tokens_per_s"]

    bench.in_turns(decode, ours, theirs)
    read.peer = peer_read
    if batch > 1:
        read.goal = None  # only the prompt of one sequence has a goal
    return [decode, read]


def limit_type(kind):
    return "bf16" if kind == "bf16" else "f32"

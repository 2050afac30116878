"""llama.cpp through xllamacpp, as a program of its own: a request (JSON) on standard input, the answer on standard output.

Its fast settings: flash attention and an f16 cache (its defaults decide), weights repacked for the CPU, as many threads
as ours, the whole prompt in one batch. Loading is not in the times. For one sequence they are those that llama.cpp itself
reports; several are read one after another while earlier ones already decode, so their own clocks overlap: then the time to
decode is that of all answers less that of answers of one token, which is the time to read.
"""
import concurrent.futures
import json
import random
import statistics
import sys
import time

import xllamacpp

request = json.load(sys.stdin)
batch, prompt, tokens = request["batch"], request["prompt"], request["tokens"]

params = xllamacpp.CommonParams()
params.model.path = request["model"]
params.n_parallel = batch
params.n_ctx = batch * (prompt + tokens + 8)
params.n_batch = params.n_ubatch = 512
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = request["threads"]
params.n_gpu_layers = 0
params.cache_prompt = False
params.warmup = True
params.verbosity = -1
params.endpoint_metrics = False
server = xllamacpp.Server(params)


def run_sequence(seed, tokens=tokens):
    ids = random.Random(seed).choices(range(256, request["vocabulary"] - 1), k=prompt)
    result = server.handle_completions({"prompt": ids, "n_predict": tokens, "temperature": 0, "top_k": 1, "ignore_eos": True,
                                        "cache_prompt": False, "samplers": ["top_k"], "seed": 1})
    if "timings" not in result:
        raise SystemExit(f"llama.cpp answered: {json.dumps(result)[:300]}")
    return result["timings"]


def run_batch(iteration, tokens):
    """Seconds until every sequence has its answer of so many tokens, and the answers' own times."""
    begin = time.monotonic()
    timings = list(pool.map(lambda seed: run_sequence(seed, tokens), range(iteration * batch, (iteration + 1) * batch)))
    return time.monotonic() - begin, timings


decode, prefill = [], []
with concurrent.futures.ThreadPoolExecutor(batch) as pool:
    for iteration in range(request["iterations"] + 1):
        seconds, timings = run_batch(iteration, tokens)
        if batch == 1:
            decode_s, prefill_s = timings[0]["predicted_ms"] / 1000, timings[0]["prompt_ms"] / 1000
        else:
            prefill_s, _ = run_batch(iteration, 1)
            decode_s = seconds - prefill_s
        if iteration > 0:  # the first warms up
            decode.append(batch * (tokens - (batch > 1)) / decode_s)
            prefill.append(batch * prompt / prefill_s)
print(json.dumps({"decode_tokens_per_s": statistics.median(decode), "prompt_tokens_per_s": statistics.median(prefill)}))

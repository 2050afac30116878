"""llama.cpp through xllamacpp, as a program of its own: a request (JSON) on standard input, the answer on standard output.

Its fast settings: flash attention and an f16 cache (its defaults decide), weights repacked for the CPU, as many threads
as ours, the whole prompt in one batch. Times are those that llama.cpp itself reports; loading is not in them.
"""
import concurrent.futures
import json
import random
import statistics
import sys

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


def one(seed):
    ids = random.Random(seed).choices(range(256, request["vocabulary"] - 1), k=prompt)
    answer = server.handle_completions({"prompt": ids, "n_predict": tokens, "temperature": 0, "top_k": 1, "ignore_eos": True,
                                        "cache_prompt": False, "samplers": ["top_k"], "seed": 1})
    if "timings" not in answer:
        raise SystemExit(f"llama.cpp answered: {json.dumps(answer)[:300]}")
    return answer["timings"]


decode, read = [], []
with concurrent.futures.ThreadPoolExecutor(batch) as pool:
    for iteration in range(request["iterations"] + 1):
        found = list(pool.map(one, range(iteration * batch, (iteration + 1) * batch)))
        if iteration > 0:  # the first warms up
            decode.append(sum(t["predicted_n"] for t in found) / max(t["predicted_ms"] for t in found) * 1000)
            read.append(sum(t["prompt_n"] for t in found) / max(t["prompt_ms"] for t in found) * 1000)
print(json.dumps({"decode_tokens_per_s": statistics.median(decode), "prompt_tokens_per_s": statistics.median(read)}))

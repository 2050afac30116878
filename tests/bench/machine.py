"""Describes the machine and measures its limits: matmuls, memory, disk, hashing. Runs at the start of every bench."""
import importlib.metadata
import json
import os
import pathlib
import platform
import re
import subprocess
import time

from measure import TCMALLOC

FEATURES = ("avx2", "avx512f", "avx512_bf16", "amx_tile", "amx_bf16", "amx_int8")
PEERS = ("torch", "tokenizers", "tiktoken", "xllamacpp", "gguf", "safetensors", "numpy", "xxhash")


def describe_machine(program, threads, peers=PEERS):
    text = pathlib.Path("/proc/cpuinfo").read_text()
    flags = re.search(r"^flags\s*: (.*)$", text, re.M).group(1).split()
    return {"cpu": re.search(r"^model name\s*: (.*)$", text, re.M).group(1), "cpus": len(os.sched_getaffinity(0)),
            "features": [f for f in FEATURES if f in flags], "threads": threads, "load_average": os.getloadavg(),
            "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), "kernel": platform.release(),
            "python": platform.python_version(), "tcmalloc": [p for p in TCMALLOC if pathlib.Path(p).exists()],
            "versions": {name: importlib.metadata.version(name) for name in peers}
            | {"slipway": ", ".join(line.strip() for line in program.run("--version").out.splitlines())},
            "doctor": json.loads(program.run("doctor", "--json").stdout)}


def best_rate(work, work_units, seconds):
    """The highest rate among repetitions that fill `seconds`, after one that warms up: a limit, not a typical value."""
    work()
    best, end = 0.0, time.monotonic() + seconds
    while time.monotonic() < end:
        begin = time.perf_counter()
        work()
        best = max(best, work_units / (time.perf_counter() - begin))
    return best


def dd(source, target, *options):
    """Bytes per second, as dd says it."""
    stderr = subprocess.run(["dd", f"if={source}", f"of={target}", "bs=4M", *options], capture_output=True, text=True,
                          check=True, env=os.environ | {"LC_ALL": "C"}).stderr
    count, seconds = re.search(r"(\d+) bytes.*copied, ([0-9.e+-]+) s", stderr).groups()
    return int(count) / float(seconds)


def limits(folder, threads, quick):
    import torch
    import xxhash
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    seconds, width = (0.5, 1024) if quick else (4, 3072)
    rates = {}
    for name, dtype in (("f32", torch.float32), ("bf16", torch.bfloat16)):
        a, b = (torch.randn(width, width, dtype=torch.float32).to(dtype) for _ in range(2))
        c = torch.empty(width, width, dtype=dtype)
        rates[f"products_{name}_flops_per_s"] = best_rate(lambda: torch.mm(a, b, out=c), 2 * width**3, seconds)
    values = torch.ones((64 if quick else 512) << 20, dtype=torch.uint8).view(torch.float32)  # beyond any cache
    bytes_read = values.numel() * values.element_size()
    rates["memory_read_bytes_per_s"] = max(best_rate(lambda: values.sum(), bytes_read, seconds),
                                           best_rate(lambda: values.max(), bytes_read, seconds))
    data = values.numpy().view("uint8")
    rates["xxh3_bytes_per_s"] = best_rate(lambda: xxhash.xxh3_128_digest(data), bytes_read, seconds)
    rates["disk_write_fsync_bytes_per_s"], rates["cached_read_bytes_per_s"] = disk_rates(folder, 64 if quick else 1024, 3)
    return rates


def disk_rates(folder, mebibytes, repeats):
    """The best of some writes with fsync, and of some reads of what was just written, in bytes per second."""
    file = pathlib.Path(folder) / "dd.bin"
    writes = [dd("/dev/zero", file, f"count={mebibytes // 4}", "conv=fsync") for _ in range(repeats)]
    reads = [dd(file, "/dev/null") for _ in range(repeats)]
    file.unlink()
    return max(writes), max(reads)

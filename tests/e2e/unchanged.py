#!/usr/bin/env python3
"""Two programs compute the same bits: one built before a refactoring, one built after it.

OLD prepares the data; both train a covering set of families, compute types, optimizers and layouts; checkpoints are equal to the bit
and the tensors of exports equal byte for byte. Half way NEW resumes what OLD saved. A build with the emulated GPU (preset cuda-host)
is compared the same way when both are given.

    python3 tests/e2e/unchanged.py OLD NEW [OLD_ON_EMULATED_GPU NEW_ON_EMULATED_GPU]
"""
import hashlib
import pathlib
import shutil
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from gguf_edit import Gguf
from program import Program, metrics, standard_library

STEPS = 6
COMMON = ["--train.steps", STEPS, "--train.rehearsal", "off", "--runtime.threads", "1", "--log.every", "100", "--validate.every", "3",
          "--validate.tokens", "1000"]
PRE_TOKENIZERS = {"llama": "llama-bpe", "qwen2": "qwen2", "qwen3": "qwen2"}


def shape(family, heads, kv_heads, width, ffn):
    return ["--model.preset", f"{family}-1m", "--model.layers", "2", "--model.width", width, "--model.heads", heads, "--model.kv_heads", kv_heads,
            "--model.ffn", ffn, "--train.sequence", "48", "--train.batch", "8", "--train.micro_batch", "2"]


SHAPES = {"llama": shape("llama", 4, 2, 48, 80), "qwen2": shape("qwen2", 4, 2, 64, 72), "qwen3": shape("qwen3", 3, 3, 48, 96)}
PADDED = shape("llama", 3, 3, 66, 70)  # nothing is a multiple of two tensor ranks

# family, compute, optimizer, data ranks, tensor ranks, other keys: every pair of values stands in one row.
RUNS = [
    ("llama", "f32", "adamw", 1, 1, []),
    ("llama", "bf16", "muon", 1, 1, []),
    ("llama", "bf16", "adamw", 2, 1, ["--train.recompute", "on"]),
    ("llama", "f32", "muon", 2, 1, []),
    ("llama", "f32", "muon", 4, 1, []),
    ("llama", "f32", "adamw", 1, 2, []),
    ("llama", "bf16", "muon", 1, 2, []),
    ("llama", "bf16", "adamw", 2, 2, []),
    ("qwen2", "f32", "muon", 1, 1, []),
    ("qwen2", "bf16", "adamw", 1, 1, ["--model.tied", "off"]),
    ("qwen2", "f32", "adamw", 2, 1, ["--numerics.slots", "2"]),
    ("qwen2", "bf16", "muon", 4, 1, []),
    ("qwen2", "f32", "muon", 1, 2, []),
    ("qwen2", "bf16", "adamw", 1, 2, ["--train.recompute", "on"]),
    ("qwen3", "f32", "adamw", 1, 1, ["--optim.schedule", "wsd"]),
    ("qwen3", "bf16", "muon", 1, 1, []),
    ("qwen3", "bf16", "muon", 2, 1, []),
    ("qwen3", "f32", "adamw", 4, 1, []),
    ("qwen3", "f32", "muon", 1, 2, []),
    ("qwen3", "bf16", "adamw", 2, 2, []),
]
ON_GPU = [("llama", "f32", "adamw", 1, 1), ("llama", "bf16", "muon", 1, 1)]


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def folder_hashes(folder):
    return {str(path.relative_to(folder)): sha256(path.read_bytes()) for path in sorted(folder.rglob("*")) if path.is_file()}


def prepare(old, new):
    """Both make tokenizers and shards; every file of OLD's is NEW's, byte for byte."""
    standard_library(old.folder / "text", 150_000)
    for pre in sorted(set(PRE_TOKENIZERS.values())):
        for version, program in (("old", old), ("new", new)):
            program.run("tokenizer", "train", "--input", "text", "--tokenizer.vocabulary", "515", "--tokenizer.pre", pre, "--out", f"{version}-{pre}.json")
            program.run("data", "prepare", "--tokenizer", f"{version}-{pre}.json", "--input", "text", "--data.document_bytes", "2000", "--out", f"{version}-{pre}")
        one, two = folder_hashes(old.folder / f"old-{pre}"), folder_hashes(old.folder / f"new-{pre}")
        assert one == two, f"data prepare ({pre}): {[name for name in one.keys() | two.keys() if one.get(name) != two.get(name)]} differ"


def read_tensors(path):
    return {tensor[0]: (tuple(tensor[1]), tensor[2], sha256(tensor[3])) for tensor in Gguf(path).tensors}


def train(program, run, family, compute, optimizer, data_parallel_size, tensor_parallel_size, extra):
    argv = ["--run", run, "--data", f"old-{PRE_TOKENIZERS[family]}", *COMMON, "--numerics.compute", compute, "--optim.name", optimizer,
             "--mesh.tensor", tensor_parallel_size, "--checkpoint.every", STEPS // 2, "--checkpoint.keep", "9", *extra]
    ranks = data_parallel_size * tensor_parallel_size
    program.run("train", *argv, ranks=0 if ranks == 1 else ranks)


def compare(old, new, name, row):
    """One row of RUNS: trained by both, and begun by OLD and finished by NEW."""
    old_run, new_run, resumed = (f"{version}-{name}" for version in ("old", "new", "half"))
    train(old, old_run, *row)
    train(new, new_run, *row)
    shutil.copytree(old.folder / old_run, old.folder / resumed)
    ranks = row[3] * row[4]
    device = row[5][row[5].index("--device"):] if "--device" in row[5] else []  # a run does not keep its device
    new.run("train", "--resume", resumed, "--checkpoint", STEPS // 2, *device, ranks=0 if ranks == 1 else ranks)
    figures = [[(m["step"], m["train_loss"], m["grad_norm"], m.get("val_loss"), m["batch_sha256"]) for m in metrics(old.folder / run)]
               for run in (old_run, new_run, resumed)]
    assert len(figures[0]) == STEPS and figures[0] == figures[1] == figures[2], f"{name}: losses, norms or batches differ: {figures}"
    for run in (new_run, resumed):
        new.run("checkpoint", "diff", old_run, run)
    for program, run in ((old, old_run), (new, new_run)):
        program.run("export", run, "--out", f"{run}.gguf", "--type", "f32")
    one, two = read_tensors(old.folder / f"{old_run}.gguf"), read_tensors(old.folder / f"{new_run}.gguf")
    assert one == two, f"{name}: tensors {[key for key in one.keys() | two.keys() if one.get(key) != two.get(key)]} of the exports differ"


def main(arguments):
    with tempfile.TemporaryDirectory() as folder:
        old, new, *emulated = (Program(path, folder) for path in arguments)
        prepare(old, new)
        rows = [(old, new, (row[0], *row[1:5], [*SHAPES[row[0]], *row[5]])) for row in RUNS]
        rows.append((old, new, ("llama", "f32", "adamw", 1, 2, PADDED)))
        if emulated:
            rows += [(*emulated, (*row, [*SHAPES[row[0]], "--device", "cuda"])) for row in ON_GPU]
        for index, (before, after, row) in enumerate(rows):
            begin = time.time()
            name = "-".join(map(str, (index, *row[:5])))
            compare(before, after, name, row)
            print(f"equal {name} ({time.time() - begin:.1f} s)", flush=True)


if __name__ == "__main__":
    if len(sys.argv) not in (3, 5):
        sys.exit(__doc__)
    main(sys.argv[1:])

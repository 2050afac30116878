#!/usr/bin/env python3
"""The whole life of a model, through the command line: text, tokenizer, shards, training with the rehearsal, checkpoints,
qa, bench, generate, score, export; then foreign readers look at what came out: llama.cpp runs the GGUF, safetensors,
h5py and tensorboard read theirs. Needs the oracles' Python (tools/oracle/setup.sh).

    build/oracle/bin/python tests/e2e/life.py build/release/slipway
"""
import json
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "support"), str(ROOT / "interop" / "support")]
import llama_cpp  # noqa: E402
from program import Program, metrics, standard_library  # noqa: E402

FAMILIES = {"llama": ("gpt-2", "on"), "qwen2": ("qwen2", "off"), "qwen3": ("llama-bpe", "on"), "gpt2": ("gpt-2", "on")}
LOGIT_TOLERANCE = 1e-3  # what equal may mean between two f32 programs (docs/formats/gguf.md)
GELU_LOGIT_TOLERANCE = 2e-2  # llama.cpp takes GELU from a table of f16: each hidden unit differs by up to an f16's rounding


def size_args(family):
    return ["--model.layers", "3", "--model.width", "64", "--model.heads", "4", "--model.kv_heads", "4" if family == "gpt2" else "2", "--model.ffn", "96"]


def make_model(program, family):
    pre, tied = FAMILIES[family]
    program.run("tokenizer", "train", "--input", "text", "--tokenizer.vocabulary", "700", "--tokenizer.pre", pre, "--out", f"{family}.json")
    program.run("data", "prepare", "--tokenizer", f"{family}.json", "--input", "text", "--data.document_bytes", "4000", "--out", f"{family}-data")
    program.run("data", "verify", f"{family}-data")
    result = program.run("train", "--run", family, "--data", f"{family}-data", "--model.preset", f"{family}-1m", *size_args(family), "--model.tied", tied,
                       "--train.steps", "300", "--train.sequence", "128", "--train.batch", "8", "--checkpoint.every", "125", "--validate.every", "150",
                       "--validate.tokens", "8000", "--numerics.compute", "f32", ranks=2)
    assert "rehearsal" in result.err and not (program.folder / family / "rehearsal").exists()
    curve = metrics(program.folder / family)
    assert curve[-1]["train_loss"] < curve[0]["train_loss"] - 1.0, curve[-1]
    for record in curve:
        assert {"step", "train_loss", "grad_norm", "lr", "tokens_per_sec", "tokens_seen"} <= record.keys()
    assert [m["step"] for m in curve if "val_loss" in m] == [150, 300]
    assert json.loads((program.folder / family / "status.json").read_text())["status"] == "ok"


def the_model_passes_qa_and_bench(program, family):
    report = program.json("qa", family)
    assert report["passed"] and len(report["gates"]) >= 12, report
    bench = program.json("bench", family, "--prompt", "64", "--tokens", "16", "--iterations", "2")
    assert bench["decode_tokens_per_s"] > 0 and bench["prompt_tokens_per_s"] > 0 and bench["first_token_ms"] > 0
    assert bench["compute_class"] and len(bench["model_sha256"]) == 64 and bench["samples"]


def llama_cpp_gives_the_same_numbers(program, family):
    gguf = f"{family}.gguf"
    program.run("export", family, "--out", gguf, "--type", "f32")
    text = "import os\n\ndef walk(top, depth=3):\n    return [f'{x}: 12345' for x in os.listdir(top)]  # ünï\n"
    (program.folder / "probe.txt").write_text(text)
    ours = program.json("score", family, "--text", "probe.txt", "--logits", "ours.npy")
    from_gguf = program.json("score", gguf, "--text", "probe.txt")
    assert ours["ids"] == from_gguf["ids"] and np.allclose(ours["nll"][1:], from_gguf["nll"][1:], atol=1e-5)
    reference = llama_cpp.evaluate(program.folder / gguf, text=text, add_special=True)
    assert reference["ids"] == ours["ids"], f"{family}: other ids than llama.cpp"
    difference = np.abs(np.load(program.folder / "ours.npy") - reference["logits"]).max()
    assert difference < (GELU_LOGIT_TOLERANCE if family == "gpt2" else LOGIT_TOLERANCE), f"{family}: logits differ by {difference}"
    prompt = "def main("
    generated = program.json("generate", family, "--prompt", prompt, "--tokens", "24", "--temperature", "0", "--seed", "1")
    reply = llama_cpp.evaluate(program.folder / gguf, text=prompt, add_special=True, generate=24)
    assert generated["ids"] == reply["generated"][: len(generated["ids"])], f"{family}: greedy {generated['ids']}, llama.cpp {reply['generated']}"
    assert reply["generated_text"].startswith(generated["text"].rstrip("\ufffd")), f"{family}: {generated['text']!r}, llama.cpp {reply['generated_text']!r}"
    print(f"   {family}: largest logit difference to llama.cpp {difference:.2e}")


def quantized_exports_are_byte_equal_to_the_gguf_package(program, family):
    import gguf

    program.run("export", family, "--out", "f32.gguf", "--type", "f32")
    f32_tensors = {t.name: np.array(t.data) for t in gguf.GGUFReader(program.folder / "f32.gguf").tensors}
    for kind in ("q8_0", "q4_0", "f16", "bf16"):
        program.run("export", family, "--out", f"{kind}.gguf", "--type", kind)
        quant = gguf.GGMLQuantizationType[kind.upper()]
        for tensor in gguf.GGUFReader(program.folder / f"{kind}.gguf").tensors:
            if tensor.tensor_type != quant:
                continue
            expected = gguf.quants.quantize(f32_tensors[tensor.name], quant)
            assert np.array(tensor.data).tobytes() == expected.tobytes(), f"{kind} {tensor.name}"
        llama_cpp.evaluate(program.folder / f"{kind}.gguf", text="x = 1\n", add_special=True)


def other_programs_read_the_rest(program, family):
    import h5py
    from safetensors.numpy import load_file
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    program.run("export", family, "--out", f"{family}-hf", "--type", "f32")
    weights = load_file(program.folder / f"{family}-hf" / "model.safetensors")
    config = json.loads((program.folder / f"{family}-hf" / "config.json").read_text())
    assert config["model_type"] == family and config["n_layer" if family == "gpt2" else "num_hidden_layers"] == 3
    if family == "gpt2":  # q, k and v side by side, [in, out]
        assert weights["transformer.h.2.attn.c_attn.weight"].shape == (64, 3 * 64) and weights["transformer.wpe.weight"].shape == (128, 64)
    newest = sorted((program.folder / family / "checkpoints").glob("step-*"))[-1]
    with h5py.File(newest / "index.h5") as index:
        embedding = index["value/token_embd.weight"][:]
    assert np.array_equal(embedding, weights["transformer.wte.weight" if family == "gpt2" else "model.embed_tokens.weight"])
    program.run("checkpoint", "consolidate", family, "--out", "one.safetensors")
    assert np.array_equal(load_file(program.folder / "one.safetensors")["token_embd.weight"], embedding)
    board = EventAccumulator(str(program.folder / family / "tb"))
    board.Reload()
    curve = [(e.step, e.value) for e in board.Scalars("loss/train")]
    assert [s for s, _ in curve] == list(range(1, 301))
    assert np.allclose([v for _, v in curve], [m["train_loss"] for m in metrics(program.folder / family)], rtol=1e-6)
    assert subprocess.run(["h5dump", "-H", str(newest / "index.h5")], capture_output=True).returncode == 0


def a_run_begins_with_given_weights(program, family):
    for source in (family, f"{family}.gguf"):
        run = f"init-{pathlib.Path(source).suffix[1:] or 'run'}"
        program.run("train", "--run", run, "--data", f"{family}-data", "--model.preset", f"{family}-1m", *size_args(family), "--model.tied", FAMILIES[family][1],
                    "--init", source, "--train.steps", "1", "--train.sequence", "128", "--train.batch", "8", "--train.rehearsal", "off",
                    "--optim.peak_lr", "1e-9", "--numerics.compute", "f32")
        assert metrics(program.folder / run)[0]["train_loss"] < metrics(program.folder / family)[0]["train_loss"] - 1.0


def main():
    with tempfile.TemporaryDirectory() as folder:
        program = Program(sys.argv[1], folder)
        standard_library(program.folder / "text", 400_000)
        for family in FAMILIES:
            for test in (make_model, the_model_passes_qa_and_bench, llama_cpp_gives_the_same_numbers, other_programs_read_the_rest):
                begin = time.time()
                test(program, family)
                print(f"ok {test.__name__} {family} ({time.time() - begin:.1f} s)", flush=True)
        quantized_exports_are_byte_equal_to_the_gguf_package(program, "llama")
        a_run_begins_with_given_weights(program, "llama")
        print("ok quantized_exports_are_byte_equal_to_the_gguf_package, a_run_begins_with_given_weights")


if __name__ == "__main__":
    main()

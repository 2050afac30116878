#!/usr/bin/env python3
"""transformers loads what `export DIR` writes and computes the trainer's own logits, ids and greedy text, for each family.
Needs torch: tools/oracle/setup.sh --nightly.

    build/oracle-nightly/bin/python tests/interop/transformers_logits.py build/release/slipway
"""
import os
import pathlib
import sys
import tempfile

os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
import numpy as np
import torch
import transformers

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from program import Program, standard_library

# A pre-tokenizer for each family, and the class that reads its tokenizer: AutoTokenizer takes Qwen's rules for any qwen2.
AUTO, FAST = transformers.AutoTokenizer, transformers.PreTrainedTokenizerFast
CASES = [("llama", "llama-bpe", AUTO), ("qwen2", "qwen2", AUTO), ("qwen2", "gpt-2", FAST), ("qwen3", "gpt-2", AUTO), ("llama", "gpt-2", AUTO),
         ("llama", "smollm", AUTO), ("gpt2", "gpt-2", AUTO), ("gpt2", "qwen2", AUTO), ("gpt2", "smollm", AUTO)]
LOGIT_TOLERANCE = 1e-3  # what equal may mean between two f32 programs (docs/formats/safetensors.md)
TEXT = "import os\n\ndef walk(top, depth=3):\n    return [f'{x}: 12345' for x in os.listdir(top)]  # ünï 日本\n"


def check(program, family, pre, tokenizer_class):
    name = f"{family}-{pre}"
    program.run("tokenizer", "train", "--input", "text", "--tokenizer.vocabulary", "600", "--tokenizer.pre", pre, "--out", f"{name}.json")
    program.run("data", "prepare", "--tokenizer", f"{name}.json", "--input", "text", "--data.document_bytes", "4000", "--out", f"{name}-data")
    program.run("train", "--run", name, "--data", f"{name}-data", "--model.preset", f"{family}-1m", "--model.layers", "3", "--model.width", "64",
                "--model.tied", "off" if family == "qwen2" else "on", "--train.steps", "60", "--train.sequence", "128", "--train.batch", "8",
                "--validate.every", "0", "--train.rehearsal", "off", "--numerics.compute", "f32")
    result = program.run("export", name, "--out", f"{name}-hf", "--type", "f32")
    assert ("PreTrainedTokenizerFast" in result.err) == (tokenizer_class is FAST), result.err
    (program.folder / "t.txt").write_text(TEXT)
    ours = program.json("score", name, "--text", "t.txt", "--logits", "ours.npy")

    folder = program.folder / f"{name}-hf"
    tokenizer = tokenizer_class.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ids = tokenizer(TEXT)["input_ids"]
    assert ids == ours["ids"], f"{name}: other ids\n{ids}\n{ours['ids']}"
    with torch.no_grad():
        reference_logits = model(torch.tensor([ids])).logits[0].numpy()
    difference = np.abs(np.load(program.folder / "ours.npy") - reference_logits).max()
    assert reference_logits.std() > 0.5, "logits of a model that says nothing prove nothing"
    assert difference < LOGIT_TOLERANCE, f"{name}: logits differ by {difference}"

    prompt = tokenizer("def main(", return_tensors="pt")
    reply = model.generate(**prompt, max_new_tokens=24, do_sample=False)[0, prompt["input_ids"].shape[1]:].tolist()
    generated_ids = program.json("generate", name, "--prompt", "def main(", "--tokens", "24", "--temperature", "0", "--seed", "1")["ids"]
    assert generated_ids == reply[: len(generated_ids)], f"{name}: greedy {generated_ids}, transformers {reply}"
    print(f"ok {name}: {type(model).__name__}, largest logit difference {difference:.1e}", flush=True)


def main():
    with tempfile.TemporaryDirectory() as folder:
        program = Program(sys.argv[1], folder)
        standard_library(program.folder / "text", 300_000)
        for case in CASES:
            if len(sys.argv) > 2 and case[0] not in sys.argv[2:]:
                continue
            check(program, *case)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Random folders that transformers saved, in shards and in one file, in f32, f16 and bf16, tied and not, are read value by
value; the tokenizer that it saved beside them gives its ids, its end tokens and its chat template.
Needs torch: tools/oracle/setup.sh --nightly.

    build/oracle-nightly/bin/python tests/interop/transformers_folder.py build/release/tests/format_probe
"""
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile

os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
import torch
import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

ROWS = 320  # of the embedding; the tokenizers have fewer tokens
TEXTS = ["Hello 123 worlds: it's 3.14\n\n  x  ", "<think>a</think> <|im_start|>user\nHi<|im_end|>\n", "½٣ 日本 👍 é"]
TEMPLATE = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"


def probe(*argv):
    return subprocess.run([sys.argv[1], *map(str, argv)], check=True, capture_output=True, text=True).stdout


def random_model(rng, family):
    heads, kv = rng.choice([(4, 2), (6, 3), (2, 2)])
    config = dict(hidden_size=heads * 16, intermediate_size=rng.choice([48, 80]), num_hidden_layers=rng.choice([1, 3]), num_attention_heads=heads,
                  num_key_value_heads=kv, vocab_size=ROWS, max_position_embeddings=64, tie_word_embeddings=rng.random() < 0.5, rms_norm_eps=1e-5)
    if family != "qwen2":
        config["head_dim"] = rng.choice([16, 24])
    classes = {"llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM), "qwen2": (transformers.Qwen2Config, transformers.Qwen2ForCausalLM),
               "qwen3": (transformers.Qwen3Config, transformers.Qwen3ForCausalLM)}
    make_config, make_model = classes[family]
    return make_model(make_config(**config))


def random_tokenizer(rng):
    """Byte-level, with digits apart or not, added tokens of both kinds, with or without a token before the text."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({symbol: id for id, symbol in enumerate(alphabet)} | {"el": 256, "ell": 257, "12": 258}, [("e", "l"), ("el", "l"), ("1", "2")]))
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = rng.choice([byte_level, pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level])])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    tokenizer.add_tokens([AddedToken(text, special=False, normalized=False) for text in ("<think>", "</think>")])
    if rng.random() < 0.5:
        begin = tokenizer.token_to_id("<|endoftext|>")
        tokenizer.post_processor = processors.TemplateProcessing(single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", begin)])
    hf_tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<|endoftext|>", eos_token="<|im_end|>")
    hf_tokenizer.chat_template = TEMPLATE
    return hf_tokenizer


def check(folder, rng, family, dtype):
    torch.manual_seed(rng.randrange(1 << 30))
    model, tokenizer = random_model(rng, family).to(dtype), random_tokenizer(rng)
    end_ids = [tokenizer.eos_token_id, tokenizer.bos_token_id]
    model.generation_config.eos_token_id = end_ids
    size = rng.choice(["20KB", "60KB", "1GB"])
    model.save_pretrained(folder / "in", max_shard_size=size)
    tokenizer.save_pretrained(folder / "in")
    files = len(list((folder / "in").glob("*.safetensors")))
    assert (files > 1) == (size != "1GB"), (files, size)

    probe("reread", folder / "in", folder / "out")
    reloaded = transformers.AutoModelForCausalLM.from_pretrained(folder / "out", dtype=torch.float32)
    expected, actual = model.state_dict(), reloaded.state_dict()
    assert expected.keys() == actual.keys(), (expected.keys() ^ actual.keys())
    for name, values in expected.items():
        assert torch.equal(values.float(), actual[name]), name

    tokens = json.loads(probe("tokens", folder / "in"))
    assert tokens["ends"] == end_ids and tokens["chat_template"] == TEMPLATE, tokens
    reference_tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(folder / "in")
    for text in TEXTS:
        ids = [int(id) for id in probe("ids", folder / "in", text, "special").split()]
        assert ([tokens["bos"]] if tokens["add_bos"] else []) + ids == reference_tokenizer(text)["input_ids"], (text, ids)
        plain = [int(id) for id in probe("ids", folder / "in", text, "plain").split()]
        assert plain == reference_tokenizer(text, split_special_tokens=True, add_special_tokens=False)["input_ids"] or "<think>" in text, (text, plain)
    print(f"ok {family} {dtype}, {files} files, tied {model.config.tie_word_embeddings}", flush=True)


def main():
    rng = random.Random(17)
    for _ in range(2):
        for family in ("llama", "qwen2", "qwen3"):
            for dtype in (torch.float32, torch.float16, torch.bfloat16):
                with tempfile.TemporaryDirectory() as folder:
                    check(pathlib.Path(folder), rng, family, dtype)


if __name__ == "__main__":
    main()

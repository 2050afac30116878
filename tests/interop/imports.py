#!/usr/bin/env python3
"""A folder that transformers saved is a MODEL: `score` computes its logits, `export` writes a GGUF with which llama.cpp does and a
folder with the same tensor bytes, `generate` and `qa` take it and never choose a row beyond the tokens. Needs torch
(tools/oracle/setup.sh --nightly), and the Python that has xllamacpp (tools/oracle/setup.sh).

    build/oracle-nightly/bin/python tests/interop/imports.py build/release/slipway build/oracle/bin/python [CASE...]
"""
import json
import os
import pathlib
import sys
import tempfile
from dataclasses import dataclass, field

os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "TRANSFORMERS_VERBOSITY": "error", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
import numpy as np
import safetensors
import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parents[1] / "support"), str(pathlib.Path(__file__).resolve().parent / "support")]
import llama_cpp  # noqa: E402
from program import Program, standard_library  # noqa: E402

transformers.utils.logging.disable_progress_bar()
LOGIT_TOLERANCE = 1e-3  # what equal may mean between two f32 programs (docs/formats/safetensors.md)
ROUNDING_TOLERANCE = 1e-5  # of one model twice in one program: gelu_new and gelu_pytorch_tanh are two orders of the same operations
# llama.cpp's GELU is a table of f16 values: it differs by up to an f16's rounding of each hidden unit
LLAMA_CPP_LOGIT_TOLERANCES = {"gpt2": 2e-2}
TOKENS, CONTEXT = 420, 512
TEXT = ("import os\n\ndef walk(top, depth=3):\n    return [f'{x}: 12345' for x in os.listdir(top)]  # ünï 日本\n"
        "<think>It's 1,234.5 things</think>\n\n  HELLO WE'LL go\t\r\n<tool_call>\n{}  </tool_call>") * 2
PROMPT = "def walk(top"
TEMPLATE = ("{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
            "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")
SPLITS = {
    "llama-bpe": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "qwen2": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"}
CLASSES = {"llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM), "qwen2": (transformers.Qwen2Config, transformers.Qwen2ForCausalLM),
           "qwen3": (transformers.Qwen3Config, transformers.Qwen3ForCausalLM), "gpt2": (transformers.GPT2Config, transformers.GPT2LMHeadModel)}
LINEAR = {"rope_type": "linear", "factor": 2.5}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}


@dataclass
class Case:
    family: str
    type: str = "f32"
    pre: str = "gpt-2"
    config: dict = field(default_factory=dict)
    rope: dict | None = None
    rope_key: str = "rope_parameters"  # as transformers 5 writes it; rope_scaling: as those before it do
    padding: int = 0    # rows of the embedding beyond the tokens
    shards: str = "1GB"
    bos: bool = False   # before every text
    template_file: str = "chat_template.jinja"
    unsupported_in_gguf: str = ""   # why there is none
    legacy_format: bool = False  # tensors as the first folders of the family had them

    @property
    def name(self):
        parts = [self.family, self.type, self.pre]
        parts += [f"{key}={value}" for key, value in self.config.items()]
        if self.rope:
            parts.append(f"{self.rope_key}={self.rope['rope_type']}")
        if self.legacy_format:
            parts.append("older")
        if self.padding:
            parts.append("padded")
        return "-".join(parts)


CASES = [
    Case("llama"),
    Case("llama", "bf16", "llama-bpe", {"tie_word_embeddings": True}, LLAMA3, "rope_scaling", shards="30KB", bos=True),
    Case("llama", "f16", "llama-bpe", {"head_dim": 24, "attention_bias": True}, LLAMA3, padding=13, bos=True),
    Case("llama", "f32", "smollm", {"head_dim": 12}, LINEAR, padding=60, shards="60KB", template_file="tokenizer_config.json"),
    Case("llama", "bf16", "smollm", {"attention_bias": True, "num_key_value_heads": 4, "tie_word_embeddings": True}, LINEAR, "rope_scaling"),
    Case("llama", "f16", "gpt-2", {"num_key_value_heads": 1, "rope_theta": 5e5}),
    Case("qwen2", "f32", "qwen2", {"tie_word_embeddings": True}, padding=60),
    Case("qwen2", "bf16", "qwen2", {"rope_theta": 2e5}, LINEAR, shards="30KB"),
    Case("qwen2", "f16", "gpt-2", {}, template_file="tokenizer_config.json"),
    Case("qwen3", "f32", "qwen2", {"head_dim": 32, "tie_word_embeddings": True}, padding=60, shards="60KB"),
    Case("qwen3", "bf16", "qwen2", {"head_dim": 8, "attention_bias": True}, unsupported_in_gguf="a bias of attention's output"),
    Case("qwen3", "f32", "qwen2", {}, LLAMA3, unsupported_in_gguf="llama3's RoPE scaling"),
    Case("qwen3", "f16", "gpt-2", {}, LINEAR, "rope_scaling"),
    Case("gpt2"),
    Case("gpt2", "f16", "gpt-2", {"tie_word_embeddings": False}, padding=13, shards="30KB"),
    Case("gpt2", "bf16", "qwen2", {"n_inner": 80}),
    Case("gpt2", legacy_format=True),
    Case("llama", "f16", "gpt-2", {"tie_word_embeddings": True}, legacy_format=True),
    Case("gpt2", "f32", "smollm", {"activation_function": "gelu_pytorch_tanh"}, padding=60, bos=True),
]


def trained_tokenizer(case, texts):
    """Of 420 tokens with those added: special ones, and ones that are found in any text."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=case.pre == "llama-bpe"))
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=case.pre not in SPLITS)
    if case.pre in SPLITS:
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(SPLITS[case.pre]), "isolated"), byte_level])
    elif case.pre == "smollm":
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level])
    else:
        tokenizer.pre_tokenizer = byte_level
    if case.pre == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.decoder = decoders.ByteLevel()
    special, plain = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], ["<think>", "</think>", "<tool_call>", "</tool_call>"]
    tokenizer.train([str(path) for path in texts],
                    trainers.BpeTrainer(vocab_size=TOKENS - len(special + plain), initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    tokenizer.add_special_tokens(special)
    tokenizer.add_tokens([AddedToken(text, special=False, normalized=False) for text in plain])
    assert tokenizer.get_vocab_size() == TOKENS, tokenizer.get_vocab_size()
    if case.bos:
        begin = [("<|endoftext|>", tokenizer.token_to_id("<|endoftext|>"))]
        tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False),
                                                        processors.TemplateProcessing(single="<|endoftext|> $A", special_tokens=begin)])
    return tokenizer


def random_model(case, seed):
    """Weights with which attention is not uniform, biases matter, and rows beyond the tokens have the largest logits."""
    torch.manual_seed(seed)
    config_args = dict(vocab_size=TOKENS + case.padding, tie_word_embeddings=False, bos_token_id=None, eos_token_id=None)
    if case.family == "gpt2":
        config_args |= dict(n_embd=64, n_layer=2, n_head=4, n_positions=CONTEXT, layer_norm_epsilon=1e-5, tie_word_embeddings=True)
    else:
        config_args |= dict(hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, rms_norm_eps=1e-5,
                      max_position_embeddings=CONTEXT)
    config = dict(case.config)
    theta = config.pop("rope_theta", 1e6 if case.family.startswith("qwen") else 1e4)
    if case.family != "gpt2":
        config_args["rope_parameters"] = {"rope_type": "default"} | (case.rope or {}) | {"rope_theta": theta}
    make_config, make_model = CLASSES[case.family]
    model = make_model(make_config(**(config_args | config))).eval()
    with torch.no_grad():
        for name, values in model.named_parameters():
            is_norm_gain = "norm" in name or ".ln_" in name
            if name.endswith(".bias"):
                values.normal_(0, 0.3)
            elif is_norm_gain:
                values.normal_(1, 0.2)
            else:
                values.normal_(0, 0.15 if "q_" in name or "k_" in name or "c_attn" in name else 0.1)
        model.get_output_embeddings().weight[TOKENS:] *= 4
        model.get_output_embeddings().weight[:TOKENS] *= 2
    return model


def write_legacy_config(folder, rope_key):
    """config.json as transformers 4 writes it: rope_theta by itself, rope_scaling beside it, torch_dtype."""
    if rope_key == "rope_parameters":
        return
    path = folder / "config.json"
    config = json.loads(path.read_text())
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    config["rope_scaling"] = rope
    config["torch_dtype"] = config.pop("dtype")
    path.write_text(json.dumps(config, indent=2))


def write_legacy_tensors(folder, case):
    """GPT-2's own names and its masks; a llama's frequencies of RoPE, and its tied head twice."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    for layer in range(2):
        if case.family == "gpt2":
            tensors[f"transformer.h.{layer}.attn.bias"] = torch.ones(1, 1, CONTEXT, CONTEXT).tril()
            tensors[f"transformer.h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
        else:
            tensors[f"model.layers.{layer}.self_attn.rotary_emb.inv_freq"] = 1e4 ** (-torch.arange(0, 16, 2) / 16)
    if case.family == "llama":
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    save_file({name.removeprefix("transformer."): values for name, values in tensors.items()}, path, metadata={"format": "pt"})


def tensor_bytes(folder):
    tensors = {}
    for file in sorted(folder.glob("*.safetensors")):
        tensors |= dict(safetensors.deserialize(file.read_bytes()))
    return tensors


def greedy(model, ids, end_ids, count):
    """The greedy continuation in which only ids of tokens are allowed."""
    ids, first = list(ids), len(ids)
    with torch.no_grad():
        while len(ids) < first + count and (len(ids) == first or ids[-1] not in end_ids):
            ids.append(int(model(torch.tensor([ids])).logits[0, -1, :TOKENS].argmax()))
    return ids[first:]


def check(program, case, python, texts, seed):
    folder = program.folder / "model"
    types = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
    trained = trained_tokenizer(case, texts)
    hf_tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=trained, bos_token="<|endoftext|>", eos_token="<|im_end|>")
    hf_tokenizer.chat_template = TEMPLATE
    model = random_model(case, seed).to(types[case.type])
    end_ids = [hf_tokenizer.convert_tokens_to_ids(text) for text in ("<|im_end|>", "<|endoftext|>")]
    model.generation_config.eos_token_id = end_ids
    model.save_pretrained(folder, max_shard_size=case.shards)
    hf_tokenizer.save_pretrained(folder, save_jinja_files=case.template_file != "tokenizer_config.json")
    assert (folder / "chat_template.jinja").exists() == (case.template_file == "chat_template.jinja")
    assert (len(list(folder.glob("*.safetensors"))) > 1) == (case.shards != "1GB")
    write_legacy_config(folder, case.rope_key)
    original_bytes = tensor_bytes(folder)
    if case.legacy_format:
        write_legacy_tensors(folder, case)

    reference_model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    reference_tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
    (program.folder / "t.txt").write_text(TEXT)
    ids = reference_tokenizer(TEXT)["input_ids"]
    ours = program.json("score", "model", "--text", "t.txt", "--logits", "ours.npy")
    assert ours["ids"] == ids, f"other ids\n{ids}\n{ours['ids']}"
    with torch.no_grad():
        reference_logits = reference_model(torch.tensor([ids])).logits[0].numpy()
    assert reference_logits[:, :TOKENS].std() > 0.5, "logits of a model that says nothing prove nothing"
    transformers_difference = np.abs(np.load(program.folder / "ours.npy") - reference_logits).max()
    assert transformers_difference < LOGIT_TOLERANCE, f"logits differ from transformers' by {transformers_difference}"

    if case.unsupported_in_gguf:
        program.refuses(2, "config", "export", "model", "--out", "model.gguf", says=[case.unsupported_in_gguf])
        llama_summary = "llama.cpp has none"
    else:
        program.run("export", "model", "--out", "model.gguf")
        llama_result = llama_cpp.evaluate(program.folder / "model.gguf", text=TEXT, add_special=True, python=python)
        assert llama_result["ids"] == ids, f"llama.cpp has other ids\n{ids}\n{llama_result['ids']}"
        llama_difference = np.abs(llama_result["logits"] - reference_logits).max()
        assert llama_difference < LLAMA_CPP_LOGIT_TOLERANCES.get(case.family, LOGIT_TOLERANCE), f"llama.cpp's logits differ from transformers' by {llama_difference}"
        assert (llama_result["eos"], llama_result["template"]) == (end_ids[0], TEMPLATE), llama_result
        llama_summary = f"llama.cpp {llama_difference:.1e} from it"

    program.run("export", "model", "--out", "again", "--type", case.type)
    assert tensor_bytes(program.folder / "again") == original_bytes, "other tensor bytes"
    reexported = transformers.AutoModelForCausalLM.from_pretrained(program.folder / "again", dtype=torch.float32, attn_implementation="eager").eval()
    with torch.no_grad():
        assert np.abs(reexported(torch.tensor([ids])).logits[0].numpy() - reference_logits).max() < ROUNDING_TOLERANCE, "the exported folder is another model"
    if case.type != "f32" and not case.unsupported_in_gguf:  # a GGUF of 16 bits, and back into a folder
        program.run("export", "model", "--out", "own.gguf", "--type", case.type)
        program.run("export", "own.gguf", "--out", "back", "--type", case.type)
        gguf_roundtrip = tensor_bytes(program.folder / "back")
        assert gguf_roundtrip.keys() == original_bytes.keys() and all(gguf_roundtrip[name]["data"] == original_bytes[name]["data"] for name in gguf_roundtrip), "other bytes after a GGUF"

    argmax_ids = reference_logits.argmax(-1)
    assert case.padding == 0 or (argmax_ids >= TOKENS).any(), "rows beyond the tokens must tempt"
    prompt = reference_tokenizer(PROMPT)["input_ids"]
    generated = program.json("generate", "model", "--prompt", PROMPT, "--tokens", 40, "--temperature", 0)
    assert generated["prompt_ids"] == prompt and generated["ids"] == greedy(reference_model, prompt, end_ids, 40), f"greedy {generated['ids']}"
    sampled = program.json("generate", "model", "--prompt", PROMPT, "--tokens", 300, "--temperature", 3, "--top_p", 1)
    assert max(sampled["ids"]) < TOKENS, "a row beyond the tokens was drawn"
    report = json.loads(program.run("qa", "model", "--text", "t.txt", "--json", expect=8).out)
    failed = {gate["id"] for gate in report["gates"] if gate["verdict"] not in ("pass", "warn", "not_applicable")}
    assert failed == {"loss_below_uniform", "loss_below_unigram"}, f"it has learned nothing, but qa also misses {failed}"
    print(f"ok {case.name}: {transformers_difference:.1e} from transformers, {llama_summary}", flush=True)


def run_cases(cases, check):
    """`check(program, case, python, texts, seed)` for the cases whose names have a word of the command line in them, each in a folder of its own."""
    program_path, python, *selected = sys.argv[1:]
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        texts = sorted(standard_library(pathlib.Path(folder) / "text", 100_000).iterdir())
        for seed, case in enumerate(cases):
            if selected and not any(part in case.name for part in selected):
                continue
            case_dir = pathlib.Path(folder) / str(seed)
            case_dir.mkdir()
            try:
                check(Program(program_path, case_dir), case, python, texts, seed)
            except AssertionError as error:
                failed.append(case.name)
                print(f"FAILED {case.name}: {error}", flush=True)
    if failed:
        sys.exit("failed: " + ", ".join(failed))


if __name__ == "__main__":
    run_cases(CASES, check)

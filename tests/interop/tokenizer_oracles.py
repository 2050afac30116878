"""Oracles of the tokenizer's tests: Slipway's program, `tokenizers`, and a real llama.cpp on a vocabulary-only GGUF."""
import ctypes
import glob
import importlib.util
import json
import os
import subprocess

import gguf


class Slipway:
    """The commands `slipway tokenizer ...`."""

    def __init__(self, program):
        self.program = program

    def run(self, *argv, stdin=b""):
        return subprocess.run([self.program, "tokenizer", *map(str, argv)], input=stdin, capture_output=True, check=False)

    def run_checked(self, *argv, stdin=b""):
        result = self.run(*argv, stdin=stdin)
        assert result.returncode == 0, (argv, result.stderr.decode("utf-8", "replace"))
        return result.stdout

    def encode(self, tokenizer, text, *flags):
        data = text if isinstance(text, bytes) else text.encode()
        return json.loads(self.run_checked("encode", "--tokenizer", tokenizer, "--json", *flags, stdin=data))["ids"]

    def decode(self, tokenizer, ids):
        return self.run_checked("decode", "--tokenizer", tokenizer, stdin=json.dumps(ids).encode())


def write_vocabulary_gguf(tokenizer_json, pre, path):
    """A GGUF without tensors that holds the tokenizer of a tokenizer.json."""
    with open(tokenizer_json, encoding="utf-8") as file:
        config = json.load(file)
    added = {token["id"]: token for token in config["added_tokens"]}
    ids = {id: token for token, id in config["model"]["vocab"].items()} | {id: token["content"] for id, token in added.items()}
    token_types = [gguf.TokenType.NORMAL if id not in added else
             gguf.TokenType.CONTROL if added[id]["special"] else gguf.TokenType.USER_DEFINED for id in range(len(ids))]
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in config["model"]["merges"]]

    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list([ids[id] for id in range(len(ids))])
    writer.add_token_types(token_types)
    writer.add_token_merges(merges)
    slipway_section = config["model"].get("slipway", {})
    writer.add_eos_token_id(slipway_section.get("eos", 0))
    writer.add_bos_token_id(slipway_section.get("bos", 0))
    writer.add_add_bos_token(False)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


class _ModelParams(ctypes.Structure):
    """llama_model_params of the pinned wheel; LlamaCpp checks its defaults."""
    _fields_ = [("devices", ctypes.c_void_p), ("tensor_buft_overrides", ctypes.c_void_p), ("n_gpu_layers", ctypes.c_int32),
                ("split_mode", ctypes.c_int), ("load_mode", ctypes.c_int), ("lazy_mode", ctypes.c_int), ("main_gpu", ctypes.c_int32),
                ("tensor_split", ctypes.c_void_p), ("progress_callback", ctypes.c_void_p), ("progress_data", ctypes.c_void_p),
                ("kv_overrides", ctypes.c_void_p), ("vocab_only", ctypes.c_bool), ("check_tensors", ctypes.c_bool),
                ("use_extra_bufts", ctypes.c_bool), ("no_host", ctypes.c_bool), ("no_alloc", ctypes.c_bool), ("load_mtp", ctypes.c_bool)]


class LlamaCpp:
    """The C interface of llama.cpp that xllamacpp's shared object exports."""

    def __init__(self, vocabulary_gguf):
        folder = os.path.dirname(importlib.util.find_spec("xllamacpp").origin)
        self.library = library = ctypes.CDLL(glob.glob(os.path.join(folder, "*.so"))[0])
        library.llama_model_default_params.restype = _ModelParams
        library.llama_model_load_from_file.restype = ctypes.c_void_p
        library.llama_model_load_from_file.argtypes = [ctypes.c_char_p, _ModelParams]
        library.llama_model_get_vocab.restype = ctypes.c_void_p
        library.llama_model_get_vocab.argtypes = [ctypes.c_void_p]
        library.llama_tokenize.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int32, ctypes.c_void_p, ctypes.c_int32,
                                           ctypes.c_bool, ctypes.c_bool]
        quiet = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
        self.quiet = quiet(lambda level, text, data: None)
        library.llama_log_set(self.quiet, None)
        params = library.llama_model_default_params()
        assert (params.vocab_only, params.check_tensors, params.use_extra_bufts, params.no_alloc) == (False, False, True, False), \
            "llama_model_params has another layout; update _ModelParams for this wheel"
        params.vocab_only = True
        self.model = library.llama_model_load_from_file(str(vocabulary_gguf).encode(), params)
        assert self.model, f"llama.cpp refuses {vocabulary_gguf}"
        self.vocabulary = library.llama_model_get_vocab(self.model)

    def encode(self, text, parse_special=False):
        data = text.encode()
        capacity = len(data) + 16
        ids = (ctypes.c_int32 * capacity)()
        count = self.library.llama_tokenize(self.vocabulary, data, len(data), ids, capacity, False, parse_special)
        assert count >= 0, count
        return ids[:count]

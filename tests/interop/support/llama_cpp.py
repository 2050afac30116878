"""A real llama.cpp, by ctypes from the shared object of the xllamacpp wheel: tokens, logits and greedy text of a GGUF.

llama.cpp ends its process on some bad files, so everything runs in a child; a file that it refuses raises LlamaCppError with
what it said. The keys and values of the cache are f32, flash attention and weight repacking are off: the set-up in
which logits can be compared (other set-ups round activations).

    result = evaluate("model.gguf", text="Once", generate=16)      result["ids"], result["logits"], result["generated"]
    result = evaluate("model.gguf", ids=[1, 2, 3])
"""

import ctypes
import importlib.util
import json
import os
import pathlib
import struct
import subprocess
import sys
import tempfile

import numpy as np

PINNED_VERSION = "2026.10.11549"
TIMEOUT_S = 300  # a tiny model takes one; a loaded machine more


class LlamaCppError(Exception):
    """llama.cpp does not load the file, or ended while running it."""


def evaluate(path, text=None, ids=None, generate=0, add_special=False, parse_special=False, texts=(), logits=True, python=sys.executable):
    """Runs the GGUF at `path` on a text or on ids. Returns ids, logits [len(ids), vocabulary], the `generate` ids that
    follow greedily and their text, the ids of each of `texts`, and bos, eos, add_bos, template, vocabulary, log. `python`
    is the one that has xllamacpp."""
    with tempfile.TemporaryDirectory() as folder:
        request = dict(path=str(path), text=text, ids=ids, generate=generate, add_special=add_special,
                        parse_special=parse_special, texts=list(texts), logits=logits, out=folder)
        child = subprocess.run([python, __file__], input=json.dumps(request), capture_output=True, text=True,
                               errors="replace", timeout=TIMEOUT_S, env={**os.environ, "OMP_WAIT_POLICY": "passive"})
        if child.returncode != 0:
            raise LlamaCppError(f"status {child.returncode}: " + " | ".join(child.stderr.strip().splitlines()[-6:]))
        result = json.loads(pathlib.Path(folder, "answer.json").read_text())
        if (file := pathlib.Path(folder, "logits.npy")).exists():
            result["logits"] = np.load(file)
        result["log"] = child.stderr
        return result


# What follows runs in the child.


class OpaqueParams(ctypes.Structure):
    """A struct of llama.cpp of which only some fields are known: its defaults are read, and a few bytes are changed."""

    _fields_ = [("raw", ctypes.c_ubyte * 512)]  # more than the real one: callee and caller see the same front

    def check_fields(self, what, offset, format, *values):
        actual = struct.unpack_from(format, bytes(self.raw), offset)
        if actual != values:
            raise SystemExit(f"{what} is not as in xllamacpp {PINNED_VERSION}: {actual} at {offset}, expected {values}")

    def set_fields(self, offset, format, *values):
        struct.pack_into(format, self.raw, offset, *values)


class Batch(ctypes.Structure):
    _fields_ = [("n_tokens", ctypes.c_int32), ("token", ctypes.POINTER(ctypes.c_int32)), ("embd", ctypes.c_void_p),
                ("pos", ctypes.POINTER(ctypes.c_int32)), ("n_seq_id", ctypes.POINTER(ctypes.c_int32)),
                ("seq_id", ctypes.POINTER(ctypes.POINTER(ctypes.c_int32))), ("logits", ctypes.POINTER(ctypes.c_int8))]


def open_library():
    spec = importlib.util.find_spec("xllamacpp")
    if spec is None:
        raise SystemExit(f"xllamacpp is missing: pip install xllamacpp=={PINNED_VERSION}")
    lib = ctypes.CDLL(next(map(str, pathlib.Path(spec.origin).parent.glob("xllamacpp*.so"))))
    handle, text, int32 = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int32
    ids = ctypes.POINTER(int32)
    for name, result, arguments in [
            ("llama_model_default_params", OpaqueParams, []), ("llama_context_default_params", OpaqueParams, []),
            ("llama_model_load_from_file", handle, [text, OpaqueParams]), ("llama_init_from_model", handle, [handle, OpaqueParams]),
            ("llama_model_get_vocab", handle, [handle]), ("llama_vocab_n_tokens", int32, [handle]),
            ("llama_vocab_bos", int32, [handle]), ("llama_vocab_eos", int32, [handle]),
            ("llama_vocab_get_add_bos", ctypes.c_bool, [handle]), ("llama_model_chat_template", text, [handle, text]),
            ("llama_tokenize", int32, [handle, text, int32, ids, int32, ctypes.c_bool, ctypes.c_bool]),
            ("llama_token_to_piece", int32, [handle, int32, ctypes.c_char_p, int32, int32, ctypes.c_bool]),
            ("llama_batch_init", Batch, [int32] * 3), ("llama_decode", int32, [handle, Batch]),
            ("llama_get_logits", ctypes.POINTER(ctypes.c_float), [handle])]:
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    return lib


class Model:
    """One model with one context of `tokens` positions."""

    def __init__(self, path, tokens):
        self.lib = lib = open_library()
        lib.llama_backend_init()
        params = lib.llama_model_default_params()
        params.check_fields("llama_model_params", 16, "iii", -1, 1, -1)      # n_gpu_layers, split_mode, main_gpu
        params.check_fields("llama_model_params", 72, "5?", False, False, True, False, False)  # the third is use_extra_bufts
        params.set_fields(74, "?", False)                                     # no repacked weights
        self.model = lib.llama_model_load_from_file(os.fsencode(path), params)
        if not self.model:
            raise SystemExit("llama.cpp refuses the file")
        context = lib.llama_context_default_params()
        context.check_fields("llama_context_params", 0, "IIII", 512, 2048, 512, 1)   # n_ctx, n_batch, n_ubatch, n_seq_max
        context.check_fields("llama_context_params", 28, "ii", 4, 4)                 # threads of decoding and of prompts
        context.check_fields("llama_context_params", 40, "4i", -1, -1, -1, -1)       # the last is flash attention: auto
        context.check_fields("llama_context_params", 104, "ii", 1, 1)                # f16 keys and values
        context.set_fields(0, "III", tokens, tokens, tokens)
        context.set_fields(28, "ii", 2, 2)
        context.set_fields(52, "i", 0)       # flash attention: off
        context.set_fields(104, "ii", 0, 0)  # f32 keys and values
        self.context = lib.llama_init_from_model(self.model, context)
        if not self.context:
            raise SystemExit("llama.cpp makes no context of the file")
        self.vocab = lib.llama_model_get_vocab(self.model)
        self.vocabulary = lib.llama_vocab_n_tokens(self.vocab)
        self.position = 0

    def tokenize(self, text, add_special, parse_special):
        data = text.encode()
        capacity = len(data) + 8
        ids = (ctypes.c_int32 * capacity)()
        count = self.lib.llama_tokenize(self.vocab, data, len(data), ids, capacity, add_special, parse_special)
        if count < 0:
            raise SystemExit(f"llama_tokenize asks for {-count} ids")
        return list(ids[:count])

    def piece(self, token):
        buffer = ctypes.create_string_buffer(512)
        count = self.lib.llama_token_to_piece(self.vocab, token, buffer, 512, 0, True)
        return buffer.raw[:max(0, count)]

    def decode(self, ids):
        """Logits after each of the ids, which follow what was decoded before."""
        batch = self.lib.llama_batch_init(len(ids), 0, 1)
        batch.n_tokens = len(ids)
        for i, token in enumerate(ids):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = token, self.position + i, 1, 1
            batch.seq_id[i][0] = 0
        if (status := self.lib.llama_decode(self.context, batch)) != 0:
            raise SystemExit(f"llama_decode gives {status}")
        self.position += len(ids)
        flat = np.ctypeslib.as_array(self.lib.llama_get_logits(self.context), (len(ids) * self.vocabulary,))
        return flat.reshape(len(ids), self.vocabulary).copy()


def handle_request(request):
    texts = request["texts"] + [request["text"] or ""]
    num_tokens = max([64] + [len(t.encode()) for t in texts] + [len(request["ids"] or [])]) + request["generate"] + 8
    model = Model(request["path"], (num_tokens + 255) // 256 * 256)
    lib = model.lib
    reply = dict(bos=lib.llama_vocab_bos(model.vocab), eos=lib.llama_vocab_eos(model.vocab),
                 add_bos=lib.llama_vocab_get_add_bos(model.vocab), vocabulary=model.vocabulary,
                 template=(lib.llama_model_chat_template(model.model, None) or b"").decode())
    reply["texts"] = [model.tokenize(t, request["add_special"], request["parse_special"]) for t in request["texts"]]
    ids = request["ids"]
    if ids is None:
        ids = model.tokenize(request["text"] or "", request["add_special"], request["parse_special"])
    reply["ids"], reply["generated"] = ids, []
    if request["logits"] and ids:
        logits = model.decode(ids)
        np.save(pathlib.Path(request["out"], "logits.npy"), logits)
        for _ in range(request["generate"]):
            reply["generated"].append(int(logits[-1].argmax()))
            logits = model.decode(reply["generated"][-1:])
    reply["generated_text"] = b"".join(map(model.piece, reply["generated"])).decode(errors="replace")
    pathlib.Path(request["out"], "answer.json").write_text(json.dumps(reply))


if __name__ == "__main__":
    handle_request(json.load(sys.stdin))
    os._exit(0)  # freeing gains nothing here

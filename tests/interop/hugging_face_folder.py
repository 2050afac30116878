"""Folders that the `safetensors` package wrote, in shards and in one file, f32, f16, bf16 and mixed, are read value by value,
and their tokenizers give the ids of `tokenizers` and, through a GGUF, of llama.cpp. Usage: hugging_face_folder.py <format_probe>"""

import json
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import unittest

import numpy as np
import safetensors
from safetensors import TensorSpec, safe_open
from safetensors.numpy import load_file, save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from tokenizer_oracles import LlamaCpp

PROBE = sys.argv.pop(1)
TEXT = "The 12 things: it's 1984, <think>on</think> \n\n <|im_end|> 3.14 and ½ of ٣٤  x"
CHAT = "{% for m in messages %}{{ m.content }}{% endfor %}"


def probe(*argv, status=0):
    child = subprocess.run([PROBE, *map(str, argv)], capture_output=True, text=True)
    assert child.returncode == status, child
    return child.stdout if status == 0 else child.stderr


def to_bf16(values):
    """bf16 values as the upper halves of f32 values, and these f32 values."""
    bits = (values.view(np.uint32) >> 16).astype(np.uint16)
    return bits, (bits.astype(np.uint32) << 16).view(np.float32)


def encode_values(values, type):
    """A tensor as that type holds it, and its values as f32."""
    if type == "bfloat16":
        return to_bf16(values)
    rounded = values.astype(type)
    return rounded, rounded.astype(np.float32)


def write_folder(source, model_dir, types, shards, seed):
    """The model in `source` again, its tensors of types by turns, dealt to so many shards. Returns the values to expect."""
    model_dir.mkdir()
    for name in ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(source / name, model_dir)
    rng, files, weight_map, expected, buffers = random.Random(seed), {}, {}, {}, []
    for index, (name, values) in enumerate(sorted(load_file(source / "model.safetensors").items())):
        type = types[index % len(types)]
        data, expected[name] = encode_values(values, type)
        file = "model.safetensors" if shards == 1 else f"model-{rng.randrange(shards) + 1:05}-of-{shards:05}.safetensors"
        files.setdefault(file, {})[name] = TensorSpec(dtype=type, shape=values.shape, data_ptr=data.ctypes.data, data_len=data.nbytes)
        buffers.append(data)  # until it is written: TensorSpec holds an address
        weight_map[name] = file
    for file, tensors in files.items():
        (model_dir / file).write_bytes(safetensors.serialize(tensors, metadata={"format": "pt"}))
    if shards > 1:
        (model_dir / "model.safetensors.index.json").write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))
    return expected


class HuggingFaceFolder(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def test_shards_of_every_type_are_read_exactly(self):
        for architecture, tied in (("llama", "tied"), ("qwen2", "untied"), ("qwen3", "untied")):
            source = self.folder / architecture
            probe("model", architecture, tied, 5, "f32", source)
            for index, types in enumerate((["float32"], ["float16"], ["bfloat16"], ["bfloat16", "float32", "float16"])):
                for shards in (1, 3, 7):
                    with self.subTest(architecture=architecture, types=types, shards=shards):
                        model_dir, reexported = self.folder / f"{architecture}-{index}-{shards}", self.folder / f"{architecture}-{index}-{shards}-f32"
                        expected = write_folder(source, model_dir, types, shards, index)
                        probe("reread", model_dir, reexported)
                        actual = load_file(reexported / "model.safetensors")
                        self.assertEqual(actual.keys(), expected.keys())
                        for name, values in expected.items():
                            np.testing.assert_array_equal(actual[name], values, name)

    def test_an_untouched_import_is_exported_with_the_same_tensor_bytes(self):
        source = self.folder / "source"
        probe("model", "llama", "untied", 5, "f32", source)
        for ours, theirs in (("f32", ["float32"]), ("f16", ["float16"]), ("bf16", ["bfloat16"]), ("stored", ["bfloat16", "float32", "float16"])):
            with self.subTest(type=ours):
                model_dir, reexported = self.folder / f"{ours}-in", self.folder / f"{ours}-out"
                write_folder(source, model_dir, theirs, 3, 1)
                probe("reread", model_dir, reexported, ours)
                original = {}
                for file in model_dir.glob("*.safetensors"):
                    original |= dict(safetensors.deserialize(file.read_bytes()))
                actual = dict(safetensors.deserialize((reexported / "model.safetensors").read_bytes()))
                self.assertEqual(actual, original)

    def test_a_shard_that_is_missing_or_cut_is_named(self):
        source, model_dir = self.folder / "source", self.folder / "sharded"
        probe("model", "llama", "tied", 5, "f32", source)
        write_folder(source, model_dir, ["float16"], 3, 1)
        shard = sorted(model_dir.glob("*.safetensors"))[1]
        contents = shard.read_bytes()
        shard.write_bytes(contents[:-1])
        self.assertIn(f"{shard.name}: ", probe("reread", model_dir, self.folder / "out", status=4))
        shard.unlink()
        self.assertIn(f"the shard {shard.name} is missing, one of the 3", probe("reread", model_dir, self.folder / "out", status=4))

    def test_other_types_are_refused_by_name(self):
        source, model_dir = self.folder / "source", self.folder / "doubles"
        probe("model", "llama", "tied", 5, "f32", source)
        shutil.copytree(source, model_dir)
        values = load_file(source / "model.safetensors")
        save_file(values | {"model.norm.weight": values["model.norm.weight"].astype(np.float64)}, model_dir / "model.safetensors")
        self.assertIn('is stored as "F64", but Slipway reads F32, F16 and BF16', probe("reread", model_dir, self.folder / "out", status=4))

    def make_tokenizer(self, model_dir):
        """SmolLM2's form, with added tokens of both kinds; fewer tokens than the embedding has rows."""
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        vocabulary = {symbol: id for id, symbol in enumerate(alphabet)} | {"th": 256, "the": 257}
        tokenizer = Tokenizer(models.BPE(vocabulary, [("t", "h"), ("th", "e")]))
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                                           pre_tokenizers.ByteLevel(add_prefix_space=False)])
        tokenizer.decoder = decoders.ByteLevel()
        tokenizer.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
        tokenizer.add_tokens([AddedToken(text, special=False, normalized=False) for text in ("<think>", "</think>")])
        tokenizer.save(str(model_dir / "tokenizer.json"))
        ids = tokenizer.get_vocab()
        (model_dir / "tokenizer_config.json").write_text(json.dumps({
            "bos_token": "<|im_start|>", "eos_token": {"content": "<|im_end|>", "lstrip": False}, "add_bos_token": False,
            "chat_template": [{"name": "default", "template": "old"}, {"name": "tool_use", "template": "tools"}]}))
        (model_dir / "chat_template.jinja").write_text(CHAT)
        (model_dir / "generation_config.json").write_text(json.dumps({"eos_token_id": [ids["<|im_end|>"], ids["<|endoftext|>"]]}))
        return tokenizer

    def test_its_tokenizer_gives_equal_ids_in_every_program(self):
        model_dir = self.folder / "model"
        probe("model", "llama", "untied", 5, "f32", model_dir)
        reference = self.make_tokenizer(model_dir)
        id = reference.token_to_id
        self.assertEqual(json.loads(probe("tokens", model_dir)), {
            "bos": id("<|im_start|>"), "add_bos": False, "ends": [id("<|im_end|>"), id("<|endoftext|>")], "chat_template": CHAT})

        ours = [int(token) for token in probe("ids", model_dir, TEXT, "special").split()]
        self.assertEqual(ours, reference.encode(TEXT).ids)
        self.assertIn(id("<think>"), [int(token) for token in probe("ids", model_dir, TEXT, "plain").split()])
        probe("reread", model_dir, self.folder / "m.gguf")
        llama = LlamaCpp(self.folder / "m.gguf")
        for special in (True, False):
            self.assertEqual([int(token) for token in probe("ids", model_dir, TEXT, "special" if special else "plain").split()],
                             llama.encode(TEXT, parse_special=special))

        probe("reread", model_dir, self.folder / "again")
        self.assertEqual(probe("tokens", self.folder / "again"), probe("tokens", model_dir))
        reexported = Tokenizer.from_file(str(self.folder / "again" / "tokenizer.json"))
        self.assertEqual(reexported.encode(TEXT).ids, ours)
        self.assertEqual(json.loads((self.folder / "again" / "generation_config.json").read_text())["eos_token_id"],
                         [id("<|im_end|>"), id("<|endoftext|>")])
        with safe_open(self.folder / "again" / "model.safetensors", "numpy") as file:
            self.assertEqual(file.get_slice("model.embed_tokens.weight").get_shape()[0], 290, "rows beyond the tokens are kept")


if __name__ == "__main__":
    unittest.main()

"""The `safetensors` package, `tokenizers` and numpy read what we export. Usage: safetensors_oracle.py <format_probe>"""

import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

import numpy as np
from safetensors import safe_open
from tokenizers import Tokenizer

PROBE = sys.argv.pop(1)
TYPES = {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}


def probe(*argv, status=0):
    child = subprocess.run([PROBE, *map(str, argv)], capture_output=True, text=True)
    assert child.returncode == status, child
    return child


class ExportedFolder(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def test_weights_configuration_and_tokenizer_are_read(self):
        for architecture in ("llama", "qwen2", "qwen3"):
            for type, torch_name in TYPES.items():
                with self.subTest(architecture=architecture, type=type):
                    model_dir = self.folder / f"{architecture}-{type}"
                    probe("model", architecture, "tied", 5, type, model_dir)
                    config = json.loads((model_dir / "config.json").read_text())
                    self.assertEqual((config["model_type"], config["torch_dtype"]), (architecture, torch_name))
                    with safe_open(model_dir / "model.safetensors", "numpy") as file:
                        self.assertEqual(file.metadata()["format"], "pt")
                        self.assertNotIn("lm_head.weight", file.keys())
                        shape = file.get_slice("model.layers.1.self_attn.k_proj.weight").get_shape()
                        self.assertEqual(shape, [2 * config["head_dim"], 96])
                    self.assertEqual(sorted(one.name for one in model_dir.iterdir()),
                                     ["README.md", "config.json", "generation_config.json", "model.safetensors",
                                      "tokenizer.json", "tokenizer_config.json"])
                    tokenizer = Tokenizer.from_file(str(model_dir / "tokenizer.json"))
                    self.assertEqual(tokenizer.get_vocab_size(), config["vocab_size"])
                    self.assertEqual(tokenizer.token_to_id("<|endoftext|>"), config["eos_token_id"])
                    self.assertEqual(tokenizer.decode(tokenizer.encode("the thing on").ids), "the thing on")

    def test_halves_are_the_rounded_singles(self):
        values = {}
        for type in ("f32", "f16"):
            probe("model", "qwen2", "untied", 5, type, self.folder / type)
            with safe_open(self.folder / type / "model.safetensors", "numpy") as file:
                values[type] = {name: file.get_tensor(name) for name in file.keys()}
        self.assertEqual(values["f32"].keys(), values["f16"].keys())
        for name, value in values["f32"].items():
            np.testing.assert_array_equal(value.astype(np.float16), values["f16"][name], name)

    def test_a_filled_folder_is_refused_and_left_alone(self):
        (self.folder / "mine").write_text("x")
        child = probe("model", "llama", "tied", 5, "f32", self.folder, status=2)
        self.assertIn("is not empty", child.stderr)
        self.assertEqual([one.name for one in self.folder.iterdir()], ["mine"])

    def test_a_quantized_folder_is_refused(self):
        child = probe("model", "llama", "tied", 5, "q8_0", self.folder / "q", status=2)
        self.assertIn("safetensors has no type q8_0", child.stderr)

    def test_numpy_reads_our_matrix(self):
        probe("npy", self.folder / "m.npy")
        array = np.load(self.folder / "m.npy")
        self.assertEqual(array.dtype, np.float32)
        np.testing.assert_array_equal(array, [[0, 0.5], [1, 1.5], [2, 2.5]])


if __name__ == "__main__":
    unittest.main()

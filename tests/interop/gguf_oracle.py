"""The `gguf` package reads our files, quantizes to our bytes, and writes files that we read.
Usage: gguf_oracle.py <format_probe>"""

import pathlib
import subprocess
import sys
import tempfile
import unittest

import gguf
import numpy as np
from safetensors.numpy import load_file

PROBE = sys.argv.pop(1)
TYPES = {name: gguf.GGMLQuantizationType[name.upper()] for name in ("f32", "f16", "bf16", "q8_0", "q4_0")}
FILE_TYPES = {"f32": 0, "f16": 1, "bf16": 32, "q8_0": 7, "q4_0": 2}


def probe(*argv):
    return subprocess.run([PROBE, *map(str, argv)], check=True, capture_output=True, text=True).stdout


def edge_case_values():
    """Many scales, ties, negatives, zeros, equal extremes, and numbers that f16 rounds to nothing."""
    random = np.random.default_rng(7)
    rows = [random.standard_normal(4096) * scale for scale in (1.0, 1e-3, 1e-6, 30.0, 1e3)]
    rows.append(random.integers(-127, 128, 4096) / 2.0)             # ties
    rows.append(np.where(random.random(4096) < 0.5, 1.0, -1.0))     # the same magnitude with both signs
    rows.append(np.zeros(4096))
    rows.append(random.standard_normal(4096) * 10.0 ** random.integers(-12, 3, 4096))
    return np.concatenate(rows).astype(np.float32)


class GgufPackage(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def test_every_type_has_the_packages_bytes_and_values(self):
        values = edge_case_values()
        values.tofile(self.folder / "in")
        for name, type in TYPES.items():
            with self.subTest(type=name):
                probe("encode", name, self.folder / "in", self.folder / "stored")
                stored = np.fromfile(self.folder / "stored", np.uint8)
                expected = gguf.quants.quantize(values.reshape(-1, 4096), type)
                np.testing.assert_array_equal(stored, expected.view(np.uint8).ravel())
                probe("decode", name, self.folder / "stored", self.folder / "back")
                actual = np.fromfile(self.folder / "back", np.float32)
                np.testing.assert_array_equal(actual, gguf.quants.dequantize(expected, type).ravel())

    def test_metadata_of_every_type_is_read(self):
        probe("metadata", self.folder / "m.gguf")
        fields = gguf.GGUFReader(self.folder / "m.gguf").fields
        actual = {key: field.contents() for key, field in fields.items() if key.startswith("a.")}
        expected = {"a.u8": 200, "a.i16": -30000, "a.f32": np.float32(0.1), "a.f64": 0.1, "a.bool": True, "a.u64": 1 << 63,
                "a.text": "ünï", "a.texts": ["", "x", "two words"], "a.numbers": [1, -2, 3], "a.flags": [True, False]}
        self.assertEqual(actual, expected)

    def test_exported_models_hold_the_folders_weights_quantized(self):
        for architecture in ("llama", "qwen3"):
            probe("model", architecture, "untied", 9, "f32", self.folder / architecture)
            weights = load_file(self.folder / architecture / "model.safetensors")
            names = gguf.get_tensor_name_map(getattr(gguf.MODEL_ARCH, architecture.upper()), 2)
            for type in TYPES:
                with self.subTest(architecture=architecture, type=type):
                    file = self.folder / "m.gguf"
                    probe("model", architecture, "untied", 9, type, file)
                    reader = gguf.GGUFReader(file)
                    self.assertEqual(reader.fields["general.file_type"].contents(), FILE_TYPES[type])
                    actual = {tensor.name: tensor for tensor in reader.tensors}
                    self.assertEqual(len(actual), len(weights))
                    for name, value in weights.items():
                        tensor = actual[names.get_name(name, try_suffixes=(".weight", ".bias"))]
                        self.assertEqual(list(tensor.shape), list(reversed(value.shape)))
                        if architecture == "llama" and name.endswith(("q_proj.weight", "k_proj.weight")):
                            heads = 6 if "q_proj" in name else 2  # as the converter's permute()
                            halves = value.reshape(heads, 2, value.shape[0] // heads // 2, -1)
                            value = halves.swapaxes(1, 2).reshape(value.shape)
                        expected = TYPES["f32"] if value.ndim == 1 else TYPES[type]
                        self.assertEqual(tensor.tensor_type, expected, name)
                        np.testing.assert_array_equal(tensor.data.view(np.uint8).ravel(),
                                                      gguf.quants.quantize(value, expected).view(np.uint8).ravel(), name)

    def test_a_file_of_the_package_is_read_as_a_model(self):
        """A file as llama.cpp's converter writes it: few keys, another order of tensors, f16."""
        probe("model", "qwen2", "tied", 9, "f16", self.folder / "ours.gguf")
        reader = gguf.GGUFReader(self.folder / "ours.gguf")
        writer = gguf.GGUFWriter(self.folder / "theirs.gguf", "qwen2")
        for key, field in reader.fields.items():
            if not key.startswith(("GGUF.", "slipway.", "general.architecture")) and "value_length" not in key:
                value_type = field.types[0]
                element_type = field.types[-1] if value_type == gguf.GGUFValueType.ARRAY else None
                writer.add_key_value(key, field.contents(), value_type, element_type)
        for tensor in sorted(reader.tensors, key=lambda one: one.name):
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        probe("reread", self.folder / "theirs.gguf", self.folder / "again.gguf")
        reexported = {tensor.name: tensor.data for tensor in gguf.GGUFReader(self.folder / "again.gguf").tensors}
        for tensor in reader.tensors:
            np.testing.assert_array_equal(reexported[tensor.name], tensor.data.astype(np.float32), tensor.name)


if __name__ == "__main__":
    unittest.main()

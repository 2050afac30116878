"""llama.cpp loads what the exporter writes and computes the reference's logits: llama, qwen2, qwen3, gpt2, tied and untied,
grouped key-value heads, RoPE scaled, every type. Usage: llama_logits.py <format_probe>"""

import pathlib
import subprocess
import sys
import tempfile
import unittest

import gguf
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parent / "support"))
import llama_cpp
from reference_model import ReferenceModel, nll

PROBE = sys.argv.pop(1)
TOKENS = 61
# llama.cpp sums in f32 over rows of at most 192 entries through two layers: 1e-5 measured, 1e-3 promised
LOGIT_TOLERANCE = 1e-3
MEAN_NLL_TOLERANCE = 1e-5
# its GELU is a table of f16 inputs and outputs: of values around 1, five roundings of 5e-4 each in a logit
GELU_LOGIT_TOLERANCE, GELU_MEAN_NLL_TOLERANCE = 2e-2, 1e-3
# f16 and bf16 weights make llama.cpp round activations alike, 8- and 4-bit ones make it round them to 8 bits
QUANTIZED_NLL_TOLERANCE = {"f16": 2e-3, "bf16": 2e-2, "q8_0": 5e-2, "q4_0": 5e-2}


def probe(*argv):
    return subprocess.run([PROBE, *map(str, argv)], check=True, capture_output=True, text=True).stdout


def write_dequantized(source, target):
    """The same model in f32 with every weight dequantized, for comparing the logits of a quantized file."""
    reader = gguf.GGUFReader(source)
    architecture = reader.fields["general.architecture"].contents()
    writer = gguf.GGUFWriter(target, architecture)
    for key, field in reader.fields.items():
        if key.startswith("GGUF.") or key in ("general.architecture", "general.file_type"):
            continue
        value_type = field.types[0]
        writer.add_key_value(key, field.contents(), value_type, field.types[-1] if value_type == gguf.GGUFValueType.ARRAY else None)
    for tensor in reader.tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        writer.add_tensor(tensor.name, np.ascontiguousarray(values.reshape(tuple(reversed(tensor.shape.tolist())))))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


class LlamaCpp(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def export(self, architecture, tied, type="f32", seed=3):
        file = self.folder / f"{architecture}-{tied}-{type}-{seed}.gguf"
        probe("model", architecture, tied, seed, type, file)
        return file

    def test_f32_files_give_the_reference_logits_and_greedy_ids(self):
        for architecture in ("llama", "llama+linear", "llama+llama3", "qwen2", "qwen2+linear", "qwen3", "gpt2"):
            for tied in ("tied", "untied"):
                with self.subTest(architecture=architecture, tied=tied):
                    folder = self.folder / f"{architecture}-{tied}"
                    probe("model", architecture, tied, 3, "f32", folder)
                    reference = ReferenceModel.load(folder)
                    ids = np.random.default_rng(4).integers(0, reference.config["vocab_size"], TOKENS).tolist()
                    result = llama_cpp.evaluate(self.export(architecture, tied), ids=ids, generate=8)
                    expected = reference.logits(ids)
                    self.assertGreater(expected.std(), 0.5, "logits of a model that says nothing prove nothing")
                    max_difference = np.abs(result["logits"] - expected).max()
                    print(f"{architecture} {tied}: worst logit {max_difference:.2e}")
                    uses_gelu_table = architecture == "gpt2"
                    self.assertLess(max_difference, GELU_LOGIT_TOLERANCE if uses_gelu_table else LOGIT_TOLERANCE)
                    self.assertLess(abs(nll(result["logits"], ids).mean() - nll(expected, ids).mean()),
                                    GELU_MEAN_NLL_TOLERANCE if uses_gelu_table else MEAN_NLL_TOLERANCE)
                    self.assertEqual(result["generated"], reference.greedy(ids, 8))

    def test_a_model_with_swapped_rows_would_be_noticed(self):
        folder = self.folder / "m"
        probe("model", "llama", "tied", 3, "f32", folder)
        reference = ReferenceModel.load(folder)
        name = "model.layers.0.self_attn.q_proj.weight"
        rows = reference.weights[name].reshape(reference.heads, 2, reference.head_width // 2, -1)
        reference.weights[name] = rows.swapaxes(1, 2).reshape(reference.weights[name].shape)
        ids = np.random.default_rng(4).integers(0, reference.config["vocab_size"], TOKENS).tolist()
        result = llama_cpp.evaluate(self.export("llama", "tied"), ids=ids)
        self.assertGreater(np.abs(result["logits"] - reference.logits(ids)).max(), 10 * LOGIT_TOLERANCE)

    def test_every_stored_type_computes_what_its_weights_say(self):
        cases = [("llama", "untied", type) for type in QUANTIZED_NLL_TOLERANCE]
        cases += [("qwen2", "tied", "q8_0"), ("qwen3", "untied", "q4_0"), ("gpt2", "untied", "q8_0"), ("gpt2", "tied", "f16")]
        for architecture, tied, type in cases:
            with self.subTest(architecture=architecture, type=type):
                file = self.export(architecture, tied, type)
                plain, ours = self.folder / "plain.gguf", self.folder / "ours.gguf"
                write_dequantized(file, plain)              # by the gguf package
                probe("reread", file, ours)           # by our own reader and exporter
                ids = np.random.default_rng(5).integers(0, 290, TOKENS).tolist()
                expected = llama_cpp.evaluate(plain, ids=ids)["logits"]
                self.assertEqual(np.abs(llama_cpp.evaluate(ours, ids=ids)["logits"] - expected).max(), 0.0)
                direct = llama_cpp.evaluate(file, ids=ids)["logits"]
                self.assertLess(abs(nll(direct, ids).mean() - nll(expected, ids).mean()), QUANTIZED_NLL_TOLERANCE[type])

    def test_the_tokenizer_arrives_whole(self):
        result = llama_cpp.evaluate(self.export("llama", "tied"), text="the thing <|endoftext|>\n\x00on", parse_special=True,
                              texts=["  123 don't"], logits=False)
        self.assertEqual((result["bos"], result["eos"], result["add_bos"]), (264, 264, False))
        self.assertEqual(result["template"], "{{ messages[0].content }}")
        self.assertIn(264, result["ids"])
        self.assertEqual(result["vocabulary"], 290)

    def test_added_tokens_and_a_padded_embedding_are_llama_cpps(self):
        """Tokens that are not special (Qwen's <tool_call>), with a blank inside, of no use, and rows behind them all."""
        file, folder = self.folder / "added.gguf", self.folder / "added"
        probe("added", 3, file)
        probe("added", 3, folder)
        reference = ReferenceModel.load(folder)
        for special in (False, True):
            text = "a<think>the thing</think> <two words>\n<|end of turn|>[reserved]<|endoftext|> two words<think"
            result = llama_cpp.evaluate(file, text=text, parse_special=special)
            ids = [int(id) for id in probe("ids", file, text, "special" if special else "plain").split()]
            self.assertEqual(ids, result["ids"])
            self.assertTrue({290, 291, 292} <= set(ids) and (293 in ids) == special and 294 not in ids, ids)
            self.assertEqual(result["vocabulary"], 320)
            self.assertLess(np.abs(result["logits"] - reference.logits(ids)).max(), LOGIT_TOLERANCE)
        probe("reread", file, self.folder / "again.gguf")
        reexported = gguf.GGUFReader(self.folder / "again.gguf").fields
        first = gguf.GGUFReader(file).fields
        for key in ("tokens", "token_type", "eot_token_id"):
            self.assertEqual(reexported[f"tokenizer.ggml.{key}"].contents(), first[f"tokenizer.ggml.{key}"].contents())

    def test_a_file_that_is_cut_is_refused(self):
        file = self.export("llama", "tied")
        file.write_bytes(file.read_bytes()[:-4096])
        with self.assertRaises(llama_cpp.LlamaCppError):
            llama_cpp.evaluate(file, ids=[1])


if __name__ == "__main__":
    unittest.main()

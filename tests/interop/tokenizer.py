"""Slipway's ids equal those of `tokenizers` and of llama.cpp on valid UTF-8; files go both ways; training equals its twin.

Usage: tokenizer.py SLIPWAY [--all-code-points]
"""
import argparse
import json
import os
import random
import sys
import sysconfig
import tempfile
import unittest

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, processors, trainers

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from tokenizer_oracles import LlamaCpp, Slipway, write_vocabulary_gguf

PRE_TOKENIZERS = ("gpt-2", "llama-bpe", "qwen2", "smollm")
ARGUMENTS = None

PROSE = """It's a truth universally acknowledged, that they'd rather we're "sure"; I'LL say: don't you? THEY'VE said: 'tis
naïve café, façade — coöperate… «Größe» straße ΑΒΓ Σίσυφος Привет, мир! 你好，世界。 こんにちは 세계 नमस्ते สวัสดี مرحبا שלום
In 1984 there were 12345678 people, ½ of them ²³ years old, ٣٤٥ ४५६ Ⅷ times; 3.14159e-10, 0xDEADBEEF, 1,000,000.
"""

EDGE_CASES = [
    "", " ", "  ", "\n", "\r\n", "\t", " \n", "\n ", "  \n  \n", "a\n\nb", "a \n b", "a\r\n\r\nb", "x  y   z    ", "\n\n\n", " \r\n \t\n x",
    "\u00a0\u2003\u3000x\u0085y\u1680 \u2028\u2029z \u200b\ufeff", "def f(x):\n    return x  # ok\n\n\n\tif  True:\r\n\t\tpass\r\n",
    "'s't're've'm'll'd", "I'S it'T WE'RE you'VE I'M he'LL she'D", "'Stop 'lL ''s '''re  's \n's 'x 'é", "can't've", "don't'\n", "'",
    "1", "12", "123", "1234", "1234567890", "a1b22c333d4444", " 1 12 123 1234", "1٢३四½", "\u0661\u0662\u0663\u0664", "x²y³",
    "👩‍👩‍👧‍👦 👍🏽 🏳️‍🌈 🇩🇪🇫🇷 ❤️", "각\u1100\u1161\u11a8 한글 \u1112\u1161\u11ab", "e\u0301 a\u0308\u0323 \u0301x Z\u0335\u0321a\u0315\u0337l\u0316g\u0324o",
    "\ue000\uf8ff \U000f0000\U0010fffd", "a\0b\0\0c", "\0", "\x7f\x01\x1b[0m", "\ufffd\ufffe\uffff", "\u180e\u2060\u061c", "\U0001d400\U0001d7d8 \U00020000",
    "!!!???\n\n...\r\n;;; -- ==> != <|x|> // /* */ \\n", " !a !1 ! \n!", "#\n#\n # \n", "_a __init__ _1 a_b", "ſ'ſ 'ſ", "İ'İ K'K", "ǅ ʰ ª º ⅷ ⓐ",
    "<|endoftext|> <|im_start|>user<|im_end|> <|begin_of_text|>", "a" * 20_000, " " * 20_000 + "x", "\n" * 5_000 + "x", "é" * 7_000, "1" * 5_000, "ab" * 9_999,
    "-" * 10_000 + "\n" * 100, "\u0301" * 3_000, " \n" * 3_000 + " ",
]
# Where `tokenizers` differs from llama.cpp, which wins; the list of docs/tokenizers.md, proved complete below.
LONG_S = "\u017f"  # after an apostrophe: (?i:'s) of Oniguruma folds it to s, llama.cpp does not
NEWER_UNICODE = [  # letters and numbers of Unicode 16, which llama.cpp's tables do not have
    (0x1C89, 0x1C8A), (0xA7CB, 0xA7CD), (0xA7DA, 0xA7DC), (0x105C0, 0x105F3), (0x10D40, 0x10D65), (0x10D6F, 0x10D85), (0x10EC2, 0x10EC4),
    (0x11380, 0x11389), (0x1138B, 0x1138B), (0x1138E, 0x1138E), (0x11390, 0x113B5), (0x113B7, 0x113B7), (0x113D1, 0x113D1), (0x113D3, 0x113D3),
    (0x116D0, 0x116E3), (0x11BC0, 0x11BE0), (0x11BF0, 0x11BF9), (0x13460, 0x143FA), (0x16100, 0x1611D), (0x16130, 0x16139), (0x16D40, 0x16D6C),
    (0x16D70, 0x16D79), (0x18CFF, 0x18CFF), (0x1CCF0, 0x1CCF9), (0x1E5D0, 0x1E5ED), (0x1E5F0, 0x1E5FA)]
NEWER_NUMBERS = [(0x11DE0, 0x11DE9), (0x16FF4, 0x16FF6)]  # of Unicode 17, which the step Digits of `tokenizers` has and its patterns lack

INVALID = [b"\xff", b"a\xc3", b"\xe2\x82", b"\xf0\x9f\x98 x", b"\xed\xa0\x80\xed\xb0\x80", b"\xc0\x80", b"\xf5\x80\x80\x80", b"\x80\x80 \xbf's", bytes(range(256))]


def code_texts(count=40):
    """Python's own library: code with comments, as it lies on this machine."""
    folder = sysconfig.get_paths()["stdlib"]
    names = sorted(name for name in os.listdir(folder) if name.endswith(".py"))[:count]
    texts = []
    for name in names:
        with open(os.path.join(folder, name), encoding="utf-8", newline="") as file:
            texts.append(file.read())
    return texts


def random_texts(seed, count):
    """Short texts over an alphabet of difficult characters."""
    alphabet = list(" \n\r\t'\u00a0\u2028\u3000sStTrReEvVlLmMdDaé汉\u0301\u200d👍1٣½².,!_-\0\ue000") + ["'s", "'LL", "  ", "\r\n", "12", "ab"]
    rng = random.Random(seed)
    return ["".join(rng.choices(alphabet, k=rng.randint(1, 40))) for _ in range(count)]


def random_code_points(seed, count):
    """Texts over all of Unicode, surrogates left out."""
    rng = random.Random(seed)
    codes = (code for code in iter(lambda: rng.randrange(0x110000), None) if not 0xD800 <= code <= 0xDFFF)
    return ["".join(chr(next(codes)) + rng.choice(["", " ", "a", "1", "!", "\n"]) for _ in range(30)) for _ in range(count)]


class TrainedTokenizers(unittest.TestCase):
    """One tokenizer for each pre-tokenizer, trained by Slipway on code and prose."""

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.slipway = Slipway(ARGUMENTS.slipway)
        cls.texts = code_texts()
        with open(cls.path("train.jsonl"), "w", encoding="utf-8") as file:
            for text in cls.texts + [PROSE * 20]:
                file.write(json.dumps({"text": text}) + "\n")
        cls.files, cls.llama = {}, {}
        for pre in PRE_TOKENIZERS:
            cls.files[pre] = cls.path(pre + ".json")
            cls.slipway.run_checked("train", "--input", cls.path("train.jsonl"), "--tokenizer.vocabulary", 3001, "--tokenizer.pre", pre, "--out", cls.files[pre])
            write_vocabulary_gguf(cls.files[pre], pre, cls.path(pre + ".gguf"))
            cls.llama[pre] = LlamaCpp(cls.path(pre + ".gguf"))

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    @classmethod
    def path(cls, name):
        return os.path.join(cls.folder.name, name)

    def encode_all(self, tokenizer_json, texts):
        """One start of the program for all texts: they are joined by a special token and the ids cut at its id."""
        separator = "<|slipway-separator|>"
        with open(tokenizer_json, encoding="utf-8") as file:
            config = json.load(file)
        id = len(config["model"]["vocab"])
        config["added_tokens"].append({"id": id, "content": separator, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False})
        with open(self.path("separated.json"), "w", encoding="utf-8") as file:
            json.dump(config, file)
        ids, parts = self.slipway.encode(self.path("separated.json"), separator.join(texts)), [[]]
        for one in ids:
            if one == id:
                parts.append([])
            else:
                parts[-1].append(one)
        self.assertEqual(len(parts), len(texts))
        return parts

    def all_texts(self):
        return EDGE_CASES + self.texts[:15] + [PROSE] + random_texts(1, 3000) + random_code_points(2, 1500)

    def first_difference(self, texts, actual, expected):
        for text, actual_ids, expected_ids in zip(texts, actual, expected):
            if actual_ids != expected_ids:
                return f"{text[:200]!r}: got {actual_ids[:60]}, want {expected_ids[:60]}"
        return None

    def test_ids_equal_llama_cpp(self):
        texts = self.all_texts()
        for pre in PRE_TOKENIZERS:
            with self.subTest(pre=pre):
                expected = [self.llama[pre].encode(text) for text in texts]
                self.assertIsNone(self.first_difference(texts, self.encode_all(self.files[pre], texts), expected))

    def test_ids_equal_tokenizers(self):
        for pre in PRE_TOKENIZERS:
            with self.subTest(pre=pre):
                reference = tokenizers.Tokenizer.from_file(self.files[pre])
                reference.encode_special_tokens = True
                texts = [text for text in self.all_texts() if LONG_S not in text]
                expected = [one.ids for one in reference.encode_batch(texts, add_special_tokens=False)]
                self.assertIsNone(self.first_difference(texts, self.encode_all(self.files[pre], texts), expected))

    def test_special_tokens_are_found_only_when_asked_for(self):
        text = "<|im_start|>user\nhi<|im_end|><|im_end|><|endoftext|>"
        reference = tokenizers.Tokenizer.from_file(self.files["qwen2"])
        expected = reference.encode(text, add_special_tokens=False).ids
        self.assertEqual(expected, self.llama["qwen2"].encode(text, parse_special=True))
        self.assertEqual(self.slipway.encode(self.files["qwen2"], text, "--special"), expected)
        self.assertNotEqual(self.slipway.encode(self.files["qwen2"], text), expected)
        self.assertEqual(self.slipway.decode(self.files["qwen2"], expected).decode(), text)

    def test_any_bytes_come_back(self):
        rng = random.Random(3)
        for pre in PRE_TOKENIZERS:
            for data in INVALID + [rng.randbytes(3000)] + [EDGE_CASES[23].encode()]:
                self.assertEqual(self.slipway.decode(self.files[pre], self.slipway.encode(self.files[pre], data)), data)

    def test_llama_bpe_begins_texts_with_bos_in_tokenizers(self):
        reference = tokenizers.Tokenizer.from_file(self.files["llama-bpe"])
        self.assertEqual(reference.encode("x").ids[0], reference.token_to_id("<|begin_of_text|>"))
        self.assertEqual(tokenizers.Tokenizer.from_file(self.files["gpt-2"]).encode("x").tokens, ["x"])

    def test_decoding_equals_tokenizers(self):
        for pre in PRE_TOKENIZERS:
            reference = tokenizers.Tokenizer.from_file(self.files[pre])
            ids = reference.encode(PROSE, add_special_tokens=False).ids
            self.assertEqual(self.slipway.decode(self.files[pre], ids).decode(), reference.decode(ids))

    def test_bytes_without_a_token_are_left_out_by_smollm(self):
        """As in SmolLM2's own vocabulary. `tokenizers` leaves them out before it merges, llama.cpp after."""
        with open(self.files["smollm"], encoding="utf-8") as file:
            config = json.load(file)
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        missing_symbols = [symbol for symbol in (chr(0x104), chr(0x11D), "\u00f1", "\u00ff") if symbol in alphabet]  # bytes 4, 29, 241, 255
        self.assertEqual(len(missing_symbols), 4)
        model = config["model"]
        model["merges"] = [merge for merge in model["merges"] if not any(symbol in merge for symbol in missing_symbols)]
        for index, symbol in enumerate(missing_symbols):
            model["vocab"][f"Ġlacking{index}"] = model["vocab"].pop(symbol)
        self.assertFalse([token for token in model["vocab"] if any(symbol in token for symbol in missing_symbols)])
        with open(self.path("lacking.json"), "w", encoding="utf-8") as file:
            json.dump(config, file)
        write_vocabulary_gguf(self.path("lacking.json"), "smollm", self.path("lacking.gguf"))
        llama, reference = LlamaCpp(self.path("lacking.gguf")), tokenizers.Tokenizer.from_file(self.path("lacking.json"))
        texts = ["\x04", "a\x04b", "=\x04==\x1d=", "\x1d\x04 ", "-" * 60 + "\x04" + "-" * 60, "x\U00040000\U0007fffdy", *random_code_points(7, 300)]
        ours = self.encode_all(self.path("lacking.json"), texts)
        self.assertIsNone(self.first_difference(texts, ours, [llama.encode(text) for text in texts]))
        self.assertEqual(ours[0], [])
        self.assertEqual(ours[1], reference.encode("a\x04b", add_special_tokens=False).ids)
        self.assertNotEqual(ours[2], reference.encode(texts[2], add_special_tokens=False).ids, "has become equal: docs/tokenizers.md")

    def test_a_whole_piece_is_taken_unmerged_by_llama_bpe(self):
        with open(self.files["llama-bpe"], encoding="utf-8") as file:
            config = json.load(file)
        id = len(config["model"]["vocab"])
        config["model"]["vocab"]["Ġzqxjk"] = id  # a token that no merge makes
        with open(self.path("whole.json"), "w", encoding="utf-8") as file:
            json.dump(config, file)
        write_vocabulary_gguf(self.path("whole.json"), "llama-bpe", self.path("whole.gguf"))
        expected = LlamaCpp(self.path("whole.gguf")).encode("a zqxjk b")
        self.assertIn(id, expected)
        self.assertEqual(self.slipway.encode(self.path("whole.json"), "a zqxjk b"), expected)
        self.assertEqual(tokenizers.Tokenizer.from_file(self.path("whole.json")).encode("a zqxjk b", add_special_tokens=False).ids, expected)

    def test_nfc_equals_tokenizers(self):
        out = self.path("nfc.json")
        self.slipway.run_checked("train", "--input", self.path("train.jsonl"), "--tokenizer.vocabulary", 1000, "--tokenizer.pre", "qwen2", "--tokenizer.nfc", "on", "--out", out)
        reference = tokenizers.Tokenizer.from_file(out)
        for text in ["e\u0301 \u1100\u1161\u11a8 \u212b a\u0323\u0308 \ufb01 \u0344x", PROSE]:
            self.assertEqual(self.slipway.encode(out, text), reference.encode(text, add_special_tokens=False).ids)
        self.assertEqual(self.slipway.encode(out, "e\u0301"), self.slipway.encode(out, "\u00e9"))

    def test_training_learns_the_merges_of_the_tokenizers_trainer(self):
        for pre in PRE_TOKENIZERS:
            reference = tokenizers.Tokenizer.from_file(self.files[pre])
            reference.post_processor = processors.ByteLevel()
            reference.model = models.BPE()
            with open(self.files[pre], encoding="utf-8") as file:
                config = json.load(file)
            reference.train_from_iterator(self.texts + [PROSE * 20], trainers.BpeTrainer(
                vocab_size=3001 - len(config["added_tokens"]), min_frequency=2, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
            expected = [tuple(merge) for merge in json.loads(reference.to_str())["model"]["merges"]]
            self.assertEqual([tuple(merge.split(" ")) for merge in config["model"]["merges"]], expected, pre)

    def test_files_that_tokenizers_wrote_are_read(self):
        """Merges as pairs, a vocabulary in any order, Qwen2's and Llama-3's forms as `tokenizers` saves them."""
        for pre in PRE_TOKENIZERS:
            reference = tokenizers.Tokenizer.from_file(self.files[pre])
            reference.save(self.path("saved.json"))
            with open(self.path("saved.json"), encoding="utf-8") as file:
                self.assertIsInstance(json.load(file)["model"]["merges"][0], list)
            self.assertEqual(self.slipway.encode(self.path("saved.json"), PROSE), self.slipway.encode(self.files[pre], PROSE))

    def test_characters_load_in_tokenizers_with_equal_ids(self):
        out = self.path("char.json")
        self.slipway.run_checked("train", "--input", self.path("train.jsonl"), "--tokenizer.vocabulary", 500, "--tokenizer.pre", "char", "--out", out)
        reference = tokenizers.Tokenizer.from_file(out)
        for text in [PROSE, "x\r\ny 👍\ue000 z", EDGE_CASES[15]]:
            self.assertEqual(self.slipway.encode(out, text), reference.encode(text).ids)
        self.assertEqual(self.slipway.encode(out, "<|user|>a<|endofturn|>", "--special"), [5, *self.slipway.encode(out, "a"), 7])
        self.assertEqual(self.slipway.decode(out, self.slipway.encode(out, PROSE)).decode(), PROSE)


class EveryCodePoint(unittest.TestCase):
    """A tokenizer whose ids show where GPT-2's pattern, or smollm's, cut: 'a', '1' and '!' merge with any byte that follows."""

    @classmethod
    def setUpClass(cls):
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        vocab = {symbol: id for id, symbol in enumerate(alphabet)}
        merges = [(first, symbol) for first in "a1!" for symbol in alphabet]
        vocab |= {left + right: 256 + rank for rank, (left, right) in enumerate(merges)}
        cls.folder = tempfile.TemporaryDirectory()
        cls.references, cls.paths = {}, {}
        byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
        for pre, splitter in (("gpt-2", byte_level), ("smollm", pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level]))):
            cls.references[pre] = tokenizers.Tokenizer(models.BPE(vocab, merges))
            cls.references[pre].pre_tokenizer = splitter
            cls.references[pre].decoder = decoders.ByteLevel()
            cls.paths[pre] = os.path.join(cls.folder.name, pre + ".json")
            cls.references[pre].save(cls.paths[pre])
        cls.slipway = Slipway(ARGUMENTS.slipway)
        step = 1 if ARGUMENTS.all_code_points else 17
        cls.codes = [code for code in range(ARGUMENTS.first_code_point % step, 0x110000, step) if not 0xD800 <= code <= 0xDFFF]

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    @staticmethod
    def probe(codes):
        return "".join(f"a{c}1{c}!{c} {c}\n{c}" for c in map(chr, codes))

    def test_classes_equal_llama_cpp(self):
        text = self.probe(self.codes)
        for pre, path in self.paths.items():
            with self.subTest(pre=pre):
                vocabulary = os.path.join(self.folder.name, pre + ".gguf")
                write_vocabulary_gguf(path, pre, vocabulary)
                self.assertTrue(self.slipway.encode(path, text) == LlamaCpp(vocabulary).encode(text))

    def test_classes_equal_tokenizers_but_for_newer_unicode(self):
        for pre, path in self.paths.items():
            with self.subTest(pre=pre):
                reference, ranges = self.references[pre], NEWER_UNICODE + (NEWER_NUMBERS if pre == "smollm" else [])
                newer = {code for first, last in ranges for code in range(first, last + 1)}
                shared_codes = [code for code in self.codes if code not in newer]
                expected = [id for begin in range(0, len(shared_codes), 1000) for id in reference.encode(self.probe(shared_codes[begin:begin + 1000])).ids]
                self.assertTrue(self.slipway.encode(path, self.probe(shared_codes)) == expected)
                for first, last in ranges:
                    for code in {first, last}:
                        text = self.probe([code])
                        self.assertNotEqual(self.slipway.encode(path, text), reference.encode(text).ids, f"U+{code:04X} has become equal: shorten the list")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("slipway")
    parser.add_argument("--all-code-points", action="store_true", help="every code point, not every seventeenth (minutes)")
    parser.add_argument("--first-code-point", type=int, default=0)
    ARGUMENTS, rest = parser.parse_known_args()
    unittest.main(argv=[sys.argv[0], *rest])

"""Inputs of the rows: Python sources found on the machine, tokenizers, data folders, models after a few steps."""
import functools
import json
import pathlib
import sysconfig

PRESETS = {  # docs/interface.md
    "llama-1m": dict(layers=4, width=128, heads=4, kv_heads=2, ffn=384),
    "llama-8m": dict(layers=12, width=256, heads=4, kv_heads=4, ffn=512),
    "llama-30m": dict(layers=10, width=512, heads=8, kv_heads=8, ffn=1280),
    "llama-124m": dict(layers=12, width=768, heads=12, kv_heads=12, ffn=2048),
}


def model(preset, vocabulary):
    return PRESETS[preset] | dict(vocabulary=vocabulary, tied=True, norm_eps=1e-5, rope_base=1e4)


def step_flops(m, tokens):
    """6 x matmul parameters (head included) x tokens."""
    kv = m["width"] // m["heads"] * m["kv_heads"]
    block = 2 * m["width"] ** 2 + 2 * kv * m["width"] + 3 * m["width"] * m["ffn"]
    return 6 * (m["layers"] * block + m["vocabulary"] * m["width"]) * tokens


def attention_flops(m, sequence, sequences):
    """FLOPs of the attention matmuls, forward and backward, causal half only (src/model/model_tensors.cpp)."""
    return 7 * 2 * sequence * (sequence + 1) / 2 * sequences * m["width"] * m["layers"]


class BenchInputs:
    """Makes each thing once, in the bench's folder."""

    def __init__(self, bench):
        self.bench, self.folder = bench, bench.folder

    @functools.cached_property
    def texts(self):
        """Python sources of the standard library and of the installed packages, 50 MB (where there are as many)."""
        target_bytes = 2_000_000 if self.bench.quick else 50_000_000
        target = self.bench.fresh_path("texts")
        roots = [pathlib.Path(sysconfig.get_paths()[name]) for name in ("stdlib", "purelib")]
        files = dict.fromkeys(p for root in roots for p in sorted(root.rglob("*.py")))
        total = 0
        for number, path in enumerate(files):
            text = path.read_bytes()
            if not text or not valid_utf8(text):
                continue
            destination = target / f"{number // 500:03d}" / f"{number:05d}.py"
            destination.parent.mkdir(parents=True, exist_ok=True)
            destination.write_bytes(text)
            total += len(text)
            if total >= target_bytes:
                break
        self.text_bytes = total
        return target

    @functools.cache
    def tokenizer(self, vocabulary):
        path = self.folder / f"tokenizer-{vocabulary}.json"
        self.bench.program.run("tokenizer", "train", "--input", self.texts, "--tokenizer.vocabulary", vocabulary, "--out",
                               path, timeout=3600)
        return path

    @functools.cache
    def data(self, vocabulary):
        path = self.bench.fresh_path(f"data-{vocabulary}")
        self.bench.program.run("data", "prepare", "--tokenizer", self.tokenizer(vocabulary), "--input", self.texts, "--out",
                               path, timeout=3600)
        return path

    @functools.cache
    def initial_run(self, preset, vocabulary):
        """A run of one step, for its weights."""
        path = self.bench.fresh_path(f"first-{preset}-{vocabulary}")
        self.bench.program.run("train", "--run", path, "--data", self.data(vocabulary), "--model.preset", preset,
                               "--train.steps", 1, "--train.batch", 1, "--train.sequence", 64, "--train.rehearsal", "off",
                               "--validate.every", 0, "--numerics.compute", "f32", timeout=3600)
        return path

    @functools.cache
    def export(self, preset, vocabulary, kind):
        """The weights of initial_run() as a GGUF of type `kind`, or as a folder for transformers."""
        name = f"{preset}-{vocabulary}" + ("" if kind == "transformers" else f"-{kind}.gguf")
        path = self.bench.fresh_path(name)
        self.bench.program.run("export", self.initial_run(preset, vocabulary), "--out", path, "--type",
                               "f32" if kind == "transformers" else kind, timeout=3600)
        return path

    def text_chunks(self):
        """The texts, cut at line ends into documents of about 64 KiB, as `data prepare` cuts them."""
        chunks = []
        for path in sorted(self.texts.rglob("*.py")):
            chunk = ""
            for line in path.read_bytes().decode().splitlines(keepends=True):
                chunk += line
                if len(chunk) >= 65536:
                    chunks.append(chunk)
                    chunk = ""
            if chunk:
                chunks.append(chunk)
        file = self.folder / "chunks.json"
        file.write_text(json.dumps(chunks))
        return file


def valid_utf8(text):
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True

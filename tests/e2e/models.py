"""Model files as people have them, through the command line: padded, of another tokenizer, damaged, with keys that change what is
computed, with tokens that nobody expects. Usage: models.py PROGRAM"""
import json
import os
import pathlib
import resource
import struct
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
from gguf_edit import F32, STRING, U32, Gguf
from program import prove, standard_library

SHAPE = ["--model.preset", "llama-1m", "--model.layers", "2", "--model.width", "32", "--model.heads", "2", "--model.kv_heads", "2",
         "--model.ffn", "48"]
QUICK = ["--train.sequence", "32", "--train.batch", "4", "--train.rehearsal", "off", "--runtime.threads", "1", "--numerics.compute", "f32"]
TOKENS = 300


def prepare(p):
    standard_library(p.folder / "text", 60_000)
    p.run("tokenizer", "train", "--input", "text", "--tokenizer.vocabulary", TOKENS, "--out", "tok.json")
    p.run("data", "prepare", "--tokenizer", "tok.json", "--input", "text", "--data.document_bytes", "2000", "--out", "data")
    p.run("train", "--run", "run", "--data", "data", *SHAPE, *QUICK, "--train.steps", "30")
    p.run("export", "run", "--out", "good.gguf")
    (p.folder / "t.txt").write_text("def area(radius):\n    return 3 * radius\n")


def write_modified(p, name, modify):
    model = Gguf(p.folder / "good.gguf")
    modify(model)
    model.write(p.folder / name)
    return name


def every_command(model):
    return (["generate", model, "--prompt", "def", "--tokens", "4", "--temperature", "0"], ["score", model, "--text", "t.txt", "--json"],
            ["bench", model, "--prompt", "8", "--tokens", "4", "--json"], ["export", model, "--out", "x.gguf"],
            ["export", model, "--out", "x"])


def assert_nothing_left(p):
    leftovers = [path.name for path in p.folder.iterdir() if path.name.startswith("x") or "partial" in path.name]
    assert not leftovers, leftovers


def rows_behind_the_tokens_are_kept_and_never_chosen(p):
    write_modified(p, "padded.gguf", lambda model: model.pad_rows(20, byte=0x40))  # rows of 3.0: chosen by whoever looks at all logits
    assert max(p.json("generate", "padded.gguf", "--prompt", "def", "--tokens", "8", "--temperature", "0")["ids"]) < TOKENS
    for out in ("padded-again.gguf", "padded-folder"):
        p.run("export", "padded.gguf", "--out", out)
    config = json.loads((p.folder / "padded-folder/config.json").read_text())
    assert config["vocab_size"] == TOKENS + 20, config
    assert len(Gguf(p.folder / "padded-again.gguf").get("tokenizer.ggml.tokens")) == TOKENS + 20
    result = p.run("train", "--run", "from-padded", "--data", "data", "--init", "padded.gguf", *QUICK, "--train.steps", "3")
    assert f"vocabulary {TOKENS + 20}, tied" in result.err, result.err  # they belong to the model
    p.run("export", "from-padded", "--out", "from-padded-folder")
    assert json.loads((p.folder / "from-padded-folder/config.json").read_text())["vocab_size"] == TOKENS + 20
    assert max(p.json("generate", "from-padded", "--prompt", "def", "--tokens", "30", "--temperature", "2")["ids"]) < TOKENS


def a_tokenizer_of_another_model_is_refused_with_both_numbers(p):
    extra_tokens = write_modified(p, "few.gguf", lambda model: model.add_tokens([b"zz%d" % i for i in range(9)], 1))
    for argv in every_command(extra_tokens):
        p.refuses(4, "storage", *argv, says=("309 tokens", "only 300 rows"))
    assert_nothing_left(p)


def weights_that_are_not_finite_end_every_command(p):
    for value, substring in ((float("nan"), "nan"), (float("inf"), "nan"), (float("-inf"), "nan")):
        def damage(model):
            struct.pack_into("<f", model.tensor("blk.1.ffn_up.weight")[3], 4 * 7, value)
        damaged = write_modified(p, "damaged.gguf", damage)
        for argv in every_command(damaged):
            p.refuses(7, "numeric", *argv, says=(substring, "run slipway qa"))
        result = p.run("qa", damaged, "--text", "t.txt", "--json", expect=8)
        gate = next(gate for gate in json.loads(result.stdout)["gates"] if gate["id"] == "tensors_finite")
        assert gate["verdict"] == "fail" and gate["value"] == 1, gate
    assert_nothing_left(p)


def keys_that_change_what_is_computed_are_refused_by_name(p):
    for key, kind, value in (("llama.attention.sliding_window", U32, 8), ("llama.expert_count", U32, 8), ("llama.never_heard_of", U32, 1)):
        p.refuses(4, "storage", "generate", write_modified(p, "odd.gguf", lambda model: model.set(key, kind, value)), "--prompt", "a",
                  says=(f"the key {key} is {value:g}",))
    scaled = write_modified(p, "odd.gguf", lambda model: model.set("llama.rope.scaling.type", STRING, "yarn"))
    p.refuses(4, "storage", "generate", scaled, "--prompt", "a", says=("RoPE scaling of type 'yarn'",))
    part = write_modified(p, "odd.gguf", lambda model: (model.set("split.count", 2, 3), model.set("split.no", 2, 1)))
    p.refuses(4, "storage", "generate", part, "--prompt", "a", says=("part 2 of a model in 3 files", "llama-gguf-split --merge"))


def linear_scaling_of_rope_is_obeyed_by_both_its_names(p):
    losses = [p.json("score", "good.gguf", "--text", "t.txt")["nll_mean"]]
    for key in ("llama.rope.scale_linear", "llama.rope.scaling.factor"):
        write_modified(p, "scaled.gguf", lambda model: model.set(key, F32, 4.0))
        losses.append(p.json("score", "scaled.gguf", "--text", "t.txt")["nll_mean"])
    assert losses[0] != losses[1] == losses[2], losses


def what_a_file_says_cannot_move_the_terminal(p):
    for key in ("general.architecture", "tokenizer.ggml.pre"):
        bad_model = write_modified(p, "odd.gguf", lambda model: model.set(key, STRING, b"\x1b[2J\x07\xff"))
        assert "\\x1b[2J\\x07\\xff" in p.refuses(4, "storage", "generate", bad_model, "--prompt", "a")
    bad_model = write_modified(p, "odd.gguf", lambda model: model.tensors.append(["new\x1b[2J", [8], 0, bytearray(32)]))
    assert "new?[2J has no place" in p.refuses(4, "storage", "generate", bad_model, "--prompt", "a")
    os.mkfifo(p.folder / "fifo.gguf")
    p.refuses(4, "storage", "generate", "fifo.gguf", "--prompt", "a", says=("it is a pipe",), timeout=20)
    (p.folder / "lfs.gguf").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    p.refuses(4, "storage", "generate", "lfs.gguf", "--prompt", "a", says=("git lfs pull",))


def added_tokens_are_tokens_in_every_form(p):
    tokenizer = json.loads((p.folder / "tok.json").read_text())
    for i, content in enumerate(("<think>", "<tool call>")):  # the second one with a blank inside
        tokenizer["added_tokens"].append({"id": TOKENS + i, "content": content, "single_word": False, "lstrip": False, "rstrip": False,
                                          "normalized": False, "special": False})
    (p.folder / "added.json").write_text(json.dumps(tokenizer))
    p.run("data", "prepare", "--tokenizer", "added.json", "--input", "text", "--data.document_bytes", "2000", "--out", "added-data")
    p.run("train", "--run", "added", "--data", "added-data", *SHAPE, *QUICK, "--train.steps", "1")
    p.run("export", "added", "--out", "added.gguf")
    p.run("export", "added", "--out", "added-folder")
    (p.folder / "added.txt").write_text("a<think>b<tool call>c")
    for model in ("added", "added.gguf"):
        ids = p.json("score", model, "--text", "added.txt")["ids"]
        assert len(ids) == 5 and ids[1::2] == [TOKENS, TOKENS + 1], (model, ids)
    assert Gguf(p.folder / "added.gguf").get("tokenizer.ggml.token_type")[-2:] == [4, 4]


def every_token_that_ends_a_turn_ends_the_text(p):
    first = p.json("generate", "good.gguf", "--prompt", "def", "--tokens", "1", "--temperature", "0")["ids"][0]
    for kind in ("eot", "eom"):
        stopping_model = write_modified(p, "ended.gguf", lambda model: model.set(f"tokenizer.ggml.{kind}_token_id", U32, first))
        result = p.json("generate", stopping_model, "--prompt", "def", "--tokens", "8", "--temperature", "0")
        assert result["ids"] == [first] and result["text"] == "" and result["stopped_by"] == "eos", result
    result = p.run("generate", stopping_model, "--prompt", "def", "--tokens", "8", "--temperature", "0")
    assert "1 token, ended by eos" in result.err and "tokens/s" not in result.err, result.err


def a_full_disk_or_a_folder_in_the_way_leaves_nothing(p):
    def refuses_with_file_limit(*argv):
        old_limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, old_limits[1]))
        try:
            return p.refuses(4, "storage", *argv, says=("File too large", "ulimit -f"))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, old_limits)

    refuses_with_file_limit("export", "good.gguf", "--out", "x.gguf")
    refuses_with_file_limit("export", "good.gguf", "--out", "x")
    refuses_with_file_limit("score", "good.gguf", "--text", "t.txt", "--logits", "x.npy")
    assert_nothing_left(p)
    (p.folder / "folder.gguf").mkdir()
    p.refuses(4, "storage", "export", "good.gguf", "--out", "folder.gguf", says=("folder.gguf: Is a directory",))


prove([rows_behind_the_tokens_are_kept_and_never_chosen, a_tokenizer_of_another_model_is_refused_with_both_numbers,
       weights_that_are_not_finite_end_every_command, keys_that_change_what_is_computed_are_refused_by_name,
       linear_scaling_of_rope_is_obeyed_by_both_its_names, what_a_file_says_cannot_move_the_terminal,
       added_tokens_are_tokens_in_every_form, every_token_that_ends_a_turn_ends_the_text,
       a_full_disk_or_a_folder_in_the_way_leaves_nothing], prepare)

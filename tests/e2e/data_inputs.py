"""Inputs as people have them, through the command line: what is read, what is refused, what is written beside what.
Usage: data_inputs.py PROGRAM"""
import fcntl
import gzip
import json
import os
import pathlib
import resource
import signal
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
from program import prove

TOKENIZER = "tokenizer.json"
WORDS = "the quick brown fox jumps over a lazy dog while seven small boats cross cold water".split()


def sentences(count, seed=3):
    return [" ".join(WORDS[(i * 7 + j * seed) % len(WORDS)] for j in range(3 + i % 9)) for i in range(count)]


def rows(count, field="text", **extra):
    return "".join(json.dumps({field: text, **extra}) + "\n" for text in sentences(count))


def prepare(p):
    (p.folder / "texts").mkdir()
    (p.folder / "texts/a.txt").write_text("\n".join(sentences(400)) + "\n")
    p.run("tokenizer", "train", "--input", "texts", "--tokenizer.vocabulary", "280", "--tokenizer.pre", "gpt-2", "--out", TOKENIZER)


def prepare_data(p, source, out, *extra, **kwargs):
    return p.json("data", "prepare", "--tokenizer", TOKENIZER, "--input", source, "--out", out, *extra, **kwargs)


def expect_refused(p, source, says, *extra, expect=3, fault="data"):
    p.refuses(expect, fault, "data", "prepare", "--tokenizer", TOKENIZER, "--input", source, "--out", "x", *extra, says=says)
    assert not list(p.folder.glob("x*")), "a refused command left something behind"


def rows_under_any_name_are_rows(p):
    folder = p.folder / "rows"
    folder.mkdir()
    (folder / "part-0000.json.gz").write_bytes(gzip.compress(rows(30).encode()))
    (folder / "b.ndjson").write_text(rows(20))
    (folder / "c.json").write_text(json.dumps([json.loads(line) for line in rows(10).splitlines()], indent=1))
    (folder / "nosuffix").write_text(rows(5))
    result = p.run("data", "prepare", "--tokenizer", TOKENIZER, "--input", "rows", "--out", "rows-data", "--json")
    manifest = json.loads(result.stdout)
    assert manifest["documents"] == 65, manifest["documents"]
    assert manifest["noted"] == {"rows_by_content": 2}, manifest["noted"]
    assert "2 files read as JSON lines because of their content (rows_by_content): nosuffix, part-0000.json" in result.err, result.err
    (p.folder / "story").write_text(rows(4, field="story", id=1))
    expect_refused(p, "story", ("story:1:", "(it has id, story)", "--data.text_field NAME"))
    assert prepare_data(p, "story", "story-data", "--data.text_field", "story")["documents"] == 4
    (p.folder / "nan").write_text('{"text": "x", "p": NaN}\n')
    expect_refused(p, "nan", ("nan:1: column 20: NaN is not a JSON number", "--data.format text"))


def left_out_input_is_named_and_counted(p):
    folder = p.folder / "mixed"
    folder.mkdir()
    (folder / "good.txt").write_text("\n".join(sentences(50)))
    (folder / "bad.txt").write_bytes(b"one\n\xff\n")
    os.symlink("loop", folder / "loop")
    os.symlink("nowhere", folder / "dangling")
    os.mkfifo(folder / "pipe")
    result = p.run("data", "prepare", "--tokenizer", TOKENIZER, "--input", "mixed", "--out", "mixed-data", "--data.on_bad", "skip",
                 "--data.document_bytes", "200", timeout=20)
    for text in ("1 text that is not UTF-8 (invalid_utf8): bad.txt:2", "1 pipe, socket or device (not_a_file): pipe",
                 "2 files or folders that cannot be read to their end (unreadable): dangling, loop"):
        assert text in result.err and text in result.out, (text, result.err, result.out)
    expect_refused(p, "mixed", ("cannot read mixed/", "--data.on_bad skip"))


def own_output_inside_the_input_is_no_text(p):
    folder = p.folder / "home"
    folder.mkdir()
    (folder / "m.txt").write_text("\n".join(sentences(300)))
    train = ("tokenizer", "train", "--input", "home", "--tokenizer.vocabulary", "280", "--tokenizer.pre", "gpt-2", "--out", "home/a.json", "--json")
    hashes = {p.json(*train)["sha256"] for _ in range(2)}
    assert len(hashes) == 1, "the second call learned from the first one's output"
    argv = ("data", "prepare", "--tokenizer", "home/a.json", "--input", "home", "--data.document_bytes", "400", "--json")
    hashes = {p.json(*argv[:-1], "--out", f"home/{name}")["corpus_sha256"] for name in ("a", "m", "z")}
    assert len(hashes) == 1, "a prepare took another one's output for text"


def only_marked_leftovers_are_removed_and_one_writes_at_a_time(p):
    argv = ("data", "prepare", "--tokenizer", TOKENIZER, "--input", "texts", "--out", "mine", "--data.document_bytes", "400")
    (p.folder / "mine.partial").mkdir()
    (p.folder / "mine.partial/thesis.tex").write_text("precious")
    p.refuses(2, "config", *argv, says=("mine.partial is in the way", "thesis.tex"))
    assert (p.folder / "mine.partial/thesis.tex").read_text() == "precious"
    (p.folder / "mine.partial/.slipway-partial").write_text("elsewhere 1 long-ago\n")
    with open(p.folder / "mine.partial/.slipway-partial") as mark:
        fcntl.flock(mark, fcntl.LOCK_EX)
        p.refuses(2, "config", *argv, says=("is being written by process 1 on host elsewhere",))
    assert p.run(*argv).err.count("removed what an interrupted process had left") == 1
    assert sorted(f.name for f in (p.folder / "mine").iterdir())[0] == "manifest.json"


def limits_and_closed_pipes_are_errors_that_leave_nothing(p):
    def limit_file_size():
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))

    before = set(p.folder.rglob("*"))
    for argv in (("data", "prepare", "--tokenizer", TOKENIZER, "--input", "texts", "--out", "limited", "--data.document_bytes", "400"),
                  ("tokenizer", "train", "--input", "texts", "--tokenizer.vocabulary", "280", "--tokenizer.pre", "gpt-2", "--out", "limited.json")):
        result = subprocess.run(p.command(argv), cwd=p.folder, preexec_fn=limit_file_size, capture_output=True, text=True)
        assert result.returncode == 4 and "File too large" in result.stderr, (argv, result.returncode, result.stderr)
    leftovers = set(p.folder.rglob("*")) - before
    assert not leftovers, leftovers

    # A closed log pipe does not end the command; a filter ends with its reader.
    read_end, write_end = os.pipe()
    os.close(read_end)
    result = subprocess.run(p.command(("data", "prepare", "--tokenizer", TOKENIZER, "--input", "texts", "--out", "unread", "--json",
                                      "--data.document_bytes", "400")), cwd=p.folder, stdout=subprocess.PIPE, stderr=write_end)
    assert result.returncode == 0, result.returncode
    assert json.loads(result.stdout)["documents"] > 0
    p.run("data", "verify", "unread")
    result = subprocess.run(p.command(("data", "inspect", "unread")), cwd=p.folder, stdout=write_end)
    assert result.returncode == -signal.SIGPIPE, result.returncode
    os.close(write_end)


def inspect_shows_texts_lengths_and_licenses(p):
    folder = p.folder / "licensed"
    folder.mkdir()
    (folder / "a.jsonl").write_text(rows(60, license="MIT") + rows(1, lane="code", license="CC0-1.0").replace("the", "THE"))
    prepare_data(p, "licensed", "licensed-data", "--data.validation_fraction", "0.1")
    output = p.run("data", "inspect", "licensed-data", "--rows", "1").out
    for text in ("bytes a token; tokens a document: least", " to ", "####", "lane code", "licenses: CC0-1.0 (1 document), MIT (60 documents)",
                 "a.jsonl:"):
        assert text in output, (text, output)
    data = p.json("data", "inspect", "licensed-data", "--rows", "2")
    assert [row["split"] for row in data["rows"]] == ["train", "train", "validation", "validation"], data["rows"]
    known_texts = {json.loads(line)["text"] for line in (folder / "a.jsonl").read_text().splitlines()}
    assert all(row["segments"][0]["text"] in known_texts for row in data["rows"])
    assert data["lengths"]["train"]["text"]["bytes_per_token"] > 1
    p.refuses(2, "config", "data", "inspect", "licensed-data", "--rows", "-1", says=("--rows is -1",))


def a_run_keeps_the_license_of_its_texts(p):
    p.run("train", "--run", "run", "--data", "licensed-data", "--model.preset", "llama-1m", "--model.layers", "1", "--model.width", "32",
          "--model.heads", "2", "--model.kv_heads", "2", "--model.ffn", "64", "--train.steps", "1", "--train.batch", "2",
          "--train.sequence", "16", "--train.rehearsal", "off", "--validate.every", "0")
    gates = {gate["id"]: gate for gate in json.loads(p.run("qa", "run", "--json", expect=8).stdout)["gates"]}
    assert gates["provenance"]["verdict"] == "pass", gates["provenance"]
    assert gates["provenance"]["inputs"]["license"] == "CC0-1.0 AND MIT", gates["provenance"]
    p.run("export", "run", "--out", "hf", "--type", "f32")
    assert 'license: "CC0-1.0 AND MIT"' in (p.folder / "hf/README.md").read_text()


def what_is_no_model_is_named(p):
    """After the proof above, which leaves a data folder, a run and a Hugging Face folder."""
    model_commands = (("generate", "--prompt", "x"), ("score", "--text", "texts/a.txt"), ("qa",), ("bench",), ("export", "--out", "new"),
                      ("checkpoint verify",), ("checkpoint inspect",), ("checkpoint diff", "run"))
    for folder, message in (("licensed-data", "licensed-data is a data folder, not a model; give a run folder"), ("hf", "hf is a Hugging Face folder")):
        is_model = folder == "hf"
        for command, *extra in model_commands[5:] if is_model else model_commands:  # those that want a checkpoint
            p.refuses(2, "config", *command.split(), folder, *extra, says=(message,))
        for option in ("--fork",) if is_model else ("--init", "--fork"):
            p.refuses(2, "config", "train", option, folder, "--run", "new", "--data", "licensed-data", says=(message,))
    assert p.json("generate", "hf", "--prompt", "x", "--tokens", "4")["ids"], "a Hugging Face folder is a model"
    p.run("export", "run", "--out", "m.gguf")
    for argv in (("data", "prepare", "--input", "texts", "--out", "new"), ("tokenizer", "encode", "--input", "texts/a.txt")):
        p.refuses(3, "data", *argv, "--tokenizer", "m.gguf", says=("m.gguf: the file is a GGUF model", "slipway export m.gguf --out DIR"))
    p.run("export", "m.gguf", "--out", "from-gguf")
    p.run("tokenizer", "encode", "--tokenizer", "from-gguf/tokenizer.json", "--input", "texts/a.txt")


def tables_are_noted_also_where_too_little_is_left(p):
    (p.folder / "one.csv").write_text('id,text\n1,"a ""quoted"" word"\n')
    argv = ("data", "prepare", "--tokenizer", TOKENIZER, "--input", "one.csv", "--out", "csv-data")
    result = p.run(*argv, expect=3)
    for text in ("there are fewer than two distinct documents", "header and quotes included", "(csv_as_text): one.csv"):
        assert text in result.err, (text, result.err)
    assert p.json(*argv, "--data.validation_fraction", "0")["noted_first"] == {"csv_as_text": ["one.csv"]}


def a_packed_file_that_was_cut_is_named_and_warned_of_once(p):
    (p.folder / "cut.jsonl.gz").write_bytes(gzip.compress(rows(2000).encode())[:-200])
    result = p.run("data", "prepare", "--tokenizer", TOKENIZER, "--input", "cut.jsonl.gz", "texts", "--out", "cut-data", "--data.on_bad", "skip",
                 "--data.document_bytes", "400", "--data.validation_fraction", "1e-12")  # too small for any, so that the texts are read twice
    assert result.err.count("the gzip data ends too early") == 1, result.err
    assert "so the nearest document moves there" in result.err, result.err
    for text in (result.err, result.out):
        assert "(unreadable): cut.jsonl.gz" in text, text


prove([rows_under_any_name_are_rows, left_out_input_is_named_and_counted, own_output_inside_the_input_is_no_text,
       only_marked_leftovers_are_removed_and_one_writes_at_a_time, limits_and_closed_pipes_are_errors_that_leave_nothing,
       inspect_shows_texts_lengths_and_licenses, a_run_keeps_the_license_of_its_texts, what_is_no_model_is_named,
       tables_are_noted_also_where_too_little_is_left, a_packed_file_that_was_cut_is_named_and_warned_of_once], prepare)

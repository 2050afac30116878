#!/usr/bin/env python3
"""docs/interface.md is what scripts rely on: this reads the page and holds the program to every form, status, default, preset
and file on it.

    python3 tests/e2e/interface.py build/release/slipway
"""
import configparser
import json
import pathlib
import re
import signal
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "support"))
from processes import wait_until  # noqa: E402
from program import metrics, prove, standard_library  # noqa: E402

PAGE = (ROOT / "docs" / "interface.md").read_text()
TINY = ["--model.preset", "qwen3-1m", "--model.layers", "2", "--model.width", "32", "--model.heads", "2", "--model.kv_heads", "1",
        "--model.ffn", "48", "--train.sequence", "32", "--train.batch", "4", "--train.rehearsal", "off", "--validate.tokens", "500",
        "--train.steps", "4", "--checkpoint.every", "2"]


def section(title):
    return re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S).group(1)


def page_table(title):
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section(title).splitlines() if line.startswith("|")]
    return rows[2:]  # without the head and the rule below it


def code_spans(cell):
    return re.findall(r"`([^`]+)`", cell)


def prepare(p):
    standard_library(p.folder / "text", 150_000)
    p.run("tokenizer", "train", "--input", "text", "--glob", "*.py", "--tokenizer.vocabulary", "400", "--tokenizer.pre", "qwen2", "--out", "tok.json")
    p.run("data", "prepare", "--tokenizer", "tok.json", "--input", "text", "--data.document_bytes", "2000", "--out", "data")
    p.run("train", "--run", "run", "--data", "data", *TINY)


def every_form_is_known_to_its_command(p):
    forms = [line.split() for line in section("Commands").split("```")[1].strip().splitlines()]
    assert len(forms) == 22, len(forms)
    for _, command, *argv in forms:
        if command == "--version":
            assert re.match(r"slipway \d+\.\d+\.\d+", p.run("--version").out)
            continue
        action = [argv[0]] if argv and argv[0].islower() else []
        help_text = p.run(command, *action, "--help", "all").out
        options = [o for o in re.findall(r"--[a-z_.]+", " ".join(argv)) if o != "--key"]
        for option in options:
            assert re.search(rf"^  (\S+, )?{re.escape(option)}\b", help_text, re.M), f"{command} {action}: {option} is not in its --help"
        result = p.run(command, *action, "--nonsense", "1", expect=2)
        assert result.err.startswith("slipway: error (config): ") and len(result.err.splitlines()) == 1, result.err


def what_comes_out_has_the_stated_names(p):
    (p.folder / "t.txt").write_text("import os\nclass A: pass\n")
    commands = {
        "data prepare": ["data", "prepare", "--tokenizer", "tok.json", "--input", "text", "--data.document_bytes", "2000", "--out", "data2"],
        "data inspect": ["data", "inspect", "data"],
        "tokenizer encode": ["tokenizer", "encode", "--tokenizer", "tok.json", "--input", "t.txt"],
        "score": ["score", "run", "--text", "t.txt", "--context", "16"],
        "generate": ["generate", "run", "--prompt", "def ", "--tokens", "6", "--temperature", "0", "--seed", "7"],
        "bench": ["bench", "run", "--prompt", "16", "--tokens", "4", "--batch", "2", "--iterations", "1"],
        "checkpoint inspect": ["checkpoint", "inspect", "run"],
        "qa": ["qa", "run"],
        "--version": ["--version"],
    }
    rows = page_table("What comes out")
    assert {code_spans(cells[0])[0] for cells in rows} == set(commands)
    for command, columns in rows:
        argv = commands[code_spans(command)[0]]
        result = p.run(*argv, "--json", expect=8 if argv[0] == "qa" else 0)  # four steps learn too little for qa
        actual = json.loads(result.stdout)
        expected_names = list(code_spans(columns))
        if argv[0] == "checkpoint":
            assert actual["step"] == 4 and actual["layout"] == dict.fromkeys(expected_names[2:], 1), actual
        elif argv[:2] == ["data", "inspect"]:
            assert set(expected_names[:2]) <= set(actual) and set(expected_names[2:5]) <= set(actual["rows"][0]), list(actual)
            assert set(expected_names[5:]) <= set(actual["rows"][0]["segments"][0]), actual["rows"][0]
        else:
            assert set(expected_names) <= set(actual), (argv, expected_names, list(actual))
    first, second = (p.json(*commands["generate"]) for _ in range(2))
    assert first["ids"] == second["ids"] and first["text"] == second["text"]


def every_status_has_its_fault(p):
    for status, fault, _ in page_table("Exit status"):
        if status in ("0", "128 + n", "5", "9"):  # good; signals and lost ranks: ranks.py and comm.py; ours: none is known
            continue
        argv = {"2": ["trane"], "3": ["tokenizer", "encode", "--tokenizer", "none.json", "--json"], "4": ["score", "none", "--text", "t.txt"],
                 "6": ["train", "--run", "r", "--data", "data", "--device", "cuda"],
                 "7": ["train", "--run", "nan", "--data", "data", *TINY, "--fault.nan_step", "2"]}.get(status)
        if argv is None:
            assert status == "8"
            p.run("train", "--run", "seed2", "--data", "data", *TINY, "--train.seed", "2")
            p.run("checkpoint", "diff", "run", "seed2", expect=8)
            continue
        p.refuses(int(status), code_spans(fault)[0], *argv)


def defaults_are_as_stated(p):
    process = p.start("train", "--run", "defaults", "--data", "data")  # resolved.ini is there before the rehearsal
    resolved_path = p.folder / "defaults" / "resolved.ini"
    wait_until(resolved_path.exists, "resolved.ini of a run that was started")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    config = configparser.ConfigParser(interpolation=None)
    config.read(resolved_path)
    help_texts = p.run("tokenizer", "train", "--help", "all").out + p.run("data", "prepare", "--help", "all").out
    for key, default in page_table("Defaults"):
        key = code_spans(key)[0]
        group, name = key.split(".")
        if config.has_option(group, name):
            actual = config.get(group, name)
            if key == "numerics.compute":  # what auto means on this machine
                assert actual in ("f32", "bf16")
                continue
        else:
            actual = re.search(rf"^  --{re.escape(key)} [^(]*\(default:\s+([^)\s]*)\)$", help_texts, re.M).group(1)
        assert actual == default, f"{key}: {actual}, not {default}"


def presets_are_as_stated(p):
    rows = page_table("Presets")
    assert len(rows) == 7
    for size, layers, width, heads, kv_heads, ffn, tied, rate, parameters in rows:
        for family in ("llama", "qwen2", "qwen3"):
            plan = p.json("plan", "--model.preset", f"{family}-{size}")
            assert [plan[k] for k in ("layers", "width", "heads", "kv_heads", "ffn")] == [int(x) for x in (layers, width, heads, kv_heads, ffn)]
            assert plan["tied"] == (tied == "yes") and plan["peak_lr"] == float(rate), plan
            extra = {"llama": 0, "qwen2": int(width) + 2 * int(width) // int(heads) * int(kv_heads), "qwen3": 2 * int(width) // int(heads)}
            assert plan["parameters_without_embeddings"] == int(parameters.replace(",", "")) + int(layers) * extra[family], (family, plan)


def a_resume_may_change_what_the_page_allows(p):
    allowed = {"train.steps": "5", "train.max_minutes": "9", "optim.schedule_steps": "9", "runtime.threads": "1", "checkpoint.keep": "2",
               "validate.every": "3", "log.every": "2", "sample.every": "5"}
    argv = [word for key, value in allowed.items() for word in ("--" + key, value)]
    p.run("train", "--resume", "run", *argv, "--device", "cpu")
    assert metrics(p.folder / "run")[-1]["step"] == 5
    for key, new_value, old_value in (("train.batch", "8", "4"), ("optim.peak_lr", "0.5", "0.003"), ("numerics.slots", "4", "8"), ("data.packing", "stream", "documents")):
        p.refuses(2, "config", "train", "--resume", "run", "--" + key, new_value, says=(key, new_value, old_value))


def a_run_leaves_the_stated_files(p):
    for cell, _ in page_table("Files of a run"):
        path = code_spans(cell)[0].replace("step-00000100", "step-00000005")
        assert (p.folder / "run" / path).exists(), path
    required = {"step", "train_loss", "grad_norm", "lr", "tokens_per_sec", "tokens_seen"}
    assert all(required <= set(record) for record in metrics(p.folder / "run"))
    assert json.loads((p.folder / "run" / "status.json").read_text())["status"] == "ok"
    assert json.loads((p.folder / "nan" / "status.json").read_text())["status"] == "numerical"


if __name__ == "__main__":
    prove((every_form_is_known_to_its_command, what_comes_out_has_the_stated_names, every_status_has_its_fault,
           defaults_are_as_stated, presets_are_as_stated, a_resume_may_change_what_the_page_allows, a_run_leaves_the_stated_files), prepare)

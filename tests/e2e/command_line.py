#!/usr/bin/env python3
"""What is typed: help in every form, paths given twice, the words of other trainers, closed streams, variables that a launcher has left
behind, broken JSON.

    python3 tests/e2e/command_line.py build/release/slipway
"""
import hashlib
import json
import os
import pathlib
import re
import shlex
import struct
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "support"))
from program import MPI, prove, standard_library  # noqa: E402

TINY = ["--model.preset", "llama-1m", "--model.layers", "1", "--model.width", "32", "--model.heads", "2", "--model.kv_heads", "1",
        "--model.ffn", "48", "--train.sequence", "32", "--train.batch", "2", "--train.rehearsal", "off", "--validate.tokens", "100",
        "--train.steps", "2", "--runtime.threads", "1"]
COMMANDS = ["doctor", "tokenizer train", "tokenizer encode", "tokenizer decode", "data prepare", "data verify", "data inspect", "plan", "train",
            "checkpoint verify", "checkpoint inspect", "checkpoint diff", "checkpoint consolidate", "qa", "bench", "score", "generate", "export",
            "--version"]


def prepare(p):
    standard_library(p.folder / "text", 100_000)
    p.run("tokenizer", "train", "--input", "text", "--tokenizer.vocabulary", "300", "--out", "tok.json")
    p.run("data", "prepare", "--tokenizer", "tok.json", "--input", "text", "--data.document_bytes", "2000", "--out", "data")
    p.run("train", "--run", "run", "--data", "data", *TINY)


def shell(p, script, **env):
    """A line of shell, in which `slipway` is the program."""
    return subprocess.run(["bash", "-c", f'slipway() {{ "{p.path}" "$@"; }}; {script}'], cwd=p.folder, env=os.environ | MPI | env,
                          capture_output=True, text=True, timeout=60)


def every_command_has_help_in_every_form(p):
    for command in COMMANDS:
        argv = command.split()
        short, long = p.run(*argv, "-h").out, p.run(*argv, "--help", "all").out
        for form in (["--help"], ["--json", "-h"], ["--nonsense", "1", "--help"], ["-h", "--json"]):
            assert p.run(*argv, *form).out == short, (command, form)
        for text in (short, long):
            assert "\nUsage:\n  slipway " in text and "\nExample:\n  " in text and "\nOptions:\n" in text, text
            assert "VALUE" not in text and "mesh.pipeline" not in text and max(map(len, text.splitlines())) <= 120, text
        assert len(short.splitlines()) <= 45 and "fault." not in short, short
        assert ("--fault.kill_step STEP" in long) == (command in ("train", "plan")), long
        options = set(re.findall(r"(--[a-z_.]+)", re.search(r"\nExample:\n(.*?)\n\n", long, re.S).group(1)))
        assert options <= set(re.findall(r"(--[a-z_.]+)", long.split("\nOptions:\n")[1])) | {"--version"}, (command, options)
    for argv in (["-h"], ["--help"], ["help"]):
        assert p.run(*argv).out.startswith("Slipway "), argv
    assert p.run("help", "data", "prepare").out == p.run("data", "prepare", "-h").out
    for command in ("tokenizer", "data", "checkpoint"):
        assert f"slipway {command} " in p.run(command, "-h").out
    first = p.run("train", "-h").out
    for key in ("--run DIR", "--resume RUN", "--data, --data.path DIR", "--model.preset FAMILY-SIZE", "--train.steps STEPS", "--train.batch N",
                "--train.sequence TOKENS", "--optim.peak_lr LR", "--checkpoint.every STEPS", "--device cpu|cuda|cuda:N|auto"):
        assert f"\n  {key}" in first, f"{key} is not in\n{first}"


def the_example_of_the_program_runs(p):
    example = p.run("--help").out.split("GGUF:\n")[1].split("\n\n")[0].splitlines()
    assert len(example) == 5
    standard_library(p.folder / "example" / "texts", 150_000)
    for line in example:
        line = line.replace("--train.steps 100", "--train.steps 1 --train.batch 2 --train.sequence 32").replace("1024", "300")
        _, *argv = shlex.split(line)
        result = subprocess.run([p.path, *argv], cwd=p.folder / "example", env=os.environ | MPI, capture_output=True, text=True, timeout=120)
        assert result.returncode == 0, f"{line}: {result.stderr}"
    assert (p.folder / "example" / "first.gguf").stat().st_size > 100_000


def a_path_is_given_once(p):
    num_options = 0
    for command in COMMANDS:
        argv = command.split()
        for line in p.run(*argv, "--help", "all").out.splitlines():
            option = re.match(r"  ((?:--\S+, )*--\S+) (?:FILE|DIR|PATH|RUN|MODEL)(\S*)", line)
            if not option or option.group(2).endswith("..."):  # a list takes several
                continue
            for name in option.group(1).split(", "):
                p.refuses(2, "config", *argv, name, "a", name, "b", says=(f"{name} is given twice, as 'a' and as 'b'",))
                num_options += 1
    assert num_options >= 24, num_options
    p.refuses(2, "config", "train", "--data", "a", "--data.path", "b", "--run", "x", says=("is given twice",))
    p.run("tokenizer", "train", "--input", "text", "--input", "text", "--tokenizer.vocabulary", "300", "--out", "tok2.json")


def words_of_other_trainers_lead_to_the_key(p):
    expected_keys = {"train": {"lr": "optim.peak_lr", "learning_rate": "optim.peak_lr", "max_steps": "train.steps", "max_iters": "train.steps",
                       "batch_size": "train.batch", "per_device_train_batch_size": "train.micro_batch", "block_size": "train.sequence",
                       "train.seq_len": "train.sequence", "training.seq_len": "train.sequence", "n_layer": "model.layers",
                       "vocab": "tokenizer train --tokenizer.vocabulary", "wandb": "metrics.jsonl", "out_dir": "--run",
                       "resume_from_checkpoint": "--resume", "dtype": "numerics.compute", "tp": "mesh.tensor", "seed": "train.seed",
                       "nproc_per_node": "launch/run -n", "lr-warmup-iters": "optim.warmup_steps", "steps": "train.steps",
                       "weight_decay": "optim.weight_decay", "optimizer.lr": "optim.peak_lr", "gradient_accumulation_steps": "train.micro_batch"},
             "tokenizer train": {"vocab_size": "tokenizer.vocabulary", "output": "--out"},
             "generate": {"max_new_tokens": "--tokens", "temp": "--temperature"},
             "export": {"outtype": "--type", "outfile": "--out"},
             "plan": {"vocab_size": "--vocabulary", "num_gpus": "--ranks", "dataset": "data.path"},
             "data prepare": {"val_split": "data.validation_fraction", "num_proc": "runtime.threads"}}
    for command, names in expected_keys.items():
        for alias, our_key in names.items():
            error = p.refuses(2, "config", *command.split(), "--" + alias, "1", says=(f"--{alias} is not a key of this command", our_key))
            assert "--help lists them" not in error, error
    (p.folder / "other.ini").write_text("[train]\nmax_steps = 4\n")
    p.refuses(2, "config", "train", "--config", "other.ini", says=("other.ini:2: train.max_steps is not a key", "did you mean train.steps?"))
    (p.folder / "comment.ini").write_text("[train]\nsteps = 4 # short\n")
    p.refuses(2, "config", "train", "--config", "comment.ini", says=("comment.ini:2: ", "a comment stands on a line of its own"))


def closed_streams_are_nobodys_files(p):
    result = shell(p, f"slipway train --run closed --data data {shlex.join(TINY)} <&- >&- 2>&-")
    assert result.returncode == 0, result.returncode
    run = p.folder / "closed"
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 2
    for file in [*(run / "events").iterdir(), run / "metrics.jsonl"]:
        for line in file.read_text().splitlines():
            json.loads(line)
    (events,) = (run / "tb").iterdir()
    assert re.fullmatch(r"\S+ \d+ \S+\n", (run / "lock").read_text())
    data, offset = events.read_bytes(), 0
    while offset < len(data):  # length, its CRC, the record, its CRC: nothing between two of them
        offset += 16 + struct.unpack_from("<Q", data, offset)[0]
    assert offset == len(data), (offset, len(data))
    # A result that nobody got is a failure; without standard input and error the result is there.
    for command in ("tokenizer encode --tokenizer tok.json --input tok.json --json", "data inspect data", "score run --text tok.json", "--help",
                  "train -h", "checkpoint inspect run", "plan", "generate run --prompt a --tokens 2"):
        result = shell(p, f"slipway {command} >&-")
        assert result.returncode == 4 and "cannot write standard output: Bad file descriptor" in result.stderr, (command, result)
        assert shell(p, f"slipway {command} 2>&- <&-").returncode == 0, command
    result = shell(p, "slipway tokenizer encode --tokenizer tok.json <&-")
    assert result.returncode == 3 and "cannot read standard input: Bad file descriptor" in result.stderr, result
    result = shell(p, "slipway tokenizer encode --tokenizer tok.json < .")
    assert result.returncode == 3 and "cannot read standard input: Is a directory" in result.stderr, result


def a_full_disk_behind_standard_output_says_so(p):
    for command in ("generate run --prompt a --tokens 4", "generate run --prompt a --tokens 4 --json", "score run --text tok.json --json", "--help",
                  "data inspect data"):
        result = shell(p, f"slipway {command} > /dev/full")
        errors = [line for line in result.stderr.splitlines() if "error" in line]
        assert result.returncode == 4 and len(errors) == 1 and "No space left on device" in errors[0], (command, result)


def generated_text_and_what_is_said_of_it_share_no_line(p):
    command = "slipway generate run --prompt a --tokens 4 --seed 1"
    separate, merged = shell(p, command), shell(p, command + " 2>&1")
    text, lines = separate.stdout, merged.stdout.splitlines()
    assert any(line.startswith("4 tokens, ended by") for line in lines), lines
    assert shell(p, command + " 2>/dev/null").stdout == text and merged.stdout.startswith(text + "\n"), (text, merged.stdout)


def a_launcher_that_is_gone_delays_nothing(p):
    stale_launcher_env = {"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2"}
    for env in (stale_launcher_env, stale_launcher_env | {"PMIX_NAMESPACE": "1", "PMIX_RANK": "1", "PMIX_SERVER_TMPDIR": "/nonexistent/job"},
                {"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2", "SLURM_TASK_PID": "2000000000"}):
        begin = time.time()
        result = shell(p, "slipway train --run nowhere --data none", **env)
        assert result.returncode == 3 and "there is no data folder at none" in result.stderr, result
        assert time.time() - begin < 5, time.time() - begin
    result = shell(p, f"slipway train --run alone --data data {shlex.join(TINY)}", **stale_launcher_env)
    assert result.returncode == 0 and "OMPI_COMM_WORLD_RANK is set, but its launcher is gone" in result.stderr, result
    assert len((p.folder / "alone" / "metrics.jsonl").read_text().splitlines()) == 2
    two_ranks = p.run("train", "--run", "two", "--data", "data", *TINY, ranks=2)
    assert "launcher is gone" not in two_ranks.err and json.loads(p.run("checkpoint", "inspect", "two", "--json").out)["layout"]["data"] == 2


def the_version_says_what_was_built_in(p):
    version = p.json("--version")
    assert {"version", "compiler", "build_type", "architecture", "matmul", "openmp", "mpi", "hdf5", "cuda", "nccl"} <= set(version), version
    assert all(isinstance(v, int) or v for v in version.values()), version
    text = p.run("--version").out
    assert re.match(r"slipway \d+\.\d+\.\d+\n", text), text
    for key in ("compiler", "matmul", "mpi", "hdf5", "cuda", "nccl"):
        assert version[key] in text, (key, text)
    assert ("not built in" in version["cuda"]) != (json.loads(p.run("doctor", "--json").out)["cuda_feature"]), version


def broken_json_says_where(p):
    def write_broken(name, text):
        (p.folder / name).write_text(text)
        return name
    tokens = (p.folder / "tok.json").read_text()
    ids = ["tokenizer", "decode", "--tokenizer", "tok.json", "--input"]
    cases = [(3, "data", [*ids, write_broken("ids.json", "[1,\n 2,]")], "line 2, column 4: unexpected ']'"),
             (3, "data", ["tokenizer", "encode", "--tokenizer", write_broken("cut.json", tokens[:len(tokens) // 2]), "--input", "tok.json"], "line "),
             (3, "data", ["tokenizer", "encode", "--tokenizer", write_broken("list.json", '{"model": {"type": "BPE", "vocab": [], "merges": 3}}'), "--input", "tok.json"], ""),
             (3, "data", ["data", "prepare", "--tokenizer", "tok.json", "--input", "text", "--out", "new", "--data.lanes", write_broken("lanes.json", "{")], "line 1, column 2"),
             (3, "data", ["data", "prepare", "--tokenizer", "tok.json", "--input", "text", "--out", "new", "--data.lanes", write_broken("lane.json", "[]")], "not a lane registry"),
             (2, "config", ["qa", "run", "--policy", write_broken("policy.json", '{"schema": nope}')], "line 1, column 13"),
             (2, "config", ["qa", "run", "--policy", write_broken("gate.json", '{"schema": "slipway.qa_policy", "schema_version": 1, "gates": [{"id": 3}]}')], "not a gate's policy")]
    for name, text in (("cut", "{"), ("list", "[]"), ("number", '{"schema": 3}'), ("empty", '{"schema": "slipway.data", "schema_version": 1}')):
        folder = p.folder / f"data-{name}"
        folder.mkdir()
        (folder / "manifest.json").write_text(text)
        (folder / "manifest.sha256").write_text(hashlib.sha256(text.encode()).hexdigest() + "\n")
        cases.append((3, "data", ["data", "inspect", folder.name], "line 1, column 2" if name == "cut" else ""))
    for status, fault, argv, says in cases:
        error = p.refuses(status, fault, *argv, says=(says,))
        assert "json.exception" not in error and len(error) < 500, error


if __name__ == "__main__":
    prove((every_command_has_help_in_every_form, the_example_of_the_program_runs, a_path_is_given_once, words_of_other_trainers_lead_to_the_key,
           closed_streams_are_nobodys_files, a_full_disk_behind_standard_output_says_so,
           generated_text_and_what_is_said_of_it_share_no_line, a_launcher_that_is_gone_delays_nothing,
           the_version_says_what_was_built_in, broken_json_says_where), prepare)

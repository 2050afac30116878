#!/usr/bin/env python3
"""What a run reports: the line about itself, the line that is redrawn, its warnings, what its losses were measured on, and why it is refused before step 1.

    python3 tests/e2e/report.py build/release/slipway
"""
import fcntl
import json
import multiprocessing
import os
import pathlib
import pty
import re
import statistics
import struct
import subprocess
import sys
import termios

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from program import metrics, prove, standard_library

SHAPE = ["--model.preset", "llama-1m", "--model.layers", "2", "--model.width", "32", "--model.heads", "2", "--model.kv_heads", "2", "--model.ffn", "48"]
TINY = [*SHAPE, "--train.sequence", "32", "--train.batch", "4", "--train.rehearsal", "off", "--runtime.threads", "1", "--numerics.compute", "f32",
        "--checkpoint.every", "0"]
RUN_ARGS = ["--data", "data", *TINY]


def prepare(p):
    standard_library(p.folder / "text", 120_000)
    p.run("tokenizer", "train", "--input", "text", "--tokenizer.vocabulary", "400", "--out", "tok.json")
    p.run("data", "prepare", "--tokenizer", "tok.json", "--input", "text", "--data.document_bytes", "2000", "--data.validation_fraction", "0.3",
          "--out", "data")
    p.run("train", "--run", "base", *RUN_ARGS, "--train.steps", "8", "--validate.every", "4")


def read_status(p, run):
    return json.loads((p.folder / run / "status.json").read_text())


def run_on_terminal(p, columns, *argv, **environment):
    """What the program writes to a terminal that is so wide; it tells the width by ioctl alone unless COLUMNS is given."""
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {k: v for k, v in os.environ.items() if k != "COLUMNS"} | {"TERM": "xterm"} | environment
    process = subprocess.Popen(p.command(argv), cwd=p.folder, env=environment, stdin=subprocess.DEVNULL, stdout=terminal, stderr=terminal)
    os.close(terminal)
    output = b""
    while True:
        try:
            chunk = os.read(controller, 65536)
        except OSError:  # the terminal's other end is closed
            break
        if not chunk:
            break
        output += chunk
    os.close(controller)
    assert process.wait() == 0, output.decode()
    return output.decode().replace("\r\n", "\n")


def the_live_line_fits_its_terminal(p):
    for columns, parts in ((40, ["Step", "Train Loss", "ETA"]), (80, ["Step", "Train Loss", "LR", "tok/s", "MFU", "ETA"]),
                           (130, ["Step", "Train Loss", "Val Loss", "LR", "Grad", "tok/s", "MFU", "ETA"])):
        text = run_on_terminal(p, columns, "train", "--run", f"wide{columns}", *RUN_ARGS, "--train.steps", "6", "--validate.every", "4")
        drawn = [line for redraw in text.split("\r\033[K")[1:] for line in redraw.split("\n")[:1]]
        steps = [int(re.match(r"Step (\d+) \| ", line)[1]) for line in drawn]
        assert steps == [1, 2, 3, 5], drawn  # 4 and 6 were validated: printed whole
        for line in drawn:
            assert len(line) < columns and [re.match(r"(Train Loss|Val Loss|[\w/]+)", column)[0] for column in line.split(" | ")] == parts, line
        assert "Val Loss: - | " in drawn[0] or columns < 130
        full_lines = [line for line in text.split("\n") if re.match(r"Step [46] \| Train Loss: [\d.]+ \| Val Loss: [\d.]+ \| LR .* \| ETA ", line)]
        assert len(full_lines) == 2, text
    narrow = run_on_terminal(p, 120, "train", "--run", "columns", *RUN_ARGS, "--train.steps", "2", COLUMNS="30")
    assert all(len(redraw.split("\n")[0]) < 30 for redraw in narrow.split("\r\033[K")[1:]), narrow
    assert "\033" not in run_on_terminal(p, 80, "train", "--run", "dumb", *RUN_ARGS, "--train.steps", "2", TERM="dumb")


def a_run_says_what_it_is(p):
    line = re.compile(r"^run: 6 steps \(train\.tokens 700\) = 768 tokens = [\d.]+ epochs; cosine 3e-3 to 3e-4, warm-up 1; validation every (\d+)$", re.M)
    argv = ["--data", "data", *TINY, "--train.tokens", "700"]
    result = p.run("train", "--run", "said", *argv)
    assert line.search(result.err), result.err
    assert "Val Loss is the mean over" in result.err and "of the validation split of corpus" in result.err, result.err
    plan = p.run("plan", *argv).out
    assert line.search(plan)[0] == line.search(result.err)[0], plan
    assert int(line.search(plan)[1]) % 100 == 0
    assert p.json("plan", *argv)["run"]["summary"] == line.search(plan)[0]
    defaults = p.run("plan", "--model.preset", "llama-1m").out
    assert "run: 1000 steps (default) = 8.19M tokens; cosine 3e-3 to 3e-4, warm-up 100; validation every 300\n" in defaults, defaults
    one = p.run("train", "--run", "one", *argv, "--train.micro_batch", "4", "--numerics.slots", "1", "--validate.every", "0")
    assert "in 1 micro-batch and 1 slot;" in one.err and "no validation" in one.err, one.err


def frozen_training_is_warned_of(p):
    result = p.run("train", "--run", "frozen", *RUN_ARGS, "--train.steps", "10", "--optim.peak_lr", "100", "--optim.max_grad_norm", "0", "--validate.every", "0")
    warnings = [line for line in result.err.splitlines() if line.startswith("slipway: warning: ") and "training is frozen" in line]
    assert len(warnings) == 1, result.err
    sentence = warnings[0].removeprefix("slipway: warning: ")
    step = int(re.match(r"step (\d+): the (?:gradient is exactly 0|loss has stayed at ln)", sentence)[1])
    lines = result.err.splitlines()
    assert lines[lines.index(warnings[0]) - 1].startswith(f"Step {step} | "), result.err
    assert lines[-1].startswith("done at step 10 of 10") and sentence.split("; ")[0] in lines[-1] and "1 warning: " in lines[-1], lines[-1]
    assert sentence in read_status(p, "frozen")["warnings"] and read_status(p, "frozen")["status"] == "ok"
    assert read_status(p, "base")["warnings"] == [] or "frozen" not in json.dumps(read_status(p, "base"))


def other_warnings_of_a_run_are_repeated_too(p):
    result = p.run("train", "--run", "offload", *RUN_ARGS, "--train.steps", "1", "--runtime.offload", "on")
    assert re.search(r"warnings?: .*runtime\.offload has no effect", result.err.splitlines()[-1]), result.err
    assert [w for w in read_status(p, "offload")["warnings"] if w.startswith("runtime.offload")]


def validation_and_saves_are_in_no_steps_time(p):
    p.run("train", "--run", "timed", *RUN_ARGS, "--train.steps", "12", "--validate.every", "4", "--checkpoint.every", "4")
    rates = [line["tokens_per_sec"] for line in metrics(p.folder / "timed")]
    after = [rates[4], rates[8]]  # steps 5 and 9: a validation took as long as dozens of steps
    assert max(after) > 0.4 * statistics.median(rates), rates


def mfu_is_never_above_100_percent(p):
    result = p.run("train", "--run", "peak", *RUN_ARGS, "--train.steps", "8", "--runtime.peak_gflops", "0.001")
    shares = [float(share) for share in re.findall(r"MFU ([\d.]+)%", result.err)]
    assert len(shares) == 8 and max(shares) == 100, result.err
    assert "runtime.peak_gflops of 1 rank" in result.err and "MFU is relative to what it reaches" in result.err, result.err
    p.refuses(2, "config", "train", "--run", "no", *RUN_ARGS, "--runtime.peak_gflops", "-1", says=("runtime.peak_gflops is -1",))


def a_score_of_the_data_folder_is_the_runs_own_figure(p):
    last = metrics(p.folder / "base")[-1]["val_loss"]
    scored = p.json("score", "base", "--data", "data")
    assert abs(scored["nll_mean"] - last) < 1e-4, (scored["nll_mean"], last)
    assert "of the validation split of corpus" in scored["text"] and scored["context"] == 32
    assert len(scored["ids"]) == len(scored["nll"]) and scored["nll"].count(None) > 1
    assert "text           " in p.run("score", "base", "--data", "data").out
    train = p.json("score", "base", "--data", "data", "--split", "train")
    assert "of the train split" in train["text"] and train["nll_mean"] != scored["nll_mean"]
    assert p.json("score", "base", "--data", "data", "--context", "16")["context"] == 16
    p.run("train", "--run", "stream", *RUN_ARGS, "--train.steps", "3", "--data.packing", "stream", "--validate.tokens", "999")
    stream = p.json("score", "stream", "--data", "data")
    assert abs(stream["nll_mean"] - metrics(p.folder / "stream")[-1]["val_loss"]) < 1e-4 and "32 sequences of 32" in stream["text"], stream["text"]
    p.refuses(2, "config", "score", "base", "--data", "data", "--text", "tok.json", says=("--text", "--data"))
    p.refuses(2, "config", "score", "base", "--text", "tok.json", "--split", "train", says=("--split",))
    p.refuses(2, "config", "score", "base", "--data", "data", "--split", "test", says=("'test'", "validation or train"))
    p.refuses(2, "config", "score", "base", says=("--text FILE", "--data DIR"))


def every_loss_says_what_it_was_measured_on(p):
    report = json.loads(subprocess.run(p.command(["qa", "base", "--json"]), cwd=p.folder, capture_output=True).stdout)  # it may not pass: that is not asked
    gate = next(gate for gate in report["gates"] if gate["id"] == "loss_below_uniform")
    assert "tokens of each of" in report["text"] and report["text"] in gate["explanation"], gate
    assert re.search(r"probe \(the first \d+ tokens of a built-in text\): same ids", p.run("export", "base", "--out", "base.gguf").out)


def what_no_memory_holds_is_refused_before_it_begins(p):
    endless = ["--train.sequence", "2147483647"]
    error = p.refuses(6, "device", "train", "--run", "endless", *RUN_ARGS, *endless, says=("this run needs", "this host has", "train.sequence = "))
    assert not (p.folder / "endless").exists()
    fits = int(re.search(r"train\.sequence = (\d+)", error)[1])
    assert p.json("plan", *RUN_ARGS, "--train.sequence", fits)["host"]["fits"]
    text = p.run("plan", *RUN_ARGS, *endless).out
    assert "memory of this host" in text and "does not fit" in text and "train.sequence = " in text, text
    host = p.json("plan", *RUN_ARGS, *endless)["host"]
    assert not host["fits"] and host["rank_bytes"] > host["free_bytes"] > 0
    p.refuses(6, "device", "train", "--run", "endless", *RUN_ARGS, *endless, ranks=2, says=("for each of its 2 ranks",))
    p.refuses(6, "device", "plan", *RUN_ARGS, *endless, "--calibrate", says=("this run needs",))
    p.refuses(2, "config", "plan", *RUN_ARGS, "--train.batch", "16", "--train.micro_batch", "16", *endless, "--gpu", "h100", says=("tokens at once",))
    max_int64 = "9223372036854775807"
    for key in ("train.tokens", "train.steps"):
        p.refuses(2, "config", "train", "--run", "endless", *RUN_ARGS, "--" + key, max_int64, says=(max_int64, "64-bit"))
        p.refuses(2, "config", "plan", *RUN_ARGS, "--" + key, max_int64, says=(max_int64, "64-bit"))
    p.refuses(4, "storage", "train", "--run", "keeps", *RUN_ARGS, "--checkpoint.keep", "2147483647", says=("2147483649 checkpoints",))
    p.refuses(2, "config", "plan", "--model.width", str(1 << 30), says=("model.width 1073741824", "parameters"))
    p.refuses(2, "config", "plan", *TINY, "--train.batch", "2147483647", "--train.micro_batch", "2", says=("does not divide",))
    p.refuses(2, "config", "plan", *TINY, "--train.epochs", "2", says=("train.epochs", "--data"))


def busy(cpu):
    os.sched_setaffinity(0, {cpu})
    while True:
        pass


def fewer_cpus_than_threads_are_warned_of(p):
    if not pathlib.Path("/proc/self/schedstat").exists():
        return  # this system does not count what threads wait for a CPU
    cpu = max(os.sched_getaffinity(0))
    burners = [multiprocessing.Process(target=busy, args=(cpu,), daemon=True) for _ in range(2)]
    for burner in burners:
        burner.start()
    try:
        result = subprocess.run(["taskset", "-c", str(cpu), *p.command(["train", "--run", "busy", *RUN_ARGS, "--train.steps", "192", "--train.batch", "16",
                                                                     "--log.every", "1000", "--validate.every", "0"])],
                              cwd=p.folder, capture_output=True, text=True, timeout=120)
    finally:
        for burner in burners:
            burner.terminate()
            burner.join()
    assert result.returncode == 0, result.stderr
    warnings = [line for line in result.stderr.splitlines() if "of the time for a CPU: other programs use this machine" in line]
    assert len(warnings) == 2, result.stderr  # once as it is noticed, once in the last line
    assert "for 1 thread," in warnings[0] and "warning" in result.stderr.splitlines()[-1]


if __name__ == "__main__":
    prove((the_live_line_fits_its_terminal, a_run_says_what_it_is, frozen_training_is_warned_of, other_warnings_of_a_run_are_repeated_too,
           validation_and_saves_are_in_no_steps_time, mfu_is_never_above_100_percent, a_score_of_the_data_folder_is_the_runs_own_figure,
           every_loss_says_what_it_was_measured_on, what_no_memory_holds_is_refused_before_it_begins, fewer_cpus_than_threads_are_warned_of), prepare)

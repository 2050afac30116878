#!/usr/bin/env python3
"""The scripts of examples/ run as their pages say, on a small text. Needs the oracles' Python (h5py, numpy).

    build/oracle/bin/python tests/docs/examples.py build/release/slipway
"""
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / "support")]
import program  # noqa: E402

EXAMPLES = ROOT / "examples"
SMALL = ["--model.preset", "llama-1m", "--model.layers", "1", "--train.steps", "4", "--train.batch", "4", "--train.sequence", "64",
         "--checkpoint.every", "2", "--validate.every", "2", "--validate.tokens", "2000", "--runtime.threads", "1"]


def run(folder, slipway, script, *argv, expect=0, **variables):
    result = subprocess.run([*([sys.executable] if script.endswith(".py") else []), str(EXAMPLES / script), *argv], cwd=folder, text=True,
                          capture_output=True, timeout=120, env=os.environ | program.MPI | {"SLIPWAY": slipway, **variables}, stdin=subprocess.DEVNULL)
    assert result.returncode == expect, f"{script} {argv}: {result.returncode}\n{result.stdout[-2000:]}\n{result.stderr[-3000:]}"
    return result.stdout


def own_text_becomes_a_gguf(slipway, folder):
    program.standard_library(folder / "texts", 150_000)
    out = run(folder, slipway, "own_text/run.sh", "texts", "out", *SMALL, VOCABULARY="600", OMP_NUM_THREADS="1")
    assert (folder / "out" / "model-f32.gguf").read_bytes()[:4] == b"GGUF" and "loss_below_uniform" in out


def two_hosts_train_one_run(slipway, folder):
    run(folder, slipway, "two_hosts/run.sh", "localhost", "localhost", "out/data", "pair", *SMALL, "--train.rehearsal", "off")
    subprocess.run([slipway, "checkpoint", "diff", "out/run", "pair"], cwd=folder, check=True, capture_output=True)


def a_fork_is_compared_with_its_parent(slipway, folder):
    out = run(folder, slipway, "fork_and_compare/run.sh", "out/run", "2", "slower", "out/data", "--optim.peak_lr", "0.0005")
    assert [line.split()[0] for line in out.splitlines() if line.lstrip()[:1].isdigit()][:1] == ["4"], out


def python_reads_a_checkpoint(slipway, folder):
    out = run(folder, slipway, "read_checkpoint/read.py", "out/run/checkpoints/step-00000004", "e")
    assert "token_embd.weight" in out and "nearest to 'e'" in out and "step 4 of run" in out, out


def main():
    slipway = str(pathlib.Path(sys.argv[1]).resolve())
    with tempfile.TemporaryDirectory() as folder:
        for test in (own_text_becomes_a_gguf, two_hosts_train_one_run, python_reads_a_checkpoint,
                      a_fork_is_compared_with_its_parent):
            test(slipway, pathlib.Path(folder))
            print(f"ok {test.__name__}", flush=True)


if __name__ == "__main__":
    main()

"""Time to quality: the tokens and the time that Muon needs for the loss that AdamW reaches; both tuned over the same rates.

    tests/bench/quality.py PROGRAM --folder DIR --out FILE.md       about two hours on two cores

Everything lies in DIR: a run that is complete is read and one that was interrupted goes on, so the script may be stopped and called again.
Losses do not depend on how busy the machine is, seconds do: steps are timed at the end, in short runs of both in turns, so that only those
need a quiet machine (`--no-time` leaves them for later).
"""
import argparse
import json
import os
import pathlib
import shutil
import statistics
import sys

import inputs
import machine
import measure

PRESET, VOCABULARY, BATCH, SEQUENCE = "llama-8m", 16384, 8, 512
RATES = (0.0005, 0.001, 0.002, 0.004)
SCHEDULE = {"AdamW": "cosine", "Muon": "wsd"}
GOAL = 0.65  # of AdamW's tokens and time, for Muon
PAIRS, WARM_UP, TIMED_STEPS = 5, 2, 8


class Trials:
    def __init__(self, bench):
        self.bench, self.folder = bench, bench.folder
        data = self.folder / f"data-{VOCABULARY}"
        self.data = data if (data / "manifest.json").is_file() else bench.inputs.data(VOCABULARY)
        self.common = ["--runtime.threads", bench.threads, "--train.rehearsal", "off", "--progress", "off"]

    def run(self, optimizer, rate, steps, seed):
        """The last validation loss."""
        folder = self.folder / f"{optimizer}-{rate}-{steps}-{seed}"
        print(f"{folder.name} ...", end=" ", file=sys.stderr, flush=True)

        def last_metrics():
            return measure.program.metrics(folder)[-1] if (folder / "metrics.jsonl").is_file() else {}

        if last_metrics().get("step") != steps:
            has_checkpoint = any((folder / "checkpoints").glob("step-*/manifest.json"))
            if not has_checkpoint:
                shutil.rmtree(folder, ignore_errors=True)  # of a run that was stopped before its first save
            train_argv = (["train", "--resume", folder, *self.common] if has_checkpoint else
                     [*self.train_argv(folder, optimizer, rate, steps, seed), "--validate.every", steps])
            measure.run(self.bench.program.command([*train_argv, "--checkpoint.every", 100, "--checkpoint.keep", 1]), cwd=self.folder)
        loss = last_metrics()["val_loss"]
        print(f"validation loss {loss:.4f}", file=sys.stderr, flush=True)
        return loss

    def step_seconds(self, optimizer, rate):
        """The median of TIMED_STEPS steps of a fresh run."""
        folder = self.bench.fresh_path("timed")
        measure.run(self.bench.program.command([*self.train_argv(folder, optimizer, rate, WARM_UP + TIMED_STEPS, 1), "--validate.every", 0,
                                                "--checkpoint.every", 0]), cwd=self.folder)
        return statistics.median(BATCH * SEQUENCE / m["tokens_per_sec"] for m in measure.program.metrics(folder)[WARM_UP:])

    def train_argv(self, folder, optimizer, rate, steps, seed):
        return ["train", "--run", folder, "--data", self.data, "--model.preset", PRESET, "--train.steps", steps, "--train.batch", BATCH,
                "--train.micro_batch", BATCH, "--train.sequence", SEQUENCE, "--train.seed", seed, "--optim.name", optimizer,
                "--optim.schedule", SCHEDULE[optimizer], "--optim.peak_lr", rate, *self.common]


def markdown_table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--folder", metavar="DIR", required=True, help="where runs lie, and stay")
    parser.add_argument("--out", metavar="FILE", help="the record [standard output]")
    parser.add_argument("--tokens", metavar="N", type=int, default=4_000_000, help="of AdamW's run [4000000]")
    parser.add_argument("--share", metavar="X", type=float, default=GOAL, help=f"of its tokens that Muon gets [{GOAL}]")
    parser.add_argument("--seeds", metavar="N", type=int, default=3, help="of the final runs [3]")
    parser.add_argument("--no-time", action="store_true", help="losses alone")
    args = parser.parse_args()
    folder = pathlib.Path(args.folder).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    threads = min(2, len(os.sched_getaffinity(0)))
    bench = measure.Bench(measure.program.Program(args.program, folder), 1, False, {}, {}, threads)
    bench.machine = machine.describe_machine(bench.program, threads, peers=())
    bench.inputs = inputs.BenchInputs(bench)
    trials = Trials(bench)

    steps = args.tokens // (BATCH * SEQUENCE)
    trial_losses = {name: {rate: trials.run(name, rate, steps // 4, seed=1) for rate in RATES} for name in SCHEDULE}
    best = {name: min(losses, key=losses.get) for name, losses in trial_losses.items()}
    run_steps = {"AdamW": steps, "Muon": round(args.share * steps)}
    final = {name: [trials.run(name, best[name], run_steps[name], seed) for seed in range(1, args.seeds + 1)] for name in SCHEDULE}

    muon_reached = [muon <= adamw for adamw, muon in zip(final["AdamW"], final["Muon"])]
    text = (f"{PRESET}, vocabulary {VOCABULARY}, {BATCH} x {SEQUENCE} tokens a step, on {bench.machine['cpu']}, {threads} threads. "
            f"AdamW falls by a cosine, Muon by wsd; everything else is the preset's.\n\n"
            f"Validation loss after {steps // 4} steps (seed 1), four rates each:\n\n"
            + markdown_table(["peak rate", *RATES], [[name, *(f"{loss:.4f}" for loss in losses.values())] for name, losses in trial_losses.items()])
            + f"\nWith its best rate AdamW trains {run_steps['AdamW']} steps and Muon {run_steps['Muon']} ({100 * args.share:.0f} % of the "
              "tokens):\n\n"
            + markdown_table(["seed", "AdamW", "Muon"], [[seed + 1, f"{a:.4f}", f"{m:.4f}"]
                                               for seed, (a, m) in enumerate(zip(final["AdamW"], final["Muon"]))])
            + f"\nMuon reached AdamW's loss in {sum(muon_reached)} of {args.seeds} seeds.\n")
    seconds = {name: [] for name in SCHEDULE}
    if not args.no_time:
        for _ in range(PAIRS):
            for name in SCHEDULE:
                seconds[name].append(trials.step_seconds(name, best[name]))
        adamw, muon = (run_steps[name] * statistics.median(seconds[name]) for name in ("AdamW", "Muon"))
        shares = [m * run_steps["Muon"] / (a * run_steps["AdamW"]) for a, m in zip(seconds["AdamW"], seconds["Muon"])]
        text += (f"Time of all steps: AdamW {adamw:.0f} s, Muon {muon:.0f} s: {muon / adamw:.2f} of it ({min(shares):.2f} to "
                 f"{max(shares):.2f}; goal {GOAL}), by the median step of {PAIRS} pairs of runs in turns, load "
                 f"{os.getloadavg()[0]:.1f}.\n")
    print(text)
    if args.out:
        pathlib.Path(args.out).write_text("# Time to quality: Muon beside AdamW\n\n" + text)
        pathlib.Path(args.out).with_suffix(".json").write_text(json.dumps(
            {"schema": "slipway.quality", "schema_version": 1, "machine": bench.machine, "tokens": args.tokens, "share": args.share, "tried": trial_losses,
             "best": best, "final": final, "step_seconds": seconds}, indent=1) + "\n")


if __name__ == "__main__":
    main()

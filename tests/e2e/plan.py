#!/usr/bin/env python3
"""`plan --calibrate` and `train.calibrate_s`: what they print and leave, that calibrating changes nothing, what is refused. How near the numbers come is
tests/e2e/plan_measured.py's affair; memory is held to a loose bound here.

    python3 tests/e2e/plan.py build/release/slipway
"""
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from program import prove
from ranks import TINY, prepare

MODEL = [*TINY, "--train.steps", 6, "--validate.every", 3]
MEMORY_TOLERANCE = 0.15  # of peak memory, for a process that is mostly the program itself: 40 MiB, of which the heap may hold 4 for later


def assert_times_positive(plan):
    predicted, parts = plan["predicted"], plan["calibration"]["part_seconds"]
    assert all(predicted[name] > 0 for name in ("step_seconds", "tokens_per_s", "run_seconds", "peak_resident_bytes")), predicted
    assert all(seconds > 0 for seconds in parts.values()), parts
    assert abs(predicted["tokens_per_s"] * predicted["step_seconds"] / (8 * 48) - 1) < 1e-6, predicted
    assert predicted["run_seconds"] > 6 * predicted["step_seconds"] * 0.999
    assert plan["calibration"]["layers"] == 2 and plan["calibration"]["micro_batches"] >= 3


def plan_measures_where_it_is_asked_to(p):
    plain = p.json("plan", *MODEL, "--vocabulary", 515)
    assert "predicted" not in plain and "calibration" not in plain
    for extra, ranks in (([], 0), (["--ranks", 2], 0), ([], 2), (["--data", "data"], 2)):
        plan = p.json("plan", *MODEL, "--vocabulary", 515, "--train.calibrate_s", 0.3, *extra, ranks=ranks)
        assert_times_positive(plan)
        assert plan["schema"] == "slipway.plan" and plan["data_ranks"] == (2 if extra[:1] == ["--ranks"] or ranks else 1)
        assert all(plan["memory_bytes"][kind] == plain["memory_bytes"][kind] for kind in ("weights", "gradients", "activations"))
    text = p.run("plan", *MODEL, "--calibrate", "--train.calibrate_s", 0.3).out
    for phrase in ("a micro-batch", "of 2 layers", "predicted", "tokens/s", "peak memory of a rank"):
        assert phrase in text, text
    assert "calibrate: " in p.run("plan", *MODEL, "--train.calibrate_s", 3).err  # what takes more than two seconds says so


def a_run_keeps_what_was_foretold_beside_what_came_out(p):
    for name, ranks, extra in (("counted", 0, []), ("one", 0, ["--train.calibrate_s", 0.5]), ("two", 2, ["--train.calibrate_s", 0.5])):
        result = p.run("train", "--run", name, "--data", "data", *MODEL, *extra, ranks=ranks)
        assert "plan.json" in result.err, result.err
        plan = json.loads((p.folder / name / "plan.json").read_text())
        assert plan["schema"] == "slipway.plan" and plan["schema_version"] == 1
        if extra:
            assert_times_positive(plan)
            assert "tokens/s), the run" in result.err, result.err
        predicted, measured = plan["predicted"]["peak_resident_bytes"], plan["measured"]["peak_resident_bytes"]
        assert abs(predicted / measured - 1) < MEMORY_TOLERANCE, (name, predicted, measured)
        assert measured >= plan["measured"]["step_seconds"] > 0 and plan["measured"]["steps"] == 6
    for other in ("one", "two"):
        p.run("checkpoint", "diff", "counted", other)  # calibrating moves no cursor and no random stream


def a_resume_foretells_what_is_left(p):
    p.run("train", "--resume", "one", "--train.steps", 9, "--train.calibrate_s", 0)
    plan = json.loads((p.folder / "one" / "plan.json").read_text())
    assert "calibration" not in plan and plan["measured"]["steps"] == 3
    p.run("train", "--resume", "one", "--train.calibrate_s", 0.3)  # finished: nothing is measured, the plan stays
    assert json.loads((p.folder / "one" / "plan.json").read_text()) == plan


def what_cannot_be_is_refused(p):
    for seconds in (-1, 601):
        p.refuses(2, "config", "plan", *MODEL, "--train.calibrate_s", seconds, says=("train.calibrate_s", str(seconds), "600"))
    p.refuses(2, "config", "plan", *MODEL, "--calibrat", says=("--calibrat", "calibrate"))
    p.refuses(2, "config", "plan", *MODEL, "--calibrate", "--ranks", 3, "--train.calibrate_s", 0.3, says=("3",))
    p.refuses(2, "config", "plan", *MODEL, "--calibrate", "--ranks", 4, ranks=2, says=("--ranks 4", "2 were started"))
    p.refuses(6, "device", "plan", *MODEL, "--calibrate", "--device", "cuda")


if __name__ == "__main__":
    prove((plan_measures_where_it_is_asked_to, a_run_keeps_what_was_foretold_beside_what_came_out, a_resume_foretells_what_is_left,
           what_cannot_be_is_refused), prepare)

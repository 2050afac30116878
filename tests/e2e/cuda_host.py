#!/usr/bin/env python3
"""Trains with the CUDA backend on the CUDA emulation, compared with the CPU; and the messages without a GPU.

    python3 tests/e2e/cuda_host.py build/release/tests/slipway_on_cuda_emulation build/release/slipway
"""
import json
import os
import pathlib
import re
import signal
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from processes import children, send_to_process, wait_until
from program import Program, metrics, prove, steps_done
from ranks import TINY, prepare, train

CUDA = ["--device", "cuda"]
STEPS = ["--train.steps", "8", "--validate.every", "4", "--checkpoint.every", "4", "--validate.tokens", "400", "--train.sequence", "32"]
HORIZON = ["--optim.schedule_steps", "8", "--optim.warmup_steps", "1"]
# Enough rows that the communication of one half overlaps with the matmuls of the other half.
WIDE = [*STEPS, "--train.steps", "4", "--train.sequence", "64", "--train.batch", "8", "--train.micro_batch", "4"]
F32_BOUND, BF16_BOUND = 1e-4, 0.02  # nats a token, of a step's loss


def losses(program, run):
    return [(m["train_loss"], m["grad_norm"], m.get("val_loss")) for m in metrics(program.folder / run)]


def assert_losses_close(program, run, other, bound):
    one, two = losses(program, run), losses(program, other)
    assert len(one) == len(two) and one
    for step, (a, b) in enumerate(zip(one, two), 1):
        assert abs(a[0] - b[0]) < bound, f"{run} has loss {a[0]} at step {step}, {other} {b[0]}"
        assert (a[2] is None) == (b[2] is None) and (a[2] is None or abs(a[2] - b[2]) < bound), f"{run}, {other}: validation at step {step}: {a[2]}, {b[2]}"
        assert abs(a[1] - b[1]) < 50 * bound * b[1], f"{run}, {other}: gradient norms {a[1]}, {b[1]} at step {step}"


def the_losses_follow_the_cpu(program):
    for name, extra, bound in (("f32", [], F32_BOUND), ("bf16", ["--numerics.compute", "bf16"], BF16_BOUND)):
        train(program, "cpu-" + name, *STEPS, *extra, "--device", "cpu")
        train(program, "gpu-" + name, *STEPS, *extra, *CUDA)
        assert_losses_close(program, "gpu-" + name, "cpu-" + name, bound)
    assert losses(program, "gpu-bf16") != losses(program, "gpu-f32"), "bf16 was not computed"
    assert {m["device"] for m in metrics(program.folder / "gpu-f32")} == {"cuda:0"}
    assert {m["device"] for m in metrics(program.folder / "cpu-f32")} == {"cpu"}
    build = program.json("checkpoint", "inspect", "gpu-f32")["build"]
    assert build["device"] == "cuda:0" and build["products"] == "cublaslt" and "CUDA emulation" in build["hardware"], build


def a_gpt2_follows_the_cpu(program):
    """LayerNorm, GELU, learned positions and biases; on two tensor ranks each sees a part of the rows."""
    gpt2 = [*STEPS, "--model.preset", "gpt2-1m", "--train.steps", "4"]
    for name, extra, bound in (("gpt2-f32", [], F32_BOUND), ("gpt2-bf16", ["--numerics.compute", "bf16"], BF16_BOUND)):
        train(program, name, *gpt2, *extra, "--device", "cpu")
        train(program, name + "-gpu", *gpt2, *extra, *CUDA)
        assert_losses_close(program, name + "-gpu", name, bound)
        assert_memory_as_planned(program, name + "-gpu")
    train(program, "gpt2-d2", *gpt2, *CUDA, ranks=2)
    assert losses(program, "gpt2-d2") == losses(program, "gpt2-f32-gpu"), "2 ranks and 1 differ"
    program.run("checkpoint", "diff", "gpt2-d2", "gpt2-f32-gpu")
    train(program, "gpt2-t2", *gpt2, *CUDA, "--mesh.tensor", 2, ranks=2)
    assert_losses_close(program, "gpt2-t2", "gpt2-f32", F32_BOUND)
    greedy = [program.json("generate", "gpt2-f32-gpu", "--prompt", "import os", "--tokens", 8, "--temperature", 0, "--device", d)["ids"] for d in ("cpu", "cuda")]
    assert greedy[0] == greedy[1]


def assert_memory_as_planned(program, run):
    plan = json.loads((program.folder / run / "plan.json").read_text())
    planned, measured = plan["predicted"]["device_peak_bytes"], plan["measured"]["device_peak_bytes"]
    # A plan has a 256th more, for pieces that come to lie otherwise (src/plan/device_memory_check.cpp).
    assert abs(planned - measured) < 0.005 * measured, f"{run}: {planned} bytes planned, {measured} taken"


def the_plan_of_a_gpus_memory_holds(program):
    for run, extra in (("gpu-f32", []), ("gpu-bf16", []), ("memory", ["--train.micro_batch", "4", "--train.recompute", "on"]), ("kept", ["--train.recompute", "none", "--train.micro_batch", "4"]),
                      ("heavy", ["--train.steps", "2", "--model.width", "384", "--model.ffn", "768"]),
                      ("sampled", ["--sample.every", "8", "--sample.tokens", "100"]), ("calibrated", ["--model.layers", "4", "--train.calibrate_s", "1"])):
        if extra:
            train(program, run, *STEPS, *CUDA, *extra)
        assert_memory_as_planned(program, run)
    planned_bytes = program.json("plan", "--data", "data", *TINY, *STEPS, *CUDA)["device_peak_bytes"]
    assert planned_bytes == json.loads((program.folder / "gpu-f32" / "plan.json").read_text())["predicted"]["device_peak_bytes"], planned_bytes
    os.environ["SLIPWAY_HOST_DEVICE_MIB"] = "40"
    try:
        large = ["train", "--data", "data", *TINY, *STEPS, *CUDA, "--train.sequence", "256", "--train.batch", "8", "--train.micro_batch", "8", "--train.steps", "1"]
        stderr = program.refuses(6, "device", *large, "--run", "large", says=("of cuda:0's memory", "are free", "train.micro_batch = "))
        fitting_micro_batch = re.search(r"train.micro_batch = (\d+)", stderr)[1]
        program.run(*large, "--run", "fits", "--train.micro_batch", fitting_micro_batch)
        program.refuses(6, "device", *large, "--run", "larger", "--model.width", "960", says=("no train.micro_batch fits",))
        full_args = [*large, "--train.micro_batch", fitting_micro_batch, "--train.rehearsal", "on", "--validate.every", "1", "--sample.every", "1", "--validate.tokens", "2000"]
        stderr = program.run(*full_args, "--run", "whole").err  # what a rehearsal took is given back, and what comes beside steps is planned
        assert "out of GPU memory" not in stderr
        program.run("train", "--data", "data", *TINY, *STEPS, "--train.steps", "1", "--device", "cpu", "--run", "wide", "--model.width", "384", "--model.ffn", "768")
        os.environ["SLIPWAY_HOST_DEVICE_MIB"] = "2"
        stderr = program.refuses(6, "device", "generate", "wide", "--prompt", "x", *CUDA, says=("out of GPU memory", "this process holds", "bf16"))
        assert re.search(r"for the weights \(\d+ tensors, token_embd.weight the first\): [\d.]+ MiB are asked for, where [\d.]+ MiB of", stderr), stderr
    finally:
        del os.environ["SLIPWAY_HOST_DEVICE_MIB"]


def data_ranks_give_the_same_bits(program):
    for ranks in (2, 4):
        result = train(program, f"gpu-{ranks}", *STEPS, *CUDA, ranks=ranks)
        assert f"{ranks} ranks on this host share 1 GPU" in result.err, result.err
        assert losses(program, f"gpu-{ranks}") == losses(program, "gpu-f32"), f"{ranks} ranks and 1 differ"
        program.run("checkpoint", "diff", f"gpu-{ranks}", "gpu-f32")


def tensor_ranks_follow_one_rank(program):
    for name, ranks, tensor in (("t2", 2, 2), ("d2t2", 4, 2)):
        train(program, name, *STEPS, *CUDA, "--mesh.tensor", tensor, ranks=ranks)
        assert_losses_close(program, name, "cpu-f32", F32_BOUND)
    for name, extra, bound in (("wide-f32", [], F32_BOUND), ("wide-bf16", ["--numerics.compute", "bf16", "--train.recompute", "none"], BF16_BOUND)):
        train(program, name, *WIDE, *extra, "--device", "cpu")
        train(program, name + "-t2", *WIDE, *extra, *CUDA, "--mesh.tensor", 2, ranks=2)
        assert_losses_close(program, name + "-t2", name, bound)
        assert_memory_as_planned(program, name + "-t2")


def the_librarys_sums_follow_too(program):
    train(program, "library", *STEPS, *CUDA, "--numerics.reduction", "library", ranks=4)
    assert_losses_close(program, "library", "gpu-f32", F32_BOUND)
    train(program, "library-t2", *STEPS, *CUDA, "--numerics.reduction", "library", "--mesh.tensor", 2, ranks=4)
    assert_losses_close(program, "library-t2", "gpu-f32", F32_BOUND)
    program.refuses(2, "config", "train", "--run", "none", "--data", "data", *TINY, *STEPS, "--device", "cpu", "--numerics.reduction", "library", says=("NCCL", "cpu"))


def any_order_of_streams_and_threads_gives_the_same_bits(program):
    """Of streams also without graphs, within which the CUDA emulation keeps the order of calls."""
    for variable, value, graphs in (("SLIPWAY_STREAMS", "eager", "on"), ("SLIPWAY_STREAMS", "shuffled:5", "off"), ("SLIPWAY_THREAD_ORDER", "descending", "on")):
        os.environ[variable] = value
        try:
            name = value.split(":")[0]
            train(program, name, *STEPS, *CUDA, "--runtime.graphs", graphs, ranks=2)
            train(program, name + "-t2", *WIDE, *CUDA, "--runtime.graphs", graphs, "--mesh.tensor", 2, ranks=2)
        finally:
            del os.environ[variable]
        for one, other in ((name, "gpu-f32"), (name + "-t2", "wide-f32-t2")):
            assert losses(program, one) == losses(program, other), f"{variable}={value} changes the numbers of {one}"


def however_it_is_queued_the_bits_are_the_same(program):
    """Without graphs; with the moments on the host; with tuned matmuls, whose algorithms a resumed run and all ranks use."""
    for name, extra, ranks in (("plain", ["--runtime.graphs", "off"], 1), ("offload", ["--runtime.offload", "on"], 2), ("tuned", ["--runtime.tune", "on"], 2)):
        result = train(program, name, *STEPS, *CUDA, *extra, ranks=ranks)
        assert losses(program, name) == losses(program, "gpu-f32"), f"{name} changes the numbers"
        program.run("checkpoint", "diff", name, "gpu-f32")
    assert "timed the algorithms of " in result.err, result.err
    algorithms_text = (program.folder / "tuned/gemm_algorithms.txt").read_text()
    assert algorithms_text.startswith("cublasLt ") and "# [" in algorithms_text and "algorithm " in algorithms_text, algorithms_text[:300]
    stderr = program.run("train", "--resume", "tuned", *CUDA, "--train.steps", "9").err
    resumed_lines = (program.folder / "tuned/gemm_algorithms.txt").read_text().splitlines()
    missing = [line for line in algorithms_text.splitlines() if line not in resumed_lines]  # more may be there: the peak's matmul is as large as time allows
    assert "timed the algorithms" not in stderr and not missing, missing
    (program.folder / "tuned/gemm_algorithms.txt").write_text("cublasLt of another year\n")
    stderr = program.run("train", "--resume", "tuned", *CUDA, "--train.steps", "10").err
    assert "chosen anew" in stderr and (program.folder / "tuned/gemm_algorithms.txt").read_text().startswith(algorithms_text.splitlines()[0])
    memory = {name: json.loads((program.folder / name / "plan.json").read_text())["measured"]["device_peak_bytes"] for name in ("plain", "offload")}
    assert memory["offload"] < memory["plain"], memory
    assert "no effect on the CPU" in train(program, "tuned-cpu", "--train.steps", "1", "--device", "cpu", "--runtime.tune", "on").err


def a_step_that_is_not_finite_moves_nothing_though_the_next_one_is_queued(program):
    nan = [*STEPS, *CUDA, "--fault.nan_step", "6", "--fault.nan_rank", "1"]
    error = program.refuses(7, "numeric", "train", "--run", "nan", "--data", "data", *TINY, *nan, ranks=2, says=("step 6 ", "rank 1", "tensor ", "not touched"))
    assert [m["step"] for m in metrics(program.folder / "nan")] == [1, 2, 3, 4, 5], error
    assert losses(program, "nan") == losses(program, "gpu-f32")[:5]


def muon_follows_the_cpu_and_keeps_its_bits(program):
    muon = [*STEPS, "--optim.name", "muon", "--optim.schedule", "wsd"]
    train(program, "muon-cpu", *muon, "--device", "cpu")
    for name, ranks, extra in (("muon-1", 1, []), ("muon-2", 2, []), ("muon-t2", 2, ["--mesh.tensor", "2"])):
        train(program, name, *muon, *CUDA, *extra, ranks=ranks)
        assert_losses_close(program, name, "muon-cpu", 10 * F32_BOUND)
    assert losses(program, "muon-1") == losses(program, "muon-2")
    program.run("checkpoint", "diff", "muon-1", "muon-2")


def a_run_goes_on_on_the_other_device(program):
    train(program, "unbroken", *STEPS, *HORIZON, "--device", "cpu")
    for before, after, ranks in (("cpu", "cuda", 2), ("cuda", "cpu", 1)):
        run = f"{before}-then-{after}"
        train(program, run, *STEPS, *HORIZON, "--train.steps", "4", "--device", before)
        stderr = program.run("train", "--resume", run, "--device", after, "--train.steps", "8", ranks=ranks).err
        assert "equal to rounding, not to the bit" in stderr and "cuda:0" in stderr, stderr
        assert_losses_close(program, run, "unbroken", F32_BOUND)
        assert [m["device"][:4] for m in metrics(program.folder / run)] == [before] * 4 + [after] * 4


def models_answer_alike_on_both_devices(program):
    (program.folder / "text.txt").write_text("def main(argv):\n    return len(argv)\n" * 3)
    answers, scores = [], []
    for device in ("cpu", "cuda"):
        draws = (["--temperature", 0], ["--temperature", 0.9, "--top_k", 40, "--top_p", 0.9, "--seed", 5], ["--temperature", 1.5, "--top_p", 1])
        answers.append([program.json("generate", "gpu-f32", "--prompt", "import os", "--tokens", 12, *sampling, "--device", device)["ids"] for sampling in draws])
        scores.append(program.json("score", "gpu-f32", "--text", "text.txt", "--device", device)["nll"])
    assert answers[0] == answers[1] and answers[0][0] != answers[0][1] != answers[0][2]
    assert all((a is None) == (b is None) and (a is None or abs(a - b) < F32_BOUND) for a, b in zip(*scores, strict=True))
    program.run("export", "gpu-f32", "--out", "m.gguf", "--type", "q8_0")
    for model in ("gpu-f32", "m.gguf"):
        report = program.json("bench", model, "--prompt", 16, "--tokens", 4, "--iterations", 1, *CUDA)
        assert report["compute_class"] == "cuda/cublaslt/f32" and report["device"] == "cuda:0", report
    greedy = [program.json("generate", "m.gguf", "--prompt", "import os", "--tokens", 8, "--temperature", 0, "--device", d)["ids"] for d in ("cpu", "cuda")]
    assert greedy[0] == greedy[1]


def a_stuck_rank_ends_the_run_with_its_name(program):
    """Every GPU but one waits for a message that the stuck rank does not send."""
    run = program.start("train", "--run", "stuck", "--data", "data", *TINY, *STEPS, "--train.steps", "500", "--runtime.watchdog_s", "4", *CUDA, ranks=4)
    wait_until(lambda: steps_done(program.folder / "stuck") >= 2, "two steps of four ranks")
    stopped_pid = children(run.pid)[-1]
    os.kill(stopped_pid, signal.SIGSTOP)
    try:
        _, stderr = run.communicate(timeout=60)
    finally:
        send_to_process(stopped_pid, signal.SIGKILL)
    # The first of the three that detects it reports it.
    assert run.returncode != 0 and re.search(rf"slipway: error \(comm\): rank [012] waits for .* hears nothing from rank 3, whose process {stopped_pid} is stopped", stderr), stderr[-2000:]


def a_gpu_that_fails_ends_the_run_with_its_reason(program):
    """An error that lasts: whatever is freed on the way out meets it again, and none of that hides the first."""
    for run, kernel, graphs, ranks in (("lost-early", "200", "on", 0), ("lost-late", "3000", "on", 0), ("lost-plain", "3000", "off", 0),
                                       ("lost-ranks", "1500", "on", 2), ("lost-last", "1500@1", "on", 2)):
        os.environ["SLIPWAY_HOST_DEVICE_FAILS"] = kernel
        try:
            result = program.run("train", "--run", run, "--data", "data", *TINY, *STEPS, "--runtime.graphs", graphs, *CUDA, ranks=ranks, expect=6)
        finally:
            del os.environ["SLIPWAY_HOST_DEVICE_FAILS"]
        error_lines = [line for line in result.err.splitlines() if line.startswith("slipway: error")]
        says = ("error (device): ", "cudaErrorIllegalAddress", "train --resume")
        assert 1 <= len(error_lines) <= max(ranks, 1) and all(text in error_lines[0] for text in says), result.err[-2000:]
        status = json.loads((program.folder / run / "status.json").read_text())
        assert status["status"] == "failed" and status["fault"] == "device", status


def doctor_calls_it_what_it_is(program):
    doctor = program.json("doctor", *CUDA)
    assert doctor["device"] == "cuda:0" and doctor["cuda_on_host_lanes"] and "CUDA emulation (no GPU)" in doctor["visible_devices"][0], doctor
    assert program.json("doctor")["device"] == "cpu", "auto must not take the CUDA emulation"
    program.refuses(6, "device", "doctor", "--device", "cuda:7", says=("cuda:7", "sees 1"))
    program.refuses(2, "config", "doctor", "--device", "cuda:x", says=("cuda:x", "cpu, cuda, cuda:N or auto"))


def without_a_gpu_every_command_says_why(program):
    plain = Program(sys.argv[2], program.folder)
    doctor = plain.json("doctor")
    assert doctor["device"] == "cpu" and not doctor["cuda_runtime_available"] and doctor["cuda_why_not"], doctor
    reason = doctor["cuda_why_not"].split(":")[0]
    for argv in (["train", "--run", "none", "--data", "data", *TINY, *STEPS], ["score", "gpu-f32", "--text", "text.txt"],
                  ["generate", "gpu-f32", "--prompt", "x", "--tokens", 1], ["qa", "gpu-f32"], ["bench", "gpu-f32"], ["doctor"],
                  ["export", "gpu-f32", "--out", "none.gguf", "--type", "f16"], ["plan", "--calibrate"], ["plan"]):
        plain.refuses(6, "device", *argv, *CUDA, says=("--device cuda", reason))
    plain.refuses(6, "device", "train", "--run", "none", "--data", "data", *TINY, *STEPS, *CUDA, says=("--device cuda", reason), ranks=2)
    assert not (program.folder / "none").exists() and not (program.folder / "none.gguf").exists()


TESTS = [the_losses_follow_the_cpu, a_gpt2_follows_the_cpu, the_plan_of_a_gpus_memory_holds, data_ranks_give_the_same_bits, tensor_ranks_follow_one_rank,
          the_librarys_sums_follow_too, any_order_of_streams_and_threads_gives_the_same_bits,
          however_it_is_queued_the_bits_are_the_same,
          a_step_that_is_not_finite_moves_nothing_though_the_next_one_is_queued,
          muon_follows_the_cpu_and_keeps_its_bits, a_run_goes_on_on_the_other_device, models_answer_alike_on_both_devices,
          a_stuck_rank_ends_the_run_with_its_name, a_gpu_that_fails_ends_the_run_with_its_reason,
          doctor_calls_it_what_it_is, without_a_gpu_every_command_says_why]

if __name__ == "__main__":
    prove(TESTS, prepare)

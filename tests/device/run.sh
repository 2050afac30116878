#!/usr/bin/env bash
# What only a machine with a GPU can prove, in one command: every kernel against its f64 reference, the trainer beside the CPU's, ranks
# over NCCL, speed beside the roofline, memory beside the plan. Under ten minutes; prints one table and writes a JSON file.
#   tests/device/run.sh                 everything
#   tests/device/run.sh --only NAME     parts whose name holds NAME (kernels, trainer, ranks, resume, speed); may be repeated
#   tests/device/run.sh --out FILE      where the JSON goes [docs/bench/DATE-GPU.json]
# Ends with 6 where no GPU can be used, and with 1 where a check fails.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

./launch/install-deps.sh
cmake --preset release -DSLIPWAY_CUDA=ON >/dev/null
cmake --build --preset release --target slipway slipway_cuda test_device_kernels -- --quiet
exec python3 tests/device/report.py build/release "$@"

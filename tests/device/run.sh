#!/usr/bin/env bash
# What only a machine with a GPU can prove, in one command: every kernel against its f64 reference, the trainer beside the CPU's, ranks
# over NCCL, speed beside the roofline, memory beside the plan. Under ten minutes; prints one table and writes a JSON file.
#   tests/device/run.sh                 everything
#   tests/device/run.sh --only NAME     parts whose name holds NAME (kernels, trainer, ranks, resume, speed); may be repeated
#   tests/device/run.sh --out FILE      where the JSON goes [docs/bench/DATE-GPU.json]
#   tests/device/run.sh --build DIR     first of all: what is built there already, and nothing is installed or built
# Runs live in a folder of their own under TMPDIR [/tmp], where the largest needs 36 GB. Ends with 6 where no GPU can be used, and with
# 1 where a check fails.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

if [ "${1:-}" = --build ]; then
  build=${2:?--build names a folder}
  [ -x "$build/slipway" ] || { echo "run.sh: no slipway in $build: build it there first" >&2; exit 2; }
  shift 2
else
  build=build/release
  configure=(cmake --preset release -DSLIPWAY_CUDA=ON)
  # Packages only where some are missing: a machine without a network may have all it needs.
  "${configure[@]}" >/dev/null 2>&1 || { ./launch/install-deps.sh && "${configure[@]}" >/dev/null; }
  cmake --build "$build" --target slipway slipway_cuda test_device_kernels -- --quiet
fi
exec python3 tests/device/report.py "$build" "$@"

#!/usr/bin/env bash
# Runs Slipway and its alternatives in turns, and prints one table (docs/bench/README.md says how to read it).
#   tests/bench/run.sh                  every row, 5 pairs: about two hours on two cores; samples go to docs/bench/
#   tests/bench/run.sh --only NAME      rows whose name holds NAME, such as training, decode, export; may be repeated
#   tests/bench/run.sh --pairs N        N pairs a row
#   tests/bench/run.sh --quick          small sizes and 2 pairs, to see that it works; its numbers mean nothing
#   tests/bench/run.sh --list           the rows
# BENCH_PYTHON takes another Python that has the peers; BENCH_PROGRAM another slipway than build/release/slipway.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

create_venv() {  # quick when it is there and current
  local requirements=tests/bench/requirements.txt nightly=tools/oracle/requirements-nightly.txt folder=build/bench-env
  local python=/usr/bin/python3  # Debian's: python3-venv belongs to it, and the pins are for its version
  [ -x "$python" ] || python=$(command -v python3)
  local fingerprint
  fingerprint=$({ cat "$requirements" "$nightly"; "$python" --version; pwd; } | sha256sum)
  if [ ! -f "$folder/.made-from" ] || [ "$(cat "$folder/.made-from")" != "$fingerprint" ]; then
    echo "bench: making $folder from $requirements (some gigabytes)" >&2
    rm -rf "$folder"
    "$python" -m venv "$folder"
    "$folder/bin/pip" install --quiet --disable-pip-version-check --no-input --retries 5 --requirement "$requirements"
    "$folder/bin/python" -c "import gguf, tiktoken, tokenizers, torch, xllamacpp, xxhash"
    echo "$fingerprint" >"$folder/.made-from"  # last, so that a broken installation is made again
  fi
}

[ -n "${BENCH_PYTHON:-}" ] || create_venv
program=${BENCH_PROGRAM:-build/release/slipway}
[ -x "$program" ] || { echo "bench: there is no $program; build it: cmake --preset release && cmake --build --preset release" >&2; exit 2; }
exec "${BENCH_PYTHON:-build/bench-env/bin/python}" tests/bench/bench.py "$program" "$@"

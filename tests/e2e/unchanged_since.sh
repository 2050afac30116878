#!/usr/bin/env bash
# Builds the program of an earlier commit, and compares the present one with it bit by bit (unchanged.py).
#
#   tests/e2e/unchanged_since.sh COMMIT build/release/slipway
#
# The earlier one is built once, in build/unchanged. Status 77 (ctest: skipped) where the history does not have the commit.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
commit=$1 new=$(realpath "$2") at=build/unchanged/$1

if ! git cat-file -e "$commit^{commit}" 2>/dev/null; then
  echo "unchanged_since: this checkout has no commit $commit: git fetch --unshallow"
  exit 77
fi
if [ ! -x "$at/build/slipway" ]; then
  rm -rf "$at" && mkdir -p "$at/source"
  git archive "$commit" | tar -x -C "$at/source"
  cmake --preset release -S "$at/source" -B "$at/build" -DSLIPWAY_CUDA=OFF >/dev/null
  cmake --build "$at/build" --target slipway -- --quiet
fi
exec python3 tests/e2e/unchanged.py "$at/build/slipway" "$new"

#!/usr/bin/env bash
# Builds the program of an earlier commit, and compares the present one with it bit by bit (unchanged.py).
#
#   tests/e2e/unchanged_since.sh COMMIT build/release/slipway
#
# The earlier one is built once, in build/unchanged. Status 77 (ctest: skipped) where the history does not have the commit.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
commit=$1 new=$(realpath "$2") build_root=build/unchanged/$1

if ! git cat-file -e "$commit^{commit}" 2>/dev/null; then
  echo "unchanged_since: this checkout has no commit $commit: git fetch --unshallow"
  exit 77
fi
if [ ! -x "$build_root/build/slipway" ]; then
  rm -rf "$build_root" && mkdir -p "$build_root/source"
  git archive "$commit" | tar -x -C "$build_root/source"
  cmake --preset release -S "$build_root/source" -B "$build_root/build" -DSLIPWAY_CUDA=OFF >/dev/null
  cmake --build "$build_root/build" --target slipway -- --quiet
fi
exec python3 tests/e2e/unchanged.py "$build_root/build/slipway" "$new"

#!/usr/bin/env bash
# Installs what is missing, builds, and runs all tests: the release build in full, then the sanitizers in part.
#   launch/test.sh                 what CI runs: all tests; then unit, property and parity tests under the address and
#                                  undefined-behavior sanitizers, and threaded tests under the thread sanitizer; about an
#                                  hour on two cores with cold caches
#   launch/test.sh --quick         the release build's tests only
#   launch/test.sh --sanitizers    both sanitizer builds only, with all tests that can run in them
#   launch/test.sh --nightly       the slow tests, every file linted, unit, property and parity tests built by Clang;
#                                  installs torch and transformers (some gigabytes) in addition to the oracles
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

release=true sanitizers=part nightly=false
case ${1:-} in
  "") ;;
  --quick) sanitizers=none ;;
  --sanitizers) release=false sanitizers=all ;;
  --nightly) release=false sanitizers=none nightly=true ;;
  *) echo "test: unknown option '$1'; there are --quick, --sanitizers and --nightly" >&2; exit 2 ;;
esac

jobs=$(nproc)
failed=()
say() { printf '\n== %s (%dm%02ds)\n' "$*" $((SECONDS / 60)) $((SECONDS % 60)); }

build() {  # build PRESET [targets]: prints the output only when the build fails
  say "build: $*"
  local options=(-DSLIPWAY_WERROR=ON) configure_log
  case $1 in release | nightly) options+=(-DSLIPWAY_CUDA=AUTO) ;; esac # the quickstart may have left OFF there
  configure_log=$(cmake --preset "$1" "${options[@]}")
  grep '^-- CUDA' <<<"$configure_log"
  cmake --build --preset "$1" --target "${@:2}" -- --quiet
}
run_tests() {  # run_tests PRESET [ctest options]
  say "tests: $*"
  ctest --preset "$1" -j "$jobs" --no-tests=error "${@:2}" || failed+=("$1")
}

build_and_test() {  # build_and_test PRESET LABEL...: the tests of these labels
  local labels=("${@:2}")
  build "$1" "${labels[@]/#/tests_}"
  run_tests "$1" --label-regex "^($(IFS='|' && echo "${labels[*]}"))\$"
}

say "dependencies"
./launch/install-deps.sh --tests

if $release; then
  ./tools/oracle/setup.sh
  build release all
  run_tests release
fi
if $nightly; then
  ./tools/oracle/setup.sh
  ./tools/oracle/setup.sh --nightly
  build nightly slipway test_mutated_files
  run_tests nightly --label-regex '^nightly$'
  build_and_test clang unit property parity
fi
sanitize() {  # sanitize PRESET LABEL...
  build_and_test "$@"
  if [ "$1" = asan ] && grep -q ' avx512f ' /proc/cpuinfo; then # the kernels and matmuls that a processor with AVX2 takes
    SLIPWAY_INSTRUCTIONS=base ONEDNN_MAX_CPU_ISA=AVX2 run_tests asan --tests-regex '^(model|muon_parity|infer|train|dry_run)$'
  fi
}
case $sanitizers in
  all)
    sanitize asan unit property parity ranks cuda_host
    sanitize tsan unit property parity ranks
    ;;
  part)
    sanitize asan unit property parity cuda_host  # every kernel, including GPU kernels on the CUDA emulation
    sanitize tsan threads               # ranks as threads, the loader, asynchronous saves
    ;;
esac

say "done"
if [ ${#failed[@]} -ne 0 ]; then
  echo "FAILED in: ${failed[*]}"
  exit 1
fi
echo "all tests passed"

#!/usr/bin/env bash
# Installs the missing packages for building and running (Debian 12, apt). Asks no questions.
#   launch/install-deps.sh            to build and run
#   launch/install-deps.sh --tests    also what the tests need
#   launch/install-deps.sh --list     prints the packages, one a line, and does nothing
set -euo pipefail

packages=(
  build-essential cmake ninja-build ccache pkg-config  # the build
  libopenmpi-dev openmpi-bin                           # ranks
  libhdf5-openmpi-dev                                  # checkpoints
  libdnnl-dev                                          # matmuls on the CPU
  libboost-program-options-dev nlohmann-json3-dev      # configuration, JSON
  libicu-dev                                           # Unicode categories and NFC
  libssl-dev libxxhash-dev                             # hashes
  zlib1g-dev libzstd-dev                               # compressed input
  libgtest-dev                                         # the build configures the tests too
  python3                                              # the quickstart trains on its standard library
)
test_packages=(
  python3-venv  # oracles from PyPI, pinned in tools/oracle/requirements.txt
  hdf5-tools    # h5dump reads our checkpoints
  strace        # I/O errors in the middle of a save
  libboost-context-dev  # fibers, which run GPU threads in the CUDA emulation
  clang libomp-dev      # the second compiler, which also makes what clang-tidy reads
  clang-format clang-tidy shellcheck  # tests/lint; ruff is among the oracles
)

action=install
for argument in "$@"; do
  case $argument in
    --tests) packages+=("${test_packages[@]}") ;;
    --list) action=list ;;
    *)
      echo "install-deps: unknown option '$argument'; there are --tests and --list" >&2
      exit 2
      ;;
  esac
done
if [ "$action" = list ]; then
  printf '%s\n' "${packages[@]}"
  exit
fi

missing=()
for package in "${packages[@]}"; do
  state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
  [ "$state" = installed ] || missing+=("$package")
done
if [ ${#missing[@]} -eq 0 ]; then
  echo "install-deps: all ${#packages[@]} packages are here"
  exit
fi

if ! command -v apt-get >/dev/null; then
  echo "install-deps: no apt-get here; install what your system calls: ${missing[*]}" >&2
  exit 2
fi
as_root=()
if [ "$(id -u)" -ne 0 ]; then
  if command -v sudo >/dev/null && { sudo -n true 2>/dev/null || [ -t 0 ]; }; then  # on a terminal sudo may ask itself
    as_root=(sudo)
  else
    echo "install-deps: ${#missing[@]} packages are missing and this user may not install them; as root, run: apt-get install ${missing[*]}" >&2
    exit 2
  fi
fi

apt() {  # waits for another apt to end; leaves questions at their defaults
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=a \
    apt-get -qq -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 "$@"
}
echo "install-deps: installing ${missing[*]}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { apt update || { sleep 5 && apt update; }; } >"$log" 2>&1; then
  cat "$log" >&2
  echo "install-deps: apt-get update failed twice; going on with the package lists that are here" >&2
fi
if ! apt install -y --no-install-recommends "${missing[@]}" >"$log" 2>&1; then
  tail -n 30 "$log" >&2
  echo "install-deps: apt-get could not install: ${missing[*]}; its last words stand above" >&2
  exit 4
fi
echo "install-deps: installed ${#missing[@]} packages"

#!/usr/bin/env bash
# One run on two hosts: examples/two_hosts/run.sh HOST1 HOST2 DATA RUN [--key value for train]...
set -euo pipefail
if [ $# -lt 4 ]; then
  echo "usage: $0 HOST1 HOST2 DATA RUN [--key value]...   (keys of slipway train)" >&2
  exit 2
fi
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
slipway=${SLIPWAY:-$root/build/release/slipway}
first=$1 second=$2 data=$3 run=$4
shift 4

# Both hosts start the same program.
version() { "$root/launch/run" -n 1 --host "$1" "$slipway" --version 2>/dev/null; }
if [ "$(version "$first")" != "$(version "$second")" ]; then
  echo "$first and $second have different programs at $slipway: build both from the same sources" >&2
  exit 2
fi

# One rank a host; as many threads as fit is the program's own choice, unless --runtime.threads says so.
if [ -e "$run/config.ini" ]; then
  begin=(--resume "$run" --data "$data")
else
  begin=(--run "$run" --data "$data")
fi
"$root/launch/run" -n 2 --host "$first:1,$second:1" "$slipway" train "${begin[@]}" "$@"

# Every rank wrote its part; all of it is there, and whole.
"$slipway" checkpoint inspect "$run"
"$slipway" checkpoint verify "$run"

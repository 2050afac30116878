#!/usr/bin/env bash
# Other keys from one checkpoint: examples/fork_and_compare/run.sh RUN STEP NEW DATA --key value...
set -euo pipefail
if [ $# -lt 5 ]; then
  echo "usage: $0 RUN STEP NEW DATA --key value...   (keys of slipway train that shall differ)" >&2
  exit 2
fi
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
slipway=${SLIPWAY:-$root/build/release/slipway}
parent=$1 step=$2 new=$3 data=$4
shift 4

"$root/launch/run" -n "${RANKS:-1}" "$slipway" train --fork "$parent" --checkpoint "$step" --run "$new" --data "$data" "$@"

# Both curves, where both were validated; metrics.jsonl has one object a step.
python3 - "$parent" "$new" <<'PYTHON'
import json, pathlib, sys

def losses(run):
    lines = (json.loads(line) for line in (pathlib.Path(run) / "metrics.jsonl").open())
    return {line["step"]: line["val_loss"] for line in lines if "val_loss" in line}

parent, fork = map(losses, sys.argv[1:])
print(f"{'step':>8}{'parent':>10}{'fork':>10}{'fork - parent':>16}")
for step in sorted(parent.keys() & fork.keys()):
    print(f"{step:8}{parent[step]:10.4f}{fork[step]:10.4f}{fork[step] - parent[step]:+16.4f}")
PYTHON

# The validation split, scored with the newest checkpoint of both.
for run in "$parent" "$new"; do
  echo "score of $run:"
  "$slipway" score "$run" --data "$data" --split validation
done

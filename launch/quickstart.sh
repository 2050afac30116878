#!/usr/bin/env bash
# From a folder of text to a verified GGUF in one go: a small model that writes something like Python.
# Installs what is missing, builds, and leaves everything in runs/quickstart/.
#   launch/quickstart.sh              as many steps as this machine makes in about three minutes; 4 to 6 minutes after the build
#   launch/quickstart.sh --steps N    fewer for a look, more for a better model
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

steps=auto
while [ $# -gt 0 ]; do
  case $1 in
    --steps) steps=${2:-}; shift; [ $# -eq 0 ] || shift ;;
    --steps=*) steps=${1#*=}; shift ;;
    *) echo "quickstart: unknown option '$1'; there is --steps N" >&2; exit 2 ;;
  esac
done
if [ "$steps" != auto ] && { ! [[ $steps =~ ^[1-9][0-9]{0,8}$ ]] || [ "$steps" -lt 10 ]; }; then
  echo "quickstart: --steps is '$steps'; expected a whole number, 10 or more" >&2
  exit 2
fi

readonly slipway=build/release/slipway ranks=2 total=12
readonly out=runs/quickstart
readonly training_s=170  # of the six minutes after the build; the rest is for everything else
readonly run=$out/run
number=0

say() { printf '%s\n' "$*" >&2; }
step() {  # step TITLE WHY...: begins the next step
  number=$((number + 1))
  say ""
  say "[$number/$total] $1 ($((SECONDS / 60))m$(printf '%02d' $((SECONDS % 60)))s)"
  shift
  for line in "$@"; do say "      $line"; done
}
show() { say "    \$$(printf ' %q' "$@")"; }
do_it() { show "$@" && "$@"; }
trap 'status=$?; [ $status -eq 0 ] || say "quickstart: step $number of $total ended with status $status; its own words stand above"' EXIT

step "Dependencies" "Installs the packages that are missing; asks for nothing."
do_it ./launch/install-deps.sh

step "Build" "The release preset into build/release; the second time there is nothing to do."
do_it cmake --preset release >/dev/null
do_it cmake --build --preset release --target slipway
readonly built_at=$SECONDS

step "Text" "Real Python: part of the standard library that is on this machine."
if [ -e "$out" ]; then
  old=1
  while [ -e "$out.$old" ]; do old=$((old + 1)); done
  mv "$out" "$out.$old"
  say "      moved the earlier $out to $out.$old"
fi
mkdir -p "$out/export"
do_it python3 tools/python_source.py "$out/text" --bytes 6000000

step "Tokenizer" "Byte-level BPE with 4,096 tokens, learned from that text."
do_it $slipway tokenizer train --input "$out/text" --glob '*.py' \
  --tokenizer.vocabulary 4096 --tokenizer.pre gpt-2 --out "$out/tokenizer.json"

step "Data" "Text to token shards; a document is validation by its content's hash."
do_it $slipway data prepare --tokenizer "$out/tokenizer.json" --input "$out/text" --glob '*.py' --out "$out/data" \
  --data.document_bytes 16384 --data.validation_fraction 0.05
do_it $slipway data verify "$out/data"

begin=(./launch/run -n "$ranks" "$slipway" train --data "$out/data" --config configs/quickstart.ini)
step "A first look at the speed" "Five steps, thrown away; how long the training may be follows from them."
do_it "${begin[@]}" --run "$out/speed" --train.steps 5 --train.rehearsal off --validate.every 0 --checkpoint.every 0
seconds_a_step=$(python3 - "$out/speed/metrics.jsonl" <<'PYTHON'
import json, sys
steps = [json.loads(line) for line in open(sys.argv[1])]
print(sorted(step["target_tokens"] / step["tokens_per_sec"] for step in steps)[len(steps) // 2])
PYTHON
)
rm -rf "$out/speed"
if [ "$steps" = auto ]; then  # fewer than 60 learn nothing, more than 400 are no quick start
  steps=$(python3 -c "print(max(60, min(400, round($training_s / $seconds_a_step))))")
fi
say "      a step takes $(printf '%.2f' "$seconds_a_step") s, so $steps steps take about $(python3 -c "print(round($steps * $seconds_a_step))") s"

half=$((steps / 2))
step "Training on $ranks ranks" \
  "A llama of 8 million parameters. First a rehearsal: save, reload, export and reopen, before step 1." \
  "Near step $half of $steps this script stops the run with a signal, as a Ctrl-C would; it saves and ends."
train=("${begin[@]}" --run "$run" --train.steps "$steps")
show "${train[@]}"
"${train[@]}" &
trainer=$!
trap 'kill -USR1 $trainer 2>/dev/null; wait $trainer || true; exit 130' INT TERM
stopped=false
while kill -0 $trainer 2>/dev/null; do
  if ! $stopped && [ -f "$run/metrics.jsonl" ] && [ "$(wc -l <"$run/metrics.jsonl")" -ge "$half" ]; then
    say "    \$ kill -USR1 $trainer"
    kill -USR1 $trainer 2>/dev/null || true
    stopped=true
  fi
  sleep 0.3
done
status=0
wait $trainer || status=$?
trap - INT TERM
case $status in
  0) say "      the run was done before the signal came" ;;
  138) say "      stopped and saved: status 138 = 128 + USR1, which is all that mpirun's report above is about" ;;
  *) exit $status ;;
esac

step "Resume" "Goes on from the newest checkpoint, bit for bit as if nothing had happened."
do_it ./launch/run -n "$ranks" "$slipway" train --resume "$run"

step "Checks" "Every byte of the newest checkpoint, then gates with value and threshold."
checkpoint=$(find "$run/checkpoints" -maxdepth 1 -name 'step-*[0-9]' | sort | tail -n 1)
do_it $slipway checkpoint verify "$checkpoint"
do_it $slipway qa "$run"

step "Speed" "A prompt of 512 tokens, then 128 decoded ones."
do_it $slipway bench "$run"

step "Export" "To GGUF, which llama.cpp opens; each file is reopened and compared with the trainer's own numbers."
do_it $slipway export "$run" --out "$out/export/quickstart-f32.gguf" --type f32
do_it $slipway export "$run" --out "$out/export/quickstart-q8_0.gguf" --type q8_0

step "Sample" "The exported file goes on from a line of Python."
do_it $slipway generate "$out/export/quickstart-f32.gguf" --prompt $'def read_lines(path):\n' --tokens 96 --temperature 0.7 --seed 1
echo

say ""
say "Done: $((SECONDS - built_at)) s after the build. In $out:"
say "  text/ tokenizer.json data/       what it learned from"
say "  run/                             metrics.jsonl, config.ini, checkpoints/, tb/ (tensorboard --logdir $run/tb)"
say "  export/quickstart-f32.gguf       the model, as llama.cpp opens it; -q8_0 is a quarter of the size"
say "Your own text:  $slipway tokenizer train --help  and the steps above, one by one."

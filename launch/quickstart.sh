#!/usr/bin/env bash
# From a folder of text to a verified GGUF in one go: a small model that writes something like Python.
# Installs what is missing, builds, and leaves everything in runs/quickstart/.
#   launch/quickstart.sh              the model and the steps that this machine trains in about three minutes; at most 6 after the build
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

readonly slipway=build/release/slipway ranks=2 total=13
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
show_and_run() { show "$@" && "$@"; }
trap 'status=$?; [ $status -eq 0 ] || say "quickstart: step $number of $total ended with status $status; its own words stand above"' EXIT

step "Dependencies" "Installs the packages that are missing; asks for nothing."
show_and_run ./launch/install-deps.sh

cuda=AUTO
build_note="The release preset into build/release; the second time there is nothing to do."
if [ ! -e /proc/driver/nvidia/version ]; then
  cuda=OFF
  build_note="$build_note
      No NVIDIA driver here, so without the CUDA backend; with it: cmake --preset release -DSLIPWAY_CUDA=AUTO"
fi
step "Build" "$build_note"
show_and_run cmake --preset release -DSLIPWAY_CUDA=$cuda >/dev/null
show_and_run cmake --build --preset release --target slipway
readonly built_at=$SECONDS

step "Text" "Real Python: part of the standard library that is on this machine."
if [ -e "$out" ]; then
  old=1
  while [ -e "$out.$old" ]; do old=$((old + 1)); done
  mv "$out" "$out.$old"
  say "      moved the earlier $out to $out.$old"
fi
mkdir -p "$out/export"
show_and_run python3 tools/python_source.py "$out/text" --bytes 6000000

# prepare VOCABULARY: learns a tokenizer of that size and makes token shards with it
prepare() {
  rm -rf "$out/tokenizer.json" "$out/data"
  show_and_run $slipway tokenizer train --input "$out/text" --glob '*.py' \
    --tokenizer.vocabulary "$1" --tokenizer.pre gpt-2 --out "$out/tokenizer.json"
  show_and_run $slipway data prepare --tokenizer "$out/tokenizer.json" --input "$out/text" --glob '*.py' --out "$out/data" \
    --data.document_bytes 16384 --data.validation_fraction 0.05
}
# measure_step_s NAME KEYS...: of a run of a few steps that is thrown away
measure_step_s() {
  show_and_run "${train_prefix[@]}" --run "$out/speed-$1" --train.steps 8 --train.rehearsal off --validate.every 0 --checkpoint.every 0 "${@:2}" >&2
  python3 - "$out/speed-$1/metrics.jsonl" <<'PYTHON'
import json, sys
steps = [json.loads(line) for line in open(sys.argv[1])][1:]  # in the first, buffers take their memory
print(sorted(step["target_tokens"] / step["tokens_per_sec"] for step in steps)[len(steps) // 2])
PYTHON
  rm -rf "$out/speed-$1"
}
readonly train_prefix=(./launch/run -n "$ranks" "$slipway" train --data "$out/data" --config configs/quickstart.ini)

step "Tokenizer and data" "Byte-level BPE learned from that text; a document is validation by its content's hash."
prepare 1024
show_and_run $slipway data verify "$out/data"

step "How fast is this machine?" "A few steps of the smallest model, thrown away."
small_s=$(measure_step_s small --model.preset llama-1m)
# Rows: the largest seconds a step (2,048 tokens) of llama-1m for which it is chosen; a name; the vocabulary; the model's keys.
# 600 steps of the smallest end below the bigram baseline; a larger one is chosen where it gets 1,500 (3 and 10 times as slow a step).
while read -r slowest name vocabulary keys; do
  python3 -c "import sys; sys.exit(not $small_s <= $slowest)" && break
done <<'SIZES'
0.012 8M   4096 --model.preset llama-8m
0.035 3M   2048 --model.preset llama-1m --model.layers 6 --model.width 192 --model.heads 6 --model.kv_heads 3 --model.ffn 512
1000  1M   1024 --model.preset llama-1m
SIZES
read -ra model <<<"$keys"
say "      $(printf '%.3f' "$small_s") s a step: a llama of about $name parameters and $vocabulary tokens can be trained here in three minutes"
if [ "$name" = 1M ]; then
  step_s=$small_s
else
  prepare "$vocabulary"
  step_s=$(measure_step_s chosen "${model[@]}")
fi
if [ "$steps" = auto ]; then # fewer than 100 learn nothing, more than 3000 are no quick start
  steps=$(python3 -c "print(max(100, min(3000, round($training_s / $step_s))))")
fi
say "      a step of it takes $(printf '%.3f' "$step_s") s, so $steps steps take about $(python3 -c "print(round($steps * $step_s))") s"

half=$((steps / 2))
step "Training on $ranks ranks" \
  "First a rehearsal before step 1: save, reload, export and reopen the untrained model." \
  "Near step $half of $steps this script stops the run with a signal, as a Ctrl-C would; it saves and ends."
train=("${train_prefix[@]}" --run "$run" --train.steps "$steps" "${model[@]}")
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
  138) say "      stopped and saved: status 138 = 128 + USR1" ;;
  *) exit $status ;;
esac

step "Resume" "Goes on from the newest checkpoint, bit for bit as if nothing had happened."
show_and_run ./launch/run -n "$ranks" "$slipway" train --resume "$run"

step "Checks" "Every byte of the newest checkpoint, then gates with value and threshold."
checkpoint=$(find "$run/checkpoints" -maxdepth 1 -name 'step-*[0-9]' | sort | tail -n 1)
show_and_run $slipway checkpoint verify "$checkpoint"
show_and_run $slipway qa "$run"

step "Speed" "A prompt of 512 tokens, then 128 decoded ones."
show_and_run $slipway bench "$run"

step "Export" "To GGUF, which llama.cpp opens; each file is reopened and compared with the trainer's own numbers."
show_and_run $slipway export "$run" --out "$out/export/quickstart-f32.gguf" --type f32
show_and_run $slipway export "$run" --out "$out/export/quickstart-q8_0.gguf" --type q8_0

step "Loss" "What it learned, beside what counting tokens alone would reach on the text it was trained on."
show_and_run python3 tools/loss_curve.py "$run" --data "$out/data"
python3 - "$run/metrics.jsonl" "$out/data/manifest.json" >&2 <<'PYTHON'
import json, sys
loss = [json.loads(line) for line in open(sys.argv[1])][-1]["val_loss"]
train = json.load(open(sys.argv[2]))["splits"]["train"]
unigram, bigram = train["unigram_entropy_nats"], train["bigram_entropy_nats"]
print(f"      validation loss {loss:.2f} nats a token on text it has not seen; unigram baseline {unigram:.2f}, bigram baseline {bigram:.2f}")
PYTHON

step "Sample" "The exported file goes on from a line of Python."
show_and_run $slipway generate "$out/export/quickstart-f32.gguf" --prompt $'def read_lines(path):\n' --tokens 96 --temperature 0.5 --seed 1
echo

say ""
say "Done: $((SECONDS - built_at)) s after the build. In $out:"
say "  text/ tokenizer.json data/       what it learned from"
say "  run/                             metrics.jsonl, config.ini, checkpoints/, tb/ (tensorboard --logdir $run/tb)"
say "  export/quickstart-f32.gguf       the model, as llama.cpp opens it; -q8_0 is a quarter of the size"
say ""
say "Next, with your own text in the folder my/texts:"
say "  $slipway tokenizer train --input my/texts --tokenizer.vocabulary 4096 --tokenizer.pre gpt-2 --out tok.json"
say "  $slipway data prepare --tokenizer tok.json --input my/texts --out data"
say "  ./launch/run -n $ranks $slipway train --run runs/mine --data data ${model[*]} --optim.name Muon --train.epochs 2"
say "  $slipway export runs/mine --out mine.gguf --type q8_0 && $slipway generate mine.gguf --prompt 'Once' --tokens 100"
say "or train this one for longer:"
say "  ./launch/run -n $ranks $slipway train --resume $run --train.steps $((steps * 4)) --optim.schedule_steps $((steps * 4))"
say "docs/training.md says how to choose a size, a rate and a number of steps."

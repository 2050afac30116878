#!/usr/bin/env bash
# From a folder of text to a GGUF file: examples/own_text/run.sh TEXTS OUT [--key value for train]...
set -euo pipefail
if [ $# -lt 2 ]; then
  echo "usage: $0 TEXTS OUT [--key value]...   (keys of slipway train)" >&2
  exit 2
fi
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
slipway=${SLIPWAY:-$root/build/release/slipway}
texts=$1 out=$2
shift 2
mkdir -p "$out"

# 1. A tokenizer of these texts. One of a published model does as well: --tokenizer FILE below.
[ -e "$out/tokenizer.json" ] ||
  "$slipway" tokenizer train --input "$texts" --tokenizer.vocabulary "${VOCABULARY:-4096}" --out "$out/tokenizer.json"

# 2. Texts to token shards. 2 % of the documents validate; plain text is cut into documents at line ends.
[ -e "$out/data" ] ||
  "$slipway" data prepare --tokenizer "$out/tokenizer.json" --input "$texts" --data.document_bytes 16384 --out "$out/data"

# 3. What will it cost? Then train; a run that is there already is gone on with.
"$slipway" plan --data "$out/data" --ranks "${RANKS:-2}" "$@"
if [ -e "$out/run/config.ini" ]; then
  "$root/launch/run" -n "${RANKS:-2}" "$slipway" train --resume "$out/run" --data "$out/data"
else
  "$root/launch/run" -n "${RANKS:-2}" "$slipway" train --run "$out/run" --data "$out/data" "$@"
fi

# 4. Is the model usable? A short run learns too little, which status 8 says; that ends nothing here.
"$slipway" qa "$out/run" || [ $? -eq 8 ]

# 5. Export: each file is reopened, and must give the trainer's own token ids and logits.
for type in f32 q8_0; do
  "$slipway" export "$out/run" --out "$out/model-$type.gguf" --type "$type"
done
"$slipway" generate "$out/model-q8_0.gguf" --prompt "The " --tokens 40

#!/usr/bin/env bash
# slipway data prepare, verify and inspect, through the command line: forms, exit statuses and sentences.
# Usage: data_cli.sh PROGRAM
set -euo pipefail
slipway=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

fail() { echo "FAILED: $*" >&2; exit 1; }

# expect STATUS WORD COMMAND...: the exit status, and a word of what is said on either stream.
expect() {
  local expected=$1 substring=$2 actual=0
  shift 2
  "$@" >out.txt 2>&1 || actual=$?
  [[ $actual == "$expected" ]] || fail "exit $actual instead of $expected from: $* ($(cat out.txt))"
  grep -qF -- "$substring" out.txt || fail "no '$substring' from: $* ($(cat out.txt))"
}
field() { python3 -c 'import json, sys; value = json.load(open(sys.argv[1]))
for key in sys.argv[2].split("."): value = value[key]
print(value)' "$1" "$2"; }

mkdir -p texts/deep
python3 - <<'PY'
import random
random.seed(3)
words = "the quick brown fox jumps over a lazy dog while seven small boats cross cold water".split()
for name in ("texts/a.txt", "texts/deep/b.txt"):
    with open(name, "w") as out:
        for _ in range(2000):
            out.write(" ".join(random.choice(words) for _ in range(random.randint(1, 12))) + "\n")
PY
"$slipway" tokenizer train --input texts --tokenizer.vocabulary 300 --tokenizer.pre gpt-2 --out tokenizer.json >/dev/null 2>&1

# The three forms, and one corpus_sha256 for any threads, prefix and packing of the input.
"$slipway" data prepare --tokenizer tokenizer.json --input texts --out one --data.document_bytes 4096 --runtime.threads 1 --json >one.json
[[ $(field one.json schema) == slipway.data ]] || fail "schema"
cp -r texts moved && gzip -k moved/a.txt && rm moved/a.txt
"$slipway" data prepare --tokenizer tokenizer.json --input moved/deep/.. --out three --data.document_bytes 4096 --runtime.threads 3 --json >three.json
[[ $(field one.json corpus_sha256) == $(field three.json corpus_sha256) ]] || fail "corpus_sha256 depends on threads, place or packing"
diff -r one three >/dev/null || fail "the two folders differ"
if grep -rqF "$work" one; then fail "an absolute path is in the folder"; fi
expect 0 "good; every hash" "$slipway" data verify one
expect 0 "corpus_sha256" "$slipway" data inspect one
"$slipway" data inspect one --json >inspect.json
[[ $(field inspect.json splits.train.tokens) == $(field one.json splits.train.tokens) ]] || fail "inspect"
"$slipway" data prepare --tokenizer tokenizer.json --input texts --glob 'b*' --lane docs --out globbed --data.document_bytes 4096 --json >globbed.json
[[ $(field globbed.json files) == 1 ]] || fail "glob"
[[ $(field globbed.json splits.train.lanes.docs.documents) -gt 1 ]] || fail "lane"
printf '[data]\ndocument_bytes = 4096\n' >data.ini
"$slipway" data prepare --tokenizer tokenizer.json --input texts --config data.ini --out by-file --json >by-file.json
[[ $(field by-file.json corpus_sha256) == $(field one.json corpus_sha256) ]] || fail "--config"

# What was typed: 2.
expect 2 "not an empty folder" "$slipway" data prepare --tokenizer tokenizer.json --input texts --out one
expect 2 "--tokenizer" "$slipway" data prepare --input texts --out x
expect 2 "--out" "$slipway" data prepare --tokenizer tokenizer.json --input texts
expect 2 "--input" "$slipway" data prepare --tokenizer tokenizer.json --out x
expect 2 "data.document_bytes" "$slipway" data prepare --tokenizer tokenizer.json --input texts --out x --data.document_byte 9
expect 2 "elsewhere" "$slipway" data prepare --tokenizer tokenizer.json --input texts --out x --lane elsewhere
expect 2 "validation_fraction" "$slipway" data prepare --tokenizer tokenizer.json --input texts --out x --data.validation_fraction 1
expect 2 "prepare" "$slipway" data
expect 2 "DIR" "$slipway" data verify

# What was read: 3, with file and line.
printf '{"text": "one"}\n\n{"text": "two"}\n' >bad.jsonl
expect 3 "bad.jsonl:2:" "$slipway" data prepare --tokenizer tokenizer.json --input bad.jsonl --out x
expect 0 "blank_line" "$slipway" data prepare --tokenizer tokenizer.json --input bad.jsonl --out skipped --data.on_bad skip
: >empty.txt
expect 3 "empty.txt" "$slipway" data prepare --tokenizer tokenizer.json --input empty.txt --out x
expect 3 "nowhere" "$slipway" data prepare --tokenizer tokenizer.json --input nowhere --out x
printf 'one line' >short.txt
expect 3 "--data.validation_fraction 0" "$slipway" data prepare --tokenizer tokenizer.json --input short.txt --out x
expect 3 "--data.document_bytes" "$slipway" data prepare --tokenizer tokenizer.json --input short.txt --out x
expect 0 "corpus_sha256" "$slipway" data prepare --tokenizer tokenizer.json --input short.txt --out short --data.validation_fraction 0
touch table.parquet
expect 3 "to_json" "$slipway" data prepare --tokenizer tokenizer.json --input table.parquet --out x
[[ ! -e x && ! -e x.partial ]] || fail "a refused run left something behind"

# A damaged folder: 3, naming the file.
cp -r one cut && truncate -s -1 cut/train.text.00000.tokens
expect 3 "train.text.00000.tokens" "$slipway" data verify cut
cp -r one flipped && printf '\x7f' | dd of=flipped/train.text.00000.tokens bs=1 seek=2000 conv=notrunc status=none
expect 3 "train.text.00000.tokens" "$slipway" data verify flipped
expect 3 "slipway data prepare" "$slipway" data verify texts

echo "data: forms, statuses and sentences are as documented"

#!/usr/bin/env bash
# Makes build/oracle, the Python whose libraries the tests compare with. Quick when it is there and current.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

requirements=tools/oracle/requirements.txt
folder=build/oracle
python=/usr/bin/python3  # Debian's: python3-venv belongs to it, and the pins are for its version
[ -x "$python" ] || python=$(command -v python3)

want=$({ cat "$requirements"; "$python" --version; pwd; } | sha256sum)  # an environment holds its own absolute path
if [ -f "$folder/.made-from" ] && [ "$(cat "$folder/.made-from")" = "$want" ]; then
  echo "oracle: $folder is current"
  exit
fi

echo "oracle: making $folder from $requirements"
rm -rf "$folder"
"$python" -m venv "$folder"
"$folder/bin/pip" install --quiet --disable-pip-version-check --no-input --retries 5 --requirement "$requirements"
"$folder/bin/python" - <<'PYTHON'
import gguf, h5py, numpy, safetensors, tensorboard, tokenizers, xllamacpp  # each one loads on this machine
PYTHON
echo "$want" >"$folder/.made-from"  # last, so that a broken installation is made again
echo "oracle: $("$folder/bin/python" --version), $(grep -c == "$requirements") packages"

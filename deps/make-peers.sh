#!/bin/bash
# Makes the environment of the Python originals that tests compare with (label `peers`): transformers,
# TRL, Math-Verify, reasoning-gym, OpenAI's client. Torch is not fetched again: what `./tramontane
# setup` installed is linked into it; the CUDA libraries without which its Python part does not load
# are (about 3 GB). Repeating it is cheap: nothing happens when nothing changed.
#
# Prints the environment's folder. TRAMONTANE_PEERS overrides where it goes, TRAMONTANE_TORCH_ROOT
# where torch is.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/tramontane
venv=${TRAMONTANE_PEERS:-$cache/peers}
torch_version=$(sed -n 's/^torch==\([0-9.]*\).*/\1/p' "$root/deps/torch.lock")
torch=${TRAMONTANE_TORCH_ROOT:-$cache/torch-$torch_version}
requirements=("$root/deps/python-verifier.txt" "$root/examples/reasoning_gym/requirements.txt"
              "$root/deps/peers.txt")

[ -d "$torch/torch" ] || { echo "make-peers: $torch has no torch; run ./tramontane setup" >&2; exit 1; }
mkdir -p "$(dirname "$venv")"
exec 9> "$venv.lock"
flock 9

stamp=$( (cat "${requirements[@]}"; echo "$torch") | sha256sum | cut -d' ' -f1)
if [ "$(cat "$venv/stamp" 2>/dev/null)" != "$stamp" ]; then
  echo "installing the Python originals into $venv" >&2
  [ -x "$venv/bin/python" ] || python3 -m venv "$venv"
  # The wheel's interpreter tag must fit: its Python part is used here, not only its libraries.
  "$venv/bin/python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' ||
    { echo "make-peers: the pinned torch wheel is for Python 3.11" >&2; exit 1; }
  for file in "${requirements[@]}"; do
    "$venv/bin/pip" install --no-input --disable-pip-version-check --quiet --no-deps \
      --require-hashes -r "$file" >&2
  done
  site=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
  for part in torch torchgen functorch "torch-$torch_version.dist-info"; do
    # Links where the file system has them, else a copy.
    [ -e "$site/$part" ] || cp -al "$torch/$part" "$site/" 2>/dev/null || cp -a "$torch/$part" "$site/"
  done
  "$venv/bin/python" -c 'import torch, transformers, trl, math_verify, reasoning_gym, openai' >&2
  echo "$stamp" > "$venv/stamp"
fi
echo "$venv"

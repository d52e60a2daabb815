#!/bin/bash
# Makes the environment that Python verifiers run in, and installs verifier/sdk/python into it. It
# holds SymPy as well, which the math verifier asks for a second opinion where it finds it.
# Repeating it is cheap: nothing happens when nothing changed.
#
#   deps/make-python-verifier.sh [REQUIREMENTS…]    further pinned files, e.g. an example's
#
# Prints the environment's folder. TRAMONTANE_PYTHON_VERIFIER overrides where it goes.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
venv=${TRAMONTANE_PYTHON_VERIFIER:-${XDG_CACHE_HOME:-$HOME/.cache}/tramontane/python-verifier}

mkdir -p "$(dirname "$venv")"
exec 9> "$venv.lock"
flock 9

for file in "$@"; do
  [ -f "$file" ] || { echo "make-python-verifier: $file: no such file" >&2; exit 1; }
done
requirements=("$root/deps/python-verifier.txt" "$root/deps/python-algebra.txt" "$@")
stamp=$(cat "${requirements[@]}" \
  $(find "$root/verifier/sdk/python" "$root/proto" -type f \
      \( -name '*.py' -o -name '*.toml' -o -name '*.proto' \) -not -path '*/build/*' | sort) \
  | sha256sum | cut -d' ' -f1)
# An environment that holds more than was asked for is good enough.
if ! grep -qsx "$stamp" "$venv/stamps"; then
  echo "installing the Python verifier environment into $venv" >&2
  [ -x "$venv/bin/python" ] || python3 -m venv "$venv"
  for file in "${requirements[@]}"; do
    "$venv/bin/pip" install --no-input --disable-pip-version-check --quiet --no-deps \
      --require-hashes -r "$file" >&2
  done
  # From a copy: building writes beside the sources, and the checkout may belong to somebody else.
  copy=$(mktemp -d)
  trap 'rm -rf "$copy"' EXIT
  cp -r "$root/verifier/sdk/python/." "$copy"
  rm -rf "$copy/build"
  cp -r "$root/proto" "$copy/proto"
  "$venv/bin/pip" install --no-input --disable-pip-version-check --quiet --no-deps \
    --no-build-isolation --force-reinstall "$copy" >&2
  # Other stamps stay true only for the same package sources; start afresh.
  [ $# -eq 0 ] && echo "$stamp" > "$venv/stamps" || echo "$stamp" >> "$venv/stamps"
fi
echo "$venv"

#!/bin/bash
# Serves the example's verifier on a port: what `verifiers.reasoning_gym.command` starts.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
venv=$("$here/../../deps/make-python-verifier.sh" "$here/requirements.txt")
exec "$venv/bin/tramontane-verifier" serve "$here/verifier.py" --workers 1 --bind "127.0.0.1:$1"

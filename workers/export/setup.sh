#!/usr/bin/env bash
# Checks the files and makes .venv beside them with what requirements.txt names. PYTHON names another interpreter.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
sha256sum --check --quiet SHA256SUMS
echo "the files are whole; installing $(tr '\n' ' ' < requirements.txt)into $PWD/.venv, which takes minutes" >&2
"${PYTHON:-python3}" -m venv .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
echo "ready: $PWD/run.sh" >&2

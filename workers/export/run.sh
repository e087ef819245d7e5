#!/usr/bin/env bash
# run.sh --lang-pair ces-deu --batch-size 8 --input IN --output OUT
# One line of OUT for each line of IN; progress and warnings on the standard error. PYTHON names another interpreter.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
python="${PYTHON:-$here/.venv/bin/python}"
if ! command -v "$python" > /dev/null; then
    echo "error: there is no $python; run $here/setup.sh first, or name an interpreter in PYTHON" >&2
    exit 2
fi
exec "$python" -B "$here/translate.py" "$@"

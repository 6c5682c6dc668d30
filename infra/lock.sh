#!/bin/sh
# Compiles requirements.txt from pyproject.toml: every version pinned, every file hashed, no index address inside.
# Pins that still fit stay; UPGRADE=1 takes the newest instead.
set -eu
cd "$(dirname "$0")/.."
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
.venv/bin/python -m venv "$tools"
"$tools/bin/python" -m pip install --quiet --disable-pip-version-check uv
"$tools/bin/uv" pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes \
    --no-emit-index-url --no-emit-find-links --no-header --quiet ${UPGRADE:+--upgrade} -o requirements.txt

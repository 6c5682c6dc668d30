#!/usr/bin/env bash
# Every test, in two lines at once: those without Java beside those with it. What comes from the first is shown when it is done.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
pytest=(.venv/bin/python -m pytest -q)
output=$(mktemp)
"${pytest[@]}" -m "not integration and not acceptance" tests/unit tests/contract "$@" >"$output" 2>&1 &
plain=$!
trap 'kill "$plain" 2>/dev/null; rm -f "$output"' EXIT
failed=0
echo "tests with Java, and meanwhile, in silence, those without"
"${pytest[@]}" -m "integration and not acceptance" tests/contract tests/integration "$@" || failed=$?
"${pytest[@]}" -m acceptance tests/acceptance "$@" || failed=$?
wait "$plain" || failed=$?
echo "tests without Java"
cat "$output"
exit "$failed"

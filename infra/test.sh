#!/bin/sh
# Every test, in two lines at once: those without Java beside those with it. What comes from the first is shown when it is done.
set -u
cd "$(dirname "$0")/.."
output=$(mktemp)
.venv/bin/python -m pytest -q -m "not integration and not acceptance" tests/unit tests/contract "$@" >"$output" 2>&1 &
plain=$!
trap 'kill "$plain" 2>/dev/null; rm -f "$output"' EXIT
failed=0
echo "tests with Java, and meanwhile, in silence, those without"
.venv/bin/python -m pytest -q -m "integration and not acceptance" tests/contract tests/integration "$@" || failed=$?
.venv/bin/python -m pytest -q -m acceptance tests/acceptance "$@" || failed=$?
wait "$plain" || failed=$?
echo "tests without Java"
cat "$output"
exit "$failed"

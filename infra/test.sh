#!/bin/sh
# Every test, in two lines at once: those with Java, and beside them those without, then those that drive the command line.
# What comes from the second line is shown when it is done.
set -u
cd "$(dirname "$0")/.."
output=$(mktemp)
(
  failed=0
  .venv/bin/python -m pytest -q -m "not integration and not acceptance" tests/unit tests/contract tests/attacks "$@" || failed=$?
  .venv/bin/python -m pytest -q -m acceptance tests/acceptance "$@" || failed=$?
  exit "$failed"
) >"$output" 2>&1 &
second=$!
trap 'kill "$second" 2>/dev/null; rm -f "$output"' EXIT
failed=0
echo "tests with Java, and meanwhile, in silence, those without and those of the command line"
.venv/bin/python -m pytest -q -m "integration and not acceptance" tests/contract tests/integration tests/attacks "$@" || failed=$?
wait "$second" || failed=$?
echo "tests without Java, and of the command line"
cat "$output"
exit "$failed"

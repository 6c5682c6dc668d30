"""Everybody over one log, killed and stopped at random and at named points; then read by nobody's code but the reader's.

`python -m tests.contract.kill.run --minutes 5` does it for longer, and says at which points somebody died.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

SEED = 20_261_121
SECONDS = 8


@pytest.mark.timeout(240)
def test_whoever_dies_or_sleeps_whenever_the_log_says_what_it_should() -> None:
    """Long for a test: the places where it can go wrong are many, and the time in them is short."""
    command = [sys.executable, "-m", "tests.contract.kill.run", "--minutes", str(SECONDS / 60), "--seed", str(SEED)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=220)
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    assert "nothing was found" in done.stdout

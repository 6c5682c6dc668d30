"""The checkout these tests look at: its root, and the files that belong to it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]

#: The folders that become packages, and nothing else.
PACKAGES = {"apps", "bus", "config", "jobs", "schemas", "tailrace", "workers"}


def tracked() -> list[Path]:
    """Files under version control that exist. Skips where the sources came without their history."""
    found = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if found.returncode != 0:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in found.stdout.split("\0") if name and (ROOT / name).is_file()]

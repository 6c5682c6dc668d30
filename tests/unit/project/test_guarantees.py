"""What docs/guarantees.md names as a proof is a test that exists, and every promise names one."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")
NAMED = re.findall(r"`([\w/]+\.py)::(test_\w+)`", PAGE)


def test_every_test_it_names_exists() -> None:
    assert len(NAMED) > 30
    missing = []
    for name, test in NAMED:
        path = ROOT / "tests" / name
        if not path.is_file() or not re.search(rf"def {test}\(", path.read_text(encoding="utf-8")):
            missing.append(f"{name}::{test}")
    assert missing == []


def test_every_cell_of_the_table_names_a_test() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| **")]
    assert len(rows) > 7
    cells = [cell for row in rows for cell in row.strip("|").split("|")[1:]]
    assert len(cells) == 3 * len(rows)
    assert [cell for cell in cells if "::test_" not in cell] == []

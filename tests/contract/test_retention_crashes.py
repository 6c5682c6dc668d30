"""Retention in a process of its own, killed while days leave: whoever reads table and archive finds each handling once."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bus.log import compaction, retention
from tests.contract.retention_host import POINTS
from tests.unit.bus.logs import ids
from tests.unit.replay.story import Story

LAST = 9


def killed(folder: Path, point: str, after: int) -> None:
    command = [sys.executable, "-m", "tests.contract.retention_host", str(folder), str(LAST), point, str(after)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == -signal.SIGKILL, done.stderr[-3000:]


@pytest.mark.parametrize("point", POINTS)
def test_killed_while_days_leave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str) -> None:
    """Once at the first of two days, and once further on."""
    monkeypatch.setattr(compaction, "GROUP", 4)
    monkeypatch.setattr(retention, "PART_ROWS", 4)
    story = Story(tmp_path)
    names = [f"m{day}-{n}" for day in (1, 2) for n in range(4)]
    for name in names:
        story.handled(name, int(name[1]))
    story.upkeep.run(force=True)
    for after in (1, 1) if point == "a day has left" else (1, 2):
        killed(tmp_path, point, after)
        here = set(ids(story.log))
        assert story.found() == [(name, name not in here) for name in names]
        assert here | set(story.archived()) == {f"{kind}{name}" for name in names for kind in ("", "r-", "a-")}
    story.retain(LAST)
    assert story.found() == [(name, True) for name in names]
    assert ids(story.log) == []
    assert len(story.archived()) == 3 * len(names)

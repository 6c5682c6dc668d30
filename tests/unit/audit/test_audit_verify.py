"""A history that holds is said to hold, and what was counted is said."""

from __future__ import annotations

from jobs.audit import verify
from jobs.bootstrap import System


def test_a_recorded_history_holds(home: System) -> None:
    report = verify(home)
    assert report.problems == []
    assert report.ok
    assert report.checked["executions"] == report.checked["grants"] == 1
    assert report.checked["approvals"] == 2
    assert report.checked["facts"] > 10
    assert report.checked["signatures"] == report.checked["rows"]


def test_processes_find_what_one_finds(home: System) -> None:
    alone, together = verify(home), verify(home, many=1)
    assert together.problems == alone.problems
    assert together.checked == alone.checked

"""What is left of a dead execution process: a child of its engine keeps its claims from being called over."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from workers.adapters.remains import Remains
from workers.runtime.whereabouts import alive, whereabouts

SLEEPS = [sys.executable, "-c", "import sys; print('here', flush=True); sys.stdin.read()"]


def started(cwd: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(SLEEPS, cwd=cwd, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "here\n"
    return process


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


@pytest.fixture
def dead(tmp_path: Path) -> str:
    """Where a process was that is gone."""
    process = started(tmp_path)
    where = whereabouts(process.pid)
    assert not Remains(tmp_path).gone(where)  # it lives
    end(process)
    assert alive(where) is False
    return where


def test_a_process_is_gone_when_all_that_it_had_started_is(tmp_path: Path, dead: str) -> None:
    pid = dead.partition("/")[0].rpartition(":")[2]
    assert Remains(tmp_path).gone(dead)
    scratch = tmp_path / f"scratch-{pid}-abc" / "deep"
    scratch.mkdir(parents=True)
    child = started(scratch)
    try:
        assert not Remains(tmp_path).gone(dead)
        assert Remains(tmp_path / "another home").gone(dead)
    finally:
        end(child)
    assert Remains(tmp_path).gone(dead)


def test_another_processs_children_are_no_concern(tmp_path: Path, dead: str) -> None:
    pid = dead.partition("/")[0].rpartition(":")[2]
    scratch = tmp_path / f"scratch-{pid}9-abc"
    scratch.mkdir()
    child = started(scratch)
    try:
        assert Remains(tmp_path).gone(dead)
    finally:
        end(child)


@pytest.mark.parametrize("where", ["", "elsewhere:1", "elsewhere:1/0123456789ab-77"])
def test_of_a_process_elsewhere_nobody_can_tell(tmp_path: Path, where: str) -> None:
    assert not Remains(tmp_path).gone(where)

"""Engines that die or hang: the request says so, nothing is left running, and the next request finds a new engine."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from workers.adapters.sandbox.engine import SparkSandbox
from workers.ports import OutcomeUnknown, StatementFailed

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

ENDLESS = "SELECT count(*) AS n FROM tpch.lineitem a JOIN tpch.lineitem b ON a.l_comment || b.l_comment = 'x'"


class KilledWhileWriting(SparkSandbox):
    """Kills its child as soon as it hears that the write begins."""

    async def _heard(self, process: asyncio.subprocess.Process) -> dict:
        document = await super()._heard(process)
        if "writing" in document:
            os.killpg(process.pid, signal.SIGKILL)
        return document


@pytest_asyncio.fixture(loop_scope="session")
async def mortal(home: Path) -> AsyncIterator[KilledWhileWriting]:
    sandbox = KilledWhileWriting(home, timeout_s=200)
    yield sandbox
    await sandbox.close()


def tree(child: psutil.Process) -> list[psutil.Process]:
    return [child, *child.children(recursive=True)]


def runs_java(processes: list[psutil.Process]) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return any("java" in process.name() for process in processes)
    return False


def assert_gone(processes: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=10)
    assert [p for p in alive if p.status() != psutil.STATUS_ZOMBIE] == []


@pytest.mark.asyncio(loop_scope="session")
async def test_dying_hanging_and_closing(mortal: KilledWhileWriting, home: Path) -> None:
    """One after the other on two engines, because each start of Spark takes seconds."""
    await mortal.dry_run("SELECT 1 AS a", None)
    processes = tree(psutil.Process(mortal._process.pid))
    assert runs_java(processes)

    # Killed in the middle of a read: failed, and surely without effect.
    asked = asyncio.create_task(mortal.run(ENDLESS, "results.endless", "grant-1", 1))
    await asyncio.sleep(3)
    os.killpg(mortal._process.pid, signal.SIGKILL)
    with pytest.raises(StatementFailed, match="process ended"):
        await asked
    assert_gone(processes)
    assert mortal.outcome_of("grant-1", "results.endless") is None

    # Killed when the write had begun: nobody knows, until the table's log is asked.
    with pytest.raises(OutcomeUnknown):
        await mortal.run("SELECT 1 AS a", "results.doubt", "grant-2", 1)
    assert mortal.outcome_of("grant-2", "results.doubt") is None

    # More than memory holds: the engine dies rather than answer wrongly.
    with pytest.raises(StatementFailed):
        await mortal.run("SELECT length(lpad('x', 2000000000, 'x')) AS n", None, "grant-3", 1)

    # The next request finds a new engine; one that takes too long is stopped with it.
    await mortal.dry_run("SELECT 1 AS a", None)
    processes = tree(psutil.Process(mortal._process.pid))
    mortal.timeout_s = 2
    with pytest.raises(StatementFailed, match="longer than 2 s"):
        await mortal.run(ENDLESS, None, "grant-3", 1)
    assert_gone(processes)
    assert list(home.glob("scratch-*")) == [] or mortal._scratch is None


async def test_a_caller_who_gives_up_leaves_nothing_running(home: Path) -> None:
    sandbox = SparkSandbox(home, timeout_s=200)
    asked = asyncio.create_task(sandbox.warm())
    while sandbox._process is None:
        await asyncio.sleep(0.05)
    await asyncio.sleep(2)
    processes = tree(psutil.Process(sandbox._process.pid))
    asked.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asked
    assert_gone(processes)
    await sandbox.close()


def test_a_child_whose_parent_is_killed_goes_too(home: Path) -> None:
    code = """
import asyncio, sys
from pathlib import Path
from workers.adapters.sandbox.engine import SparkSandbox
async def main():
    sandbox = SparkSandbox(Path(sys.argv[1]))
    asked = asyncio.create_task(sandbox.warm())
    while sandbox._process is None:
        await asyncio.sleep(0.05)
    print(sandbox._process.pid, flush=True)
    await asked
asyncio.run(main())
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    with subprocess.Popen(
        [sys.executable, "-c", code, home], stdout=subprocess.PIPE, text=True, env=environment
    ) as parent:
        child = psutil.Process(int(parent.stdout.readline()))
        deadline = time.monotonic() + 60
        processes = tree(child)
        while not runs_java(processes) and time.monotonic() < deadline:
            time.sleep(0.1)
            processes = tree(child)
        parent.kill()
    assert len(processes) > 1
    assert_gone(processes)

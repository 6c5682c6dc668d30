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
import pyarrow as pa
import pytest
import pytest_asyncio
from deltalake import DeltaTable, write_deltalake

from workers.adapters.sandbox.engine import SparkSandbox
from workers.ports import StatementFailed

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

ENDLESS = "SELECT count(*) AS n FROM tpch.lineitem a JOIN tpch.lineitem b ON a.l_comment || b.l_comment = 'x'"


@pytest_asyncio.fixture(loop_scope="session")
async def mortal(home: Path) -> AsyncIterator[SparkSandbox]:
    sandbox = SparkSandbox(home, timeout_s=200, tried_bytes=1)
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
async def test_dying_hanging_and_closing(mortal: SparkSandbox, home: Path) -> None:
    """One after the other on a few engines, because each start of Spark takes seconds."""
    path = home / "warehouse" / "results" / "counted"
    write_deltalake(str(path), pa.table({"n": [1]}))
    dry = await mortal.dry_run("INSERT INTO results.counted SELECT 2", None)
    processes = tree(psutil.Process(mortal._process.pid))
    assert runs_java(processes)

    # What reads more than the limit is not tried, and says so.
    assert (dry.effect.added, dry.effect.rows_before) == (None, 1)
    assert "not tried" in dry.effect.note

    # Killed in the middle of a write: failed, and surely without effect, for it cannot write the lakehouse at all.
    asked = asyncio.create_task(mortal.run(f"INSERT INTO results.counted {ENDLESS}", "results.counted", "grant-1", 1))
    await asyncio.sleep(3)
    os.killpg(mortal._process.pid, signal.SIGKILL)
    with pytest.raises(StatementFailed, match="process ended"):
        await asked
    assert_gone(processes)
    assert mortal.outcome_of("grant-1", "results.counted") is None

    # Cancelled: nothing goes on, and the next request finds a new engine.
    asked = asyncio.create_task(mortal.run(f"INSERT INTO results.counted {ENDLESS}", "results.counted", "grant-2", 1))
    while not (mortal._process and runs_java(tree(psutil.Process(mortal._process.pid)))):
        await asyncio.sleep(0.1)
    await asyncio.sleep(3)
    processes = tree(psutil.Process(mortal._process.pid))
    assert await mortal.cancel("grant-2")
    with pytest.raises(StatementFailed, match="cancelled"):
        await asked
    assert_gone(processes)
    assert mortal.outcome_of("grant-2", "results.counted") is None
    assert DeltaTable(str(path)).version() == 0

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

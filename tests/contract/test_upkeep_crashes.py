"""Upkeep in a process of its own, killed at every point while others append: the next pass finishes, and no row is lost."""

from __future__ import annotations

import json
import select
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from bus.log.cleanup import removed_paths
from bus.log.consumers import Consumers
from bus.log.contents import load
from bus.log.follower import Follower
from bus.log.snapshot import Snapshots
from bus.log.table import DeltaLog
from schemas.tables import AGENT_MESSAGES
from tests.contract.harness import read_rows
from tests.contract.upkeep_host import POINTS, upkeep_of
from tests.unit.bus.logs import append, files, message

PATIENCE = 30.0


class Mortals:
    """Upkeeps that die, one after another."""

    def __init__(self, log: Path) -> None:
        self._log = log
        with open(log, "wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.contract.upkeep_host"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
            )

    def start(self, folder: Path, point: str, after: int) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([str(folder), point, after]).encode() + b"\n")
        self._process.stdin.flush()

    def died(self) -> bool:
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], 0)
        if not ready:
            return False
        assert self._process.stdout.readline() == f"{-signal.SIGKILL}\n".encode(), self.said
        return True

    @property
    def said(self) -> str:
        return self._log.read_text()[-3000:]

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def table(tmp_path: Path) -> DeltaLog:
    table = DeltaLog(tmp_path / "agent_messages", AGENT_MESSAGES)
    table.create()
    return table


@pytest.fixture(scope="module")
def mortals(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mortals]:
    made = Mortals(tmp_path_factory.mktemp("mortals") / "errors.log")
    yield made
    made.end()


class Reader:
    """Follows from the first entry, as a host does, and leaps where it has to."""

    def __init__(self, table: DeltaLog) -> None:
        self._follower = Follower(table, snapshots=Snapshots(table))
        self.seen: list[str] = []

    def look(self) -> None:
        self._follower.advance(lambda _, rows: self.seen.extend(row.message_id for row in rows))


def check(table: DeltaLog, sent: list[str], reader: Reader) -> None:
    """By deltalake, by whoever followed all the time, and by whoever starts now."""
    reader.look()
    rows = read_rows(table.path)
    assert [row["message_id"] for row in rows] == sent
    assert reader.seen == sent
    assert [m.message_id for m in Follower(table, snapshots=Snapshots(table)).state.open_for("A")] == sent


def check_finished(table: DeltaLog) -> None:
    """Nothing is left over, but what a writer that died may have left: that is spared for a day."""
    there = load(table)
    assert len(there.files) < 3 * 16
    kept = {one.file for one in there.files.values()} | {path.replace("%3D", "=") for path in removed_paths(table)}
    orphans = [name for name in files(table.path) if name.startswith("date=") and name not in kept]
    assert len(orphans) <= 1
    assert all("compacted-" in name for name in orphans)
    states = Snapshots(table).versions()
    assert len(states) == 2
    halves = Counter(name.split(".")[0] for name in files(table.path) if "/state-" in name)
    assert set(halves.values()) == {2}
    assert len([name for name in files(table.path) if name.endswith(".checkpoint.parquet")]) == 2


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_a_point(table: DeltaLog, mortals: Mortals, point: str) -> None:
    reader = Reader(table)
    sent: list[str] = []

    def send(count: int) -> None:
        for _ in range(count):
            sent.append(f"m{len(sent):05}")
            append(table, message(sent[-1]))

    send(30)
    mortals.start(table.path, point, after=1)
    end = time.monotonic() + PATIENCE
    while not mortals.died():
        assert time.monotonic() < end, mortals.said
        send(3)
        reader.look()
    check(table, sent, reader)
    send(30)
    after = upkeep_of(table)
    for _ in range(2):
        after.run(force=True)
        send(12)
        reader.look()
    after.run(force=True)
    check(table, sent, reader)
    check_finished(table)
    assert Consumers(table).all() == []

"""Logs for unit tests: a table in a folder, messages, and stores that fail where they are told to."""

from __future__ import annotations

import errno
import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bus.log import rows as codec
from bus.log.consumers import Consumers
from bus.log.snapshot import Snapshots
from bus.log.store import LocalStore
from bus.log.table import DeltaLog
from bus.log.upkeep import Folding, Limits, Upkeep
from schemas.envelope import Message
from schemas.tables import AGENT_MESSAGES

_numbers = itertools.count(1)


def make_log(folder: Path, store: LocalStore | None = None) -> DeltaLog:
    log = open_log(folder, store)
    log.create()
    return log


def open_log(folder: Path, store: LocalStore | None = None) -> DeltaLog:
    log = DeltaLog(folder, AGENT_MESSAGES)
    if store is not None:
        log.store = store
    return log


def message(message_id: str | None = None, **envelope: Any) -> Message:
    return Message(
        **{
            "message_id": message_id or f"m{next(_numbers)}",
            "correlation_id": "c",
            "from_agent": "user:eli",
            "to_agent": "A",
            "message_type": "request",
            "kind": "Ping",
            "content": "{}",
            "timestamp": 1_767_225_600_000_000,
            "principal": "eli",
            **envelope,
        }
    )


def append(log: DeltaLog, *messages: Message) -> int:
    """Blindly, as a writer that folds nothing."""
    version = log.head() + 1
    while not log.put(version, codec.to_arrow(messages, version)).won:
        version += 1
    return version


def ids(log: DeltaLog) -> list[str]:
    """Of every row, by deltalake alone."""
    from deltalake import DeltaTable

    rows = DeltaTable(str(log.path)).to_pyarrow_table(columns=["message_id", "log_version", "seq"]).to_pylist()
    return [row["message_id"] for row in sorted(rows, key=lambda row: (row["log_version"], row["seq"]))]


def files(folder: Path) -> set[str]:
    """Without those that a writer keeps for its next commit."""
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    return {name for name in found if not is_spare(folder, name)}


def is_spare(folder: Path, name: str) -> bool:
    if "_tailrace/tmp/" not in name:
        return False
    try:
        return (folder / name).stat().st_size == 0
    except FileNotFoundError:
        return True


class FullDisk(LocalStore):
    """Has room for `room` bytes, and then says so in the middle of a file."""

    def __init__(self, root: Path, room: int) -> None:
        super().__init__(root)
        self.room = room

    def _fill(self, descriptor: int, data: bytes, sync: bool) -> None:
        if len(data) <= self.room:
            self.room -= len(data)
            super()._fill(descriptor, data, sync)
            return

        def no_room(_: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        # Half of it gets there; then the real clean-up has to take that away again.
        self.durability, usual = "disk", self.durability
        try:
            with patched_fsync(no_room):
                super()._fill(descriptor, data[: max(1, len(data) // 2)], True)
        finally:
            self.durability = usual


class patched_fsync:
    """os.fsync replaced for a block: the one hook into a write that needs no tracing."""

    def __init__(self, instead: Callable[[int], None]) -> None:
        self._instead = instead

    def __enter__(self) -> None:
        import os

        self._real, os.fsync = os.fsync, self._instead

    def __exit__(self, *_: object) -> None:
        import os

        os.fsync = self._real


class LostResponse(LocalStore):
    """The link is made, and then the answer gets lost: `times` times."""

    def __init__(self, root: Path, times: int = 1) -> None:
        super().__init__(root)
        self.times = times

    def put_if_absent(self, path: str, data: bytes) -> bool:
        won = super().put_if_absent(path, data)
        if self.times > 0:
            self.times -= 1
            raise OSError(errno.EIO, "the answer was lost")
        return won


def checkpoint_and_clean(log: DeltaLog) -> int:
    """What upkeep does: a checkpoint at the head, and no entry below it; returns the head."""
    from deltalake import DeltaTable

    table = DeltaTable(str(log.path))
    table.create_checkpoint()
    for version in range(table.version()):
        (log.path / "_delta_log" / f"{version:020d}.json").unlink(missing_ok=True)
    return int(table.version())


#: The first day of a dated log, at noon.
FIRST = datetime(2026, 1, 1, 12, tzinfo=UTC)


class DatedLog:
    """A table with a clock that stands at noon of some day, its upkeep, and where its old days go."""

    def __init__(self, folder: Path) -> None:
        self.day = 1
        self.log = DeltaLog(folder / "tables" / "agent_messages", AGENT_MESSAGES, now=self.now)
        self.log.create()
        self.archive = folder / "archive"
        self.upkeep = Upkeep(
            self.log, Consumers(self.log), Limits(checkpoint_every=5), Folding(Snapshots(self.log), lambda _: True)
        )

    def now(self) -> datetime:
        return FIRST + timedelta(days=self.day - 1)

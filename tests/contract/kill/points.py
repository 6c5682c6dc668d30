"""Points at which an actor dies or falls asleep: around the files of the log, in a handler, on the way back into the log."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bus.log.store import LocalStore
from bus.log.table import DeltaLog

#: Point -> (table, what is done to a file, a piece of its name, whether before or after it).
FILES = {
    "data file put": ("agent_messages", "put", "/part-", "after"),
    "before the entry": ("agent_messages", "put_if_absent", "_delta_log/", "before"),
    "entry put, nobody told": ("agent_messages", "put_if_absent", "_delta_log/", "after"),
    "projected rows put": ("agent_events", "put", "/part-", "after"),
    "before the projection's entry": ("agent_events", "put_if_absent", "_delta_log/", "before"),
    "after the projection's entry": ("agent_events", "put_if_absent", "_delta_log/", "after"),
    "a written state half loaded": ("agent_messages", "get", "_tailrace/state-", "after"),
    "compacted file put": ("agent_messages", "put", "/compacted-", "after"),
    "before the compaction's entry": ("agent_messages", "put_if_absent", "_delta_log/", "before"),
    "after the compaction's entry": ("agent_messages", "put_if_absent", "_delta_log/", "after"),
    "state half written": ("agent_messages", "put_if_absent", "_tailrace/state-", "after"),
    "readers pointed at the checkpoint": ("agent_messages", "replace", "_last_checkpoint", "after"),
    "an entry deleted": ("agent_messages", "delete", "_delta_log/", "after"),
    "a data file deleted": ("agent_messages", "delete", "date=", "after"),
}
WRITER = ("data file put", "before the entry", "entry put, nobody told")
HANDLED, CLAIMED, EFFECT, LEAPING = "handled, not committed", "claimed, not begun", "effect done", "leaping over a gap"
#: Where each role can die.
POINTS = {
    "producer": WRITER,
    "host": (*WRITER, *tuple(FILES)[3:7], HANDLED, CLAIMED, EFFECT, LEAPING),
    "upkeep": tuple(FILES)[7:],
}
DIE, SLEEP = "die", "sleep"


class Fate:
    """What happens to this process at one point, the n-th time it comes by; noted first, so that it can be counted."""

    def __init__(self, how: str, point: str, after: int, notes: Path) -> None:
        self._how, self._point, self._left = how, point, after
        self._notes = notes

    def passes(self, point: str) -> None:
        if point != self._point:
            return
        self._left -= 1
        if self._left != 0:
            return
        note(self._notes, f"{self._how}\t{point}")
        os.kill(os.getpid(), signal.SIGKILL if self._how == DIE else signal.SIGSTOP)

    def file(self, table: str, verb: str, path: str, when: str) -> None:
        if self._point in FILES:
            of, done, piece, moment = FILES[self._point]
            if (of, done, moment) == (table, verb, when) and piece in path:
                self.passes(self._point)


class FatedStore(LocalStore):
    def __init__(self, root: Path, fate: Fate) -> None:
        super().__init__(root)
        self._fate = fate

    def _around(self, verb: str, path: str, do: Callable[[], Any]) -> Any:
        self._fate.file(self.root.name, verb, path, "before")
        done = do()
        self._fate.file(self.root.name, verb, path, "after")
        return done

    def put(self, path: str, data: bytes) -> None:
        self._around("put", path, lambda: super(FatedStore, self).put(path, data))

    def put_if_absent(self, path: str, data: bytes) -> bool:
        return bool(self._around("put_if_absent", path, lambda: super(FatedStore, self).put_if_absent(path, data)))

    def replace(self, path: str, data: bytes) -> None:
        self._around("replace", path, lambda: super(FatedStore, self).replace(path, data))

    def get(self, path: str) -> bytes | None:
        found: bytes | None = self._around("get", path, lambda: super(FatedStore, self).get(path))
        return found

    def delete(self, path: str) -> None:
        self._around("delete", path, lambda: super(FatedStore, self).delete(path))


class FatedLog(DeltaLog):
    """A follower that leaps reads the table itself, by a filter."""

    fate: Fate

    def scan(self, columns: Any = None, filters: Any = None) -> Any:
        found = super().scan(columns, filters)
        if filters is not None:
            self.fate.passes(LEAPING)
        return found


def note(file: Path, line: str) -> None:
    """One line at once, whatever happens to the process next."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.write(descriptor, f"{line}\n".encode())
    os.close(descriptor)

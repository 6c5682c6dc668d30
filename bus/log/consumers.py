"""Consumers: who follows a log, and how far each has come; clean-up waits for the slowest that is alive."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from bus.log.table import DeltaLog

log = structlog.get_logger(__name__)

FOLDER = "_tailrace/consumers"
#: Seconds without a word after which a consumer holds nothing back any more; it leaps when it comes back.
LOST_AFTER_S = 600.0
#: Seconds between two words of one consumer: at least, when it moved; and at most, when it did not.
MOVED_S = 2.0
IDLE_S = 60.0
_UNSAFE = re.compile(r"[^A-Za-z0-9._:=@-]")


@dataclass(frozen=True)
class Consumer:
    """`version`: the last one it has absorbed. `lost`: silent for so long that nothing waits for it."""

    name: str
    version: int
    host: str
    at_ms: int
    lost: bool = False


class Consumers:
    """The positions beside one table. Noting is cheap: it writes seldom."""

    def __init__(self, table: DeltaLog, lost_after_s: float = LOST_AFTER_S) -> None:
        self._table = table
        self._lost_after = lost_after_s
        self._noted: dict[str, tuple[int, float]] = {}
        self._host = socket.gethostname()

    def note(self, name: str, version: int) -> None:
        """`name` has absorbed `version`."""
        now = self._table.now().timestamp()
        known, at = self._noted.get(name, (-2, 0.0))
        # A clock that went back must not silence anybody.
        if abs(now - at) < (MOVED_S if version != known else IDLE_S):
            return
        said = {"name": name, "version": version, "host": self._host, "at_ms": int(now * 1000)}
        self._table.store.replace(_path(name), json.dumps(said).encode())
        self._noted[name] = (version, now)

    def forget(self, name: str) -> None:
        """It has stopped, in good order."""
        self._table.store.delete(_path(name))
        self._noted.pop(name, None)

    def all(self) -> list[Consumer]:
        """Slowest first."""
        return sorted((one for _, one in self._words()), key=lambda one: one.version)

    def _words(self) -> Iterator[tuple[str, Consumer]]:
        """(file, what it says). A file may say another name than its own: anybody may have written it."""
        now_ms = self._table.now().timestamp() * 1000
        for file in self._table.store.names(FOLDER):
            path = f"{FOLDER}/{file}"
            data = self._table.store.get(path)
            if data is None or not file.endswith(".json"):
                continue
            try:
                said = json.loads(data)
                version, at_ms = int(said["version"]), int(said["at_ms"])
                # A word from the future is of a clock that was wrong: who lives says another soon.
                lost = abs(now_ms - at_ms) > self._lost_after * 1000
                yield path, Consumer(str(said["name"]), version, str(said["host"]), at_ms, lost)
            except (ValueError, KeyError, TypeError, OverflowError):
                log.warning("consumers.unreadable", table=self._table.uri, name=file)

    def slowest(self) -> Consumer | None:
        """Of those that are alive."""
        return next((one for one in self.all() if not one.lost), None)

    def bury(self, after_s: float = 86_400.0) -> None:
        """Forget who has been lost for a day: the files that said so, and no others."""
        now_ms = self._table.now().timestamp() * 1000
        for path, one in list(self._words()):
            if abs(now_ms - one.at_ms) > after_s * 1000:
                self._table.store.delete(path)
                self._noted = {name: noted for name, noted in self._noted.items() if _path(name) != path}


class Registered:
    """Says a consumer's position every few seconds for as long as it runs: a companion of a host."""

    def __init__(self, consumers: Consumers, name: str, position: Callable[[], int], every_s: float = MOVED_S) -> None:
        self._consumers = consumers
        self._name = name
        self._position = position
        self._every = every_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="consumer-position", daemon=True)

    def start(self) -> None:
        self._say()
        self._thread.start()

    def stop(self) -> None:
        """Idempotent."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
            self._consumers.forget(self._name)

    def _run(self) -> None:
        while not self._stopping.wait(self._every):
            self._say()

    def _say(self) -> None:
        try:
            self._consumers.note(self._name, self._position())
        except OSError as error:
            log.warning("consumers.not_noted", name=self._name, error=str(error))


def _path(name: str) -> str:
    return f"{FOLDER}/{_UNSAFE.sub('_', name)}.json"

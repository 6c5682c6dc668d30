"""Who runs here: one locked file an agent. The lock is the kernel's, so it is gone when the process is, however it ended."""

from __future__ import annotations

import fcntl
import json
import os
import time
from dataclasses import dataclass
from types import TracebackType

from bus.home import Home


class AlreadyRunning(RuntimeError):
    """Another process on this machine runs this agent."""


@dataclass(frozen=True)
class Running:
    """A process that runs an agent. `ready` once it has warmed up; `since` in seconds since 1970."""

    agent: str
    pid: int
    engine: str
    ready: bool
    since: float


class Presence:
    """Holds the lock for one agent, as a context manager."""

    def __init__(self, home: Home, agent: str, engine: str) -> None:
        self._path = home.run / f"{agent}.json"
        self._facts = {"agent": agent, "pid": os.getpid(), "engine": engine, "ready": False, "since": time.time()}

    def __enter__(self) -> Presence:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(self._path, "a+")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.seek(0)
            pid = json.loads(self._file.read() or "{}").get("pid", "unknown")
            self._file.close()
            raise AlreadyRunning(f"{self._facts['agent']} runs already in this home, process {pid}") from None
        self._write()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.truncate(0)
        self._file.close()

    def ready(self) -> None:
        self._facts["ready"] = True
        self._write()

    def _write(self) -> None:
        self._file.seek(0)
        self._file.truncate(0)
        self._file.write(json.dumps(self._facts))
        self._file.flush()


def running(home: Home) -> dict[str, Running]:
    """Agents with a living process in this home, by name."""
    found: dict[str, Running] = {}
    for path in sorted(home.run.glob("*.json")):
        with open(path, "r+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                text = file.read()
                if text:
                    facts = Running(**json.loads(text))
                    found[facts.agent] = facts
    return found

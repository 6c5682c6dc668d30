"""Who runs here: one locked file an instance. The lock is the kernel's, so it is gone when the process is, however it ended."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO

from bus.home import Home

#: Bytes of facts.
_LENGTH = 512


class AlreadyRunning(RuntimeError):
    """Another process on this machine runs an agent of which there may be one only."""


@dataclass(frozen=True)
class Running:
    """A process that runs an agent. `ready` once it has warmed up; `since` in seconds since 1970."""

    agent: str
    pid: int
    engine: str
    ready: bool
    since: float


class Presence:
    """Shows that this process runs an agent, as a context manager. `single`: and that no other process here does."""

    def __init__(self, home: Home, agent: str, engine: str, *, single: bool = False) -> None:
        self._home, self._single = home, single
        self._path = home.run / f"{agent}.{uuid.uuid4().hex[:8]}.json"
        self._facts = {"agent": agent, "pid": os.getpid(), "engine": engine, "ready": False, "since": time.time()}

    def __enter__(self) -> Presence:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if self._single:
            self._exclude()
        while not self._taken():
            pass
        self._write()
        return self

    def _exclude(self) -> None:
        agent = str(self._facts["agent"])
        self._lock = open(self._home.run / f"{agent}.lock", "w")  # noqa: SIM115  # held until `__exit__`
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            known = running(self._home).get(agent)
            where = f", process {known.pid}" if known else ""
            raise AlreadyRunning(
                f"{agent} runs already in this home{where}; of this agent a machine runs one at a time"
            ) from None

    def _taken(self) -> bool:
        """Whether the locked file is the one others see: somebody may have cleared it away before we held the lock."""
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        fcntl.flock(self._file, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):
            if os.stat(self._path).st_ino == os.fstat(self._file).st_ino:
                return True
        os.close(self._file)
        return False

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._path.unlink(missing_ok=True)
        os.close(self._file)
        if self._single:
            self._lock.close()

    def ready(self) -> None:
        self._facts["ready"] = True
        self._write()

    def _write(self) -> None:
        """In one write of one length: who reads meanwhile finds the old facts or the new ones, never half of them."""
        os.pwrite(self._file, json.dumps(self._facts).ljust(_LENGTH).encode(), 0)


def processes(home: Home) -> list[Running]:
    """Every process that runs an agent of this home, the oldest first; an agent may have several."""
    found = []
    for path in home.run.glob("*.json"):
        with contextlib.suppress(FileNotFoundError), open(path, "r+") as file:
            if (facts := _read(path, file)) is not None:
                found.append(facts)
    return sorted(found, key=lambda one: (one.since, one.pid))


def running(home: Home) -> dict[str, Running]:
    """Agents with a living process in this home, by name: of several the first that is ready."""
    found: dict[str, Running] = {}
    for one in processes(home):
        if one.agent not in found or (one.ready and not found[one.agent].ready):
            found[one.agent] = one
    return found


def _read(path: Path, file: IO[str]) -> Running | None:
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = file.read()
        return Running(**json.loads(text)) if text.strip() else None
    path.unlink(missing_ok=True)  # its process is gone, and did not live to clear it away
    return None

"""Waiting for a version to exist: by file-system notification where there is one, else by polling."""

from __future__ import annotations

import os
import select
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: Seconds between looks when no notification comes: the floor under a file system that does not notify.
IDLE_POLL = 0.02
NOTIFIED_POLL = 1.0


class Waiter:
    """Wakes when something new may stand in a folder. One thread waits; any thread may `wake` it."""

    def __init__(self, folder: Path) -> None:
        self._notify = _inotify(folder)
        self._woken, self._wake = os.pipe()
        self._poll = select.poll()
        self._poll.register(self._woken, select.POLLIN)
        if self._notify is not None:
            self._poll.register(self._notify.fileno(), select.POLLIN)

    def wait(self, exists: Callable[[], bool], stopped: Callable[[], bool]) -> bool:
        """True once `exists()`; False once `stopped()`."""
        while not stopped():
            if exists():
                return True
            ready = self._poll.poll((IDLE_POLL if self._notify is None else NOTIFIED_POLL) * 1000)
            if self._notify is not None and any(fd == self._notify.fileno() for fd, _ in ready):
                self._notify.read(timeout=0)
        return False

    def wake(self) -> None:
        os.write(self._wake, b"!")

    def close(self) -> None:
        os.close(self._woken)
        os.close(self._wake)
        if self._notify is not None:
            self._notify.close()


def _inotify(folder: Path) -> Any:
    try:
        from inotify_simple import INotify, flags
    except ImportError:  # not Linux
        return None
    try:
        notify = INotify()
        notify.add_watch(str(folder), flags.CREATE | flags.MOVED_TO)
    except OSError:  # no watches left, or a file system without them
        return None
    return notify

"""Waiting for a version to exist: told by the file system where it tells, else by looking, in ever longer steps."""

from __future__ import annotations

import os
import select
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bus.log.store import Store

#: Seconds between looks where the file system tells us: the floor under a notification that got lost.
NOTIFIED_POLL = 1.0
#: How much longer each look in vain makes the next step.
GROWTH = 1.5


class Waiter:
    """Wakes when something new may stand in a store. One thread waits; any thread may `wake` it."""

    def __init__(self, store: Store) -> None:
        self._pace = store.pace
        self._step = store.pace.busy
        self._notify = None if store.watched is None else _inotify(store.watched)
        self._woken, self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(self._woken, select.POLLIN)
        if self._notify is not None:
            self._poll.register(self._notify.fileno(), select.POLLIN)

    def wait(self, exists: Callable[[], bool], stopped: Callable[[], bool]) -> bool:
        """True once `exists()`; False once `stopped()`."""
        while not stopped():
            if exists():
                self._step = self._pace.busy
                return True
            self._sleep()
        return False

    def hasten(self) -> None:
        """Look often for a while: something was committed here, so an answer may be near."""
        if self._notify is None:
            self.wake()

    def wake(self) -> None:
        try:
            os.write(self._wake, b"!")
        except BlockingIOError:
            return  # full of wake-ups that nobody has seen yet

    def close(self) -> None:
        os.close(self._woken)
        os.close(self._wake)
        if self._notify is not None:
            self._notify.close()

    def _sleep(self) -> None:
        step = self._step if self._notify is None else NOTIFIED_POLL
        ready = {fd for fd, _ in self._poll.poll(step * 1000)}
        self._step = min(self._step * GROWTH, self._pace.idle)
        if self._woken in ready:
            os.read(self._woken, 4096)
            self._step = self._pace.busy
        if self._notify is not None and self._notify.fileno() in ready:
            os.read(self._notify.fileno(), 65_536)  # what happened is of no interest, only that something did


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

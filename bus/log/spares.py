"""Empty files made ahead of need: to make one is the dearest step of a small write, 0.1 to 0.3 ms of a commit."""

from __future__ import annotations

import os
import threading
import uuid
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

#: A commit takes two: one for its rows, one for its entry.
KEPT = 2
_MAKERS = ThreadPoolExecutor(1, thread_name_prefix="spare-files")
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


class Spares:
    """Files in a scratch folder, closed: one that is open for writing would keep a disk from being mounted read-only.

    Gone with their owner; those of a killed process go with the rest of its scratch files.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._made: list[str] = []
        self._process = os.getpid()
        self._lock = threading.Lock()
        weakref.finalize(self, _discard, self._made, self._process)

    def take(self) -> tuple[str, int]:
        """An empty file that is the caller's from now on: its name, and a descriptor to write to. Raises OSError."""
        with self._lock:
            name = self._made.pop() if self._made and self._is_ours() else None
        if name is not None:
            with suppress(FileNotFoundError):  # after a day, clean-up takes it for a dead writer's
                return name, os.open(name, os.O_WRONLY | os.O_CLOEXEC)
        name = self._fresh_name()
        return name, os.open(name, _NEW, 0o644)

    def refill(self) -> None:
        """Behind the caller's back: it has written what it wanted, and nobody waits."""
        if len(self._made) < KEPT and self._is_ours():
            with suppress(RuntimeError):  # the interpreter ends
                _MAKERS.submit(self._refill)

    def _refill(self) -> None:
        while len(self._made) < KEPT:
            name = self._fresh_name()
            try:
                os.close(os.open(name, _NEW, 0o644))
            except OSError:  # a full disk, a folder that went away: whoever writes next hears of it
                return
            with self._lock:
                self._made.append(name)

    def _is_ours(self) -> bool:
        """A forked child has its parent's spares, not for its use, and no thread that makes others."""
        return self._process == os.getpid()

    def _fresh_name(self) -> str:
        return f"{self._folder}/{uuid.uuid4().hex}"


def _discard(names: list[str], process: int) -> None:
    while names and process == os.getpid():
        with suppress(OSError):
            os.unlink(names.pop())

"""The keyring as its file says it now: an agent that got its key while a client runs is believed without a restart."""

from __future__ import annotations

import threading
from pathlib import Path

from bus.errors import BusError
from bus.keys import Keyring
from schemas.envelope import Message


class TrustedNow:
    """Reads the keyring again when a row or a question names a key it does not know, and the file has changed."""

    def __init__(self, folder: Path, table_id: str, environment: str) -> None:
        self._folder = folder
        self._table_id = table_id
        self._environment = environment
        self._lock = threading.Lock()
        self._changed = self._stamp()
        self._keyring = Keyring.load(folder)

    def accepts(self, message: Message) -> bool:
        """Whether the row is signed by whom it names."""
        if message.key_id is not None and message.key_id not in self._keyring.keys:
            self._reload()
        return self._keyring.accepts(message, self._table_id, self._environment)

    def knows(self, subject: str) -> bool:
        """Whether any key speaks for this agent: one without could not even answer."""
        if subject not in self._keyring.subjects():
            self._reload()
        return subject in self._keyring.subjects()

    def agents(self) -> list[str]:
        return sorted(subject for subject in self._keyring.subjects() if ":" not in subject)

    def _reload(self) -> None:
        with self._lock:
            stamp = self._stamp()
            if stamp == self._changed:
                return
            try:
                self._keyring = Keyring.load(self._folder)
            except BusError:
                return  # what was trusted before still is; a keyring that nobody signed adds nothing
            self._changed = stamp

    def _stamp(self) -> tuple[int, int]:
        try:
            stat = (self._folder / "keyring.json").stat()
        except OSError:
            return (0, 0)
        return (stat.st_mtime_ns, stat.st_ino)

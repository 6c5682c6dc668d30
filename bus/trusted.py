"""Whom a client believes, as the keyring says it now: an agent that got its key while the client runs needs no restart."""

from __future__ import annotations

from pathlib import Path

from bus.keyring_watch import WatchedKeyring
from schemas.envelope import Message


class TrustedNow:
    """The watched keyring with the questions a client has."""

    def __init__(self, folder: Path, table_id: str, environment: str) -> None:
        self._ring = WatchedKeyring(folder)
        self._table_id = table_id
        self._environment = environment

    def accepts(self, message: Message) -> bool:
        """Whether the row is signed by whom it names."""
        return self._ring.accepts(message, self._table_id, self._environment)

    def knows(self, subject: str) -> bool:
        """Whether any key speaks for this agent: one without could not even answer."""
        return subject in self._ring.subjects() or subject in self._ring.look().subjects()

    def agents(self) -> list[str]:
        return sorted(subject for subject in self._ring.subjects() if ":" not in subject)

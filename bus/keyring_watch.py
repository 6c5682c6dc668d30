"""The keyring as its file says it now: a key that was added, replaced or taken away counts in a running process too."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bus.errors import BusError, Untrusted
from bus.keys import Keyring, TrustedKey
from bus.logs import LateLogger
from bus.trust import SignedTrust
from schemas.envelope import Message

log = LateLogger(__name__)

#: Seconds between two looks at the file.
LOOK_S = 1.0
#: Seconds until a ring that cannot be believed is spoken of again.
SAY_AGAIN_S = 60.0


class WatchedKeyring:
    """Looks at `keyring.json` every second while it is used, and at once for a key it does not know.

    A ring that is gone, or that the root key of the first one did not sign, changes nothing: what was trusted before still is,
    and the log says so. `ours`: whom this process signs for, with keys that it read when it began; the log says when those are
    not the newest any more. Raises Untrusted or MissingKey when the first ring does not hold.
    """

    def __init__(self, folder: Path, now: Callable[[], float] = time.monotonic, ours: Sequence[str] = ()) -> None:
        self._folder = folder
        self._now = now
        self._ours = ours
        self._lock = threading.Lock()
        self._stamp = self._stamped()
        self._ring = Keyring.load(folder)
        self._looked = now()
        self._said = float("-inf")

    @property
    def current(self) -> Keyring:
        if self._now() - self._looked >= LOOK_S:
            self.look()
        return self._ring

    def look(self) -> Keyring:
        """As it is at this moment."""
        with self._lock:
            self._looked = self._now()
            stamp = self._stamped()
            if stamp == self._stamp:
                return self._ring
            try:
                ring = Keyring.load(self._folder)
                if ring.root != self._ring.root:
                    # Who can write this file can write root.pub beside it: a process keeps the root that it began with.
                    raise Untrusted("keys.root", f"{self._folder}/root.pub is another one than when this process began")
            except (BusError, OSError, ValueError, TypeError) as error:
                if self._looked - self._said >= SAY_AGAIN_S:
                    self._said = self._looked
                    log.error(
                        "keyring.not_believed", reason=str(error), remedy="what was trusted before still is; restore it"
                    )
                return self._ring
            log.info("keyring.changed", **_difference(self._ring, ring))
            if replaced := [one for one in self._ours if _signing(self._ring, one) != _signing(ring, one)]:
                log.error(
                    "keyring.our_key_replaced",
                    subjects=replaced,
                    remedy="start this process again: it signs with the old key",
                )
            # The stamp is from before the reading: who changes the file in between is seen at the next look.
            self._ring, self._stamp, self._said = ring, stamp, float("-inf")
            return ring

    def accepts(self, message: Message, table_id: str, environment: str) -> bool:
        """Whether the row is signed by whom it names."""
        return self.knowing(message).accepts(message, table_id, environment)

    def knowing(self, message: Message) -> Keyring:
        """The ring to check this row by."""
        ring = self.current
        return ring if message.key_id is None or message.key_id in ring.keys else self.look()

    def subjects(self) -> set[str]:
        """Everybody a key speaks for."""
        return self.current.subjects()

    def _stamped(self) -> tuple[int, int, int]:
        try:
            stat = (self._folder / "keyring.json").stat()
        except OSError:
            return (0, 0, 0)
        return (stat.st_mtime_ns, stat.st_size, stat.st_ino)


class WatchedTrust:
    """SignedTrust by the ring as it is now. What an earlier ring vouched for is checked again."""

    def __init__(self, ring: WatchedKeyring, table_id: str, environment: str) -> None:
        self._watched = ring
        self._place = (table_id, environment)
        self._ring = ring.current
        self._trust = SignedTrust(self._ring, *self._place)

    def check(self, message: Message, conversation: Sequence[Message]) -> list[Message]:
        """Raises Untrusted."""
        ring = self._watched.knowing(message)
        if ring is not self._ring:
            self._ring, self._trust = ring, SignedTrust(ring, *self._place)
        return self._trust.check(message, conversation)


def _signing(ring: Keyring, subject: str) -> TrustedKey | None:
    """The key that a process which begins now would sign with."""
    return next((key for key in reversed(ring.keys.values()) if subject in key.subjects), None)


def _difference(before: Keyring, after: Keyring) -> dict[str, list[str]]:
    """Ids of keys, by what became of them."""
    kept = before.keys.keys() & after.keys.keys()
    return {
        "added": sorted(after.keys.keys() - before.keys.keys()),
        "gone": sorted(before.keys.keys() - after.keys.keys()),
        "changed": sorted(one for one in kept if before.keys[one] != after.keys[one]),
    }

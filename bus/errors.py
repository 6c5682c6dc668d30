"""Every error of the bus, under one root.

BusError
├── LogError            the table is not what a log must be
│   ├── LogMissing      no table there
│   ├── ForeignLog      a protocol or metadata this writer does not write
│   ├── UnfitStore      a place that cannot put a file if absent
│   └── UnreadableArchive  old days that cannot be read where they went
│       └── MissingArchive  nothing is there
├── StoreUnavailable    an object store that does not answer (also an OSError)
│   └── StoreRefused    an object store that refuses us (also a PermissionError)
├── Superseded          a commit was dropped because its decision was lost
├── ContentTooLarge     a message over 1 MiB
├── NotAcknowledged     messages a producer sent, of which nobody knows whether they arrived
├── NotAMessage         a row of a bulk append that would be no message
├── Untrusted           a signature, key or principal does not hold
├── MissingKey          a private key that cannot be read
├── TimedOut            no answer in time
├── Busy                an agent asked its producers to slow down, and it lasted too long
├── IdTaken             a producer's own message id already names another message
├── Unexpected          an answer of another kind than the one asked for
└── Closed              the bus was closed
"""

from __future__ import annotations

from collections.abc import Sequence


class BusError(Exception):
    """Root of all errors of the bus."""


class LogError(BusError):
    """The table is not what a log must be."""


class LogMissing(LogError):
    """No table at that place. Remedy: `tailrace init`."""


class ForeignLog(LogError):
    """The table has a protocol or metadata this writer does not write; it is left untouched."""


class UnfitStore(LogError):
    """A place that cannot hold a log, because two writers could both believe to have won. Remedy: another place."""


class UnreadableArchive(LogError):
    """Something in an archive is missing or spoilt. Remedy: restore what is named from a backup."""


class MissingArchive(UnreadableArchive):
    """No archive is where days went. Remedy: bring it back to where it was."""


class StoreUnavailable(BusError, OSError):
    """The object store did not answer in time. What was being appended may or may not be in the log."""


class StoreRefused(StoreUnavailable, PermissionError):
    """The object store knows us not, or does not let us. Remedy: the AZURE_* or AWS_* environment variables."""


class Superseded(BusError):
    """Another instance's receipt or claim came first in the log; nothing of this commit was written."""

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(f"already decided in the log: {key}")


class ContentTooLarge(BusError):
    """A content over 1 MiB. Remedy: store it elsewhere and send a reference."""


class NotAcknowledged(BusError):
    """Nobody knows whether these `messages` arrived. Remedy: send them again under the same ids, which count once."""

    def __init__(self, text: str, messages: Sequence[object] = ()) -> None:
        self.messages = tuple(messages)
        super().__init__(text)


class NotAMessage(BusError):
    """A row of a bulk append that would be no message; none of the rows was written."""


class Untrusted(BusError):
    """A signature, key or principal does not hold; `rule` names the check that failed."""

    def __init__(self, rule: str, reason: str) -> None:
        self.rule = rule
        self.reason = reason
        super().__init__(f"{rule}: {reason}")


class MissingKey(BusError):
    """A private key that is not there or cannot be read by this process."""


class TimedOut(BusError):
    """No answer in time. The request stays in the log and is answered when its agent runs: `tailrace wait`."""


class Busy(BusError):
    """An agent has more waiting than it can work off; nothing was sent. Advice, never a limit: `when_busy="ignore"` sends."""


class IdTaken(BusError):
    """Another message has this id already; nothing was sent. Remedy: an id that names this one message only."""


class Unexpected(BusError):
    """An answer of another kind than the one asked for, often Failed or Refused; `message` is that answer."""

    def __init__(self, text: str, message: object = None) -> None:
        self.message = message
        super().__init__(text)


class Closed(BusError):
    """The bus was closed while something was under way; what was not acknowledged may or may not be in the log."""

"""Every error of the bus, under one root.

BusError
├── LogError            the table is not what a log must be
│   ├── LogMissing      no table there
│   └── ForeignLog      a protocol or metadata this writer does not write
├── Superseded          a commit was dropped because its decision was lost
├── ContentTooLarge     a message over 1 MiB
├── Untrusted           a signature, key or principal does not hold
├── MissingKey          a private key that cannot be read
├── TimedOut            no answer in time
└── Closed              the bus was closed
"""

from __future__ import annotations


class BusError(Exception):
    """Root of all errors of the bus."""


class LogError(BusError):
    """The table is not what a log must be."""


class LogMissing(LogError):
    """No table at that place. Remedy: `tailrace init`."""


class ForeignLog(LogError):
    """The table has a protocol or metadata this writer does not write; it is left untouched."""


class Superseded(BusError):
    """Another instance's receipt or claim came first in the log; nothing of this commit was written."""

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(f"already decided in the log: {key}")


class ContentTooLarge(BusError):
    """A content over 1 MiB. Remedy: store it elsewhere and send a reference."""


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


class Closed(BusError):
    """The bus was closed while something was under way; what was not acknowledged may or may not be in the log."""

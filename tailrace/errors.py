"""Every error a client raises, under one root: each says what happened and what to do about it."""

from __future__ import annotations

from bus.errors import (
    BusError,
    Busy,
    Closed,
    ContentTooLarge,
    ForeignLog,
    IdTaken,
    LogError,
    LogMissing,
    MissingKey,
    NotAMessage,
    TimedOut,
    Unexpected,
    Untrusted,
)

__all__ = [
    "BusError",
    "Busy",
    "Closed",
    "ContentTooLarge",
    "ForeignLog",
    "IdTaken",
    "LogError",
    "LogMissing",
    "MissingKey",
    "NotAMessage",
    "TimedOut",
    "Unexpected",
    "Untrusted",
]

"""What is measured: something that takes messages in one process and handles them in another."""

from __future__ import annotations

import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path


class Sender(ABC):
    """Runs in a process of its own; pickled on its way there, so `open` makes what cannot be."""

    @abstractmethod
    def open(self) -> None: ...

    @abstractmethod
    def one(self, number: int) -> None:
        """Send one message; it is durable on return."""

    @abstractmethod
    def many(self, numbers: range) -> None:
        """Send these the fastest recommended way; all durable on return."""


class Contestant(ABC):
    """One system, set up one way. `burst`: messages it gets at once when rates are measured, two to three seconds' work of
    each, so that the first message's way and the last one's weigh the same in all rates."""

    name: str
    #: How it is set up, for the table.
    how: str = ""
    burst: int = 1000
    #: Started less often: it takes long to start.
    slow: bool = False
    #: Seconds until a fresh worker must have handled its first message.
    patience_s: float = 60.0

    @abstractmethod
    def prepare(self) -> None:
        """Once. Raises Missing when something it needs is not there."""

    @abstractmethod
    def sender(self) -> Sender: ...

    @abstractmethod
    def workers(self, reports: Path) -> list[subprocess.Popen[bytes]]:
        """Start the handling side."""

    def servers(self) -> Sequence[int]:
        """Processes that work for it beside sender and workers."""
        return ()

    def mark(self) -> None:  # noqa: B027  # most need none
        """Rates are measured from here."""

    @abstractmethod
    def finished(self, count: int, timeout: float) -> float:
        """Wait until `count` messages since `mark` have their receipts; when that was, in seconds since 1970."""


def python(module: str, *arguments: object, quiet: bool = True) -> subprocess.Popen[bytes]:
    """A worker process that ends when its standard input does."""
    return subprocess.Popen(
        [sys.executable, "-m", module, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL if quiet else None,
        start_new_session=True,
    )

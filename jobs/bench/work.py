"""The work every contestant does: the same message of about 400 bytes, and word of each handling through a pipe."""

from __future__ import annotations

import fcntl
import os
import select
import struct
import time
import uuid
from pathlib import Path
from typing import Any

#: (number, CLOCK_MONOTONIC nanoseconds): one clock for all processes of a machine. Short enough to be written in one piece.
_REPORT = struct.Struct("<qq")
#: Linux: how much a pipe holds, so that a worker never waits for whoever measures.
_F_SETPIPE_SZ = 1031
_PIPE_BYTES = 1 << 20
#: Seconds between two looks at the reports of a burst.
_PAUSE_S = 0.01

#: What the message says beside its number.
TEXT = "x" * 200
#: Messages that a sender hands over at once when it has many.
BATCH = 500


def body(number: int) -> dict[str, Any]:
    """What queues without an envelope of their own carry: the ids and names that Tailrace's envelope has, and the text."""
    return {
        "number": number,
        "message_id": str(uuid.uuid4()),
        "correlation_id": str(uuid.uuid4()),
        "from_agent": "user:ana",
        "to_agent": "Echo",
        "text": TEXT,
    }


class Reporter:
    """Tells that a handler has begun; for worker processes, any thread of them."""

    def __init__(self, pipe: str) -> None:
        self._pipe = os.open(pipe, os.O_WRONLY)

    def __call__(self, number: int) -> None:
        os.write(self._pipe, _REPORT.pack(number, time.monotonic_ns()))


class NoWord(RuntimeError):
    """Handlings that were waited for have not begun."""


class Reports:
    """The reading end, for whoever measures. A context manager."""

    def __init__(self, pipe: Path) -> None:
        os.mkfifo(pipe)
        self.pipe = pipe
        self._read = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        self._held = os.open(pipe, os.O_WRONLY)  # or it would end whenever no worker is there
        fcntl.fcntl(self._held, _F_SETPIPE_SZ, _PIPE_BYTES)
        self._begun: dict[int, int] = {}

    def __enter__(self) -> Reports:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._read)
        os.close(self._held)
        self.pipe.unlink()

    def begun(self, number: int, timeout: float) -> int:
        """When the handler of this message began, in monotonic nanoseconds. Raises NoWord."""
        self._wait([number], timeout)
        return self._begun.pop(number)

    def all_begun(self, numbers: range, timeout: float) -> None:
        """Until each of these has begun at least once. Raises NoWord."""
        self._wait(numbers, timeout)
        for number in numbers:
            del self._begun[number]

    def _wait(self, numbers: range | list[int], timeout: float) -> None:
        missing = set(numbers) - self._begun.keys()
        deadline = time.monotonic() + timeout
        many = len(missing) > 1
        while missing:
            left = max(deadline - time.monotonic(), 0)
            if not select.select([self._read], [], [], left)[0]:
                raise NoWord(f"{len(missing)} of {len(numbers)} messages were not handled within {timeout:g} s")
            if many:
                time.sleep(
                    _PAUSE_S
                )  # when each has begun stands in its report; who is woken by each takes time from all
            data = os.read(self._read, _PIPE_BYTES)
            for number, at in _REPORT.iter_unpack(data):
                self._begun.setdefault(number, at)
                missing.discard(number)

"""What to replay, and through what."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from workers.runtime.clock import micros

#: A column of a receipt, `log_version` or `timestamp`, and its value.
Bound = tuple[str, int]

_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


class CannotReplay(ValueError):
    """The request makes no sense; the message says what would."""


@dataclass(frozen=True)
class ReplayRequest:
    """`since` and `until` are versions or times, of the receipt, both included.

    `workers` are `module:Class`; `files` maps names in config/ to the files that are read instead of them. `ignore`:
    fields that may differ. `network`: whether workers may use it.
    """

    since: str | None = None
    until: str | None = None
    agent: str | None = None
    correlation_id: str | None = None
    workers: Sequence[str] = ()
    files: Mapping[str, Path] = field(default_factory=dict)
    ignore: Sequence[str] = ()
    network: bool = False

    def document(self) -> dict[str, Any]:
        return asdict(self) | {"files": {name: str(path) for name, path in self.files.items()}}

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> ReplayRequest:
        return cls(**{**document, "files": {name: Path(path) for name, path in document["files"].items()}})

    def bounds(self, now: int) -> tuple[Bound | None, Bound | None]:
        """First and last. `now` is UTC microseconds. Raises CannotReplay."""
        since, until = _bound(self.since, now, "--from"), _bound(self.until, now, "--to")
        if since and until and since[0] == until[0] and since > until:
            raise CannotReplay(f"--from {self.since} is after --to {self.until}")
        return since, until


def _bound(text: str | None, now: int, option: str) -> Bound | None:
    """A version, a span back from now such as `2h`, or an ISO time (local unless it names its zone)."""
    if text is None:
        return None
    text = text.strip()
    if text.isdecimal() and len(text) < 18:
        return "log_version", int(text)
    try:
        if span := _SPAN.fullmatch(text):
            return "timestamp", now - round(float(span[1]) * _SECONDS[span[2]] * 1_000_000)
        return "timestamp", micros(datetime.fromisoformat(text).astimezone())
    except (ValueError, OverflowError) as error:
        raise CannotReplay(
            f"{option} {text} is neither a version (such as 120), a span back from now (such as 90m, 2h or 1d) "
            "nor an ISO time (such as 2026-03-01T09:30)"
        ) from error

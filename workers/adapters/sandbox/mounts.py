"""Other ways to the same folder: bind mounts show it under a second path, which must be denied with the first."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

_MOUNTS = Path("/proc/self/mountinfo")


@dataclass(frozen=True)
class Mount:
    """`root` of the file system `device` is shown at `point`."""

    device: str
    root: Path
    point: Path


def mounts(text: str | None = None) -> list[Mount]:
    """The mounts of this process; empty where the system has no such list."""
    if text is None:
        text = _MOUNTS.read_text() if _MOUNTS.exists() else ""
    fields = [line.split(" ") for line in text.splitlines()]
    return [Mount(field[2], Path(_plain(field[3])), Path(_plain(field[4]))) for field in fields]


def aliases(paths: Iterable[Path], among: list[Mount]) -> Iterator[Path]:
    """Every path that leads to one of `paths`, or to a part of it, through another mount of the same file system."""
    for path in paths:
        own = max((m for m in among if path.is_relative_to(m.point)), key=lambda m: len(m.point.parts), default=None)
        if own is None:
            continue
        inside = own.root / path.relative_to(own.point)
        for other in among:
            if other == own or other.device != own.device:
                continue
            if inside.is_relative_to(other.root):
                yield other.point / inside.relative_to(other.root)
            elif other.root.is_relative_to(inside):
                yield other.point


def _plain(text: str) -> str:
    """The kernel writes blanks and backslashes as octal numbers."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)

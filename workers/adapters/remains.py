"""What is left of an execution process that died: whether it, and every process that it had started, is gone."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from workers.runtime.whereabouts import alive, shown

_PROC = Path("/proc")

#: Engines start what they need in folders of the home that are named after the process they belong to.
SCRATCH = "scratch-"


class Remains:
    """Below one home. What an engine starts works in a scratch folder there, whose name says who started it."""

    def __init__(self, home: Path) -> None:
        self._home = Path(os.path.realpath(home))

    def gone(self, process: str) -> bool:
        """False also when nobody can tell from here: another machine, or a system that does not show its processes."""
        if alive(process) is not False or not _PROC.is_dir():
            return False
        pid = shown(process).rpartition(":")[2]
        return not any(self._belongs(cwd, pid) for cwd in _working_folders())

    def _belongs(self, cwd: str, pid: str) -> bool:
        place = Path(cwd)
        if not place.is_relative_to(self._home):
            return False
        return any(part.startswith(f"{SCRATCH}{pid}-") for part in place.relative_to(self._home).parts)


def _working_folders() -> list[str]:
    found = []
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):  # gone meanwhile, or another user's
                found.append(os.readlink(entry / "cwd"))
    return found

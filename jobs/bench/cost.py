"""What processes cost: seconds of processor time of whole process trees, from the kernel's own counters (Linux)."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(roots: Iterable[int]) -> float:
    """Of these processes, everything below them, and what they have already buried."""
    parents: dict[int, int] = {}
    spent: dict[int, int] = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            text = Path(f"/proc/{entry}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended meanwhile: its parent has its time
        fields = text.rsplit(")", 1)[1].split()  # the name before may hold anything
        parents[int(entry)] = int(fields[1])
        spent[int(entry)] = sum(int(field) for field in fields[11:15])  # own and buried children's, user and system
    wanted = set(roots)
    return sum(ticks for pid, ticks in spent.items() if _below(pid, wanted, parents)) / _TICKS


def _below(pid: int, roots: set[int], parents: dict[int, int]) -> bool:
    while pid in parents:
        if pid in roots:
            return True
        pid = parents[pid]
    return False

"""How much one run may use of this machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

MIB = 1024 * 1024
GIB = 1024 * MIB


@dataclass(frozen=True)
class Limits:
    """Bytes and seconds. What is above ends the run with a word about which limit it was, never by harming the machine.

    `memory`: of one process of Python; of all processes together where there are several, looked at five times a second.
    `processes` counts threads as well. `scratch`: what may be in the run's own folder, which is kept in memory.
    `result`: the size of the result, and of any one file. `output`: how much of what was printed is kept; a run that
    prints more than `flood` is ended. `snapshot`: all tables that are read, together. `code`: its own length.
    """

    seconds: float = 60.0
    cpu_seconds: float = 60.0
    memory: int = 2 * GIB
    processes: int = 64
    files: int = 256
    scratch: int = 256 * MIB
    result: int = 256 * MIB
    output: int = 64 * 1024
    flood: int = 16 * MIB
    snapshot: int = 2 * GIB
    code: int = 100_000

    def as_dict(self) -> dict[str, float]:
        return asdict(self)

    @classmethod
    def of(cls, given: Mapping[str, float]) -> Limits:
        return replace(cls(), **given)


PYTHON = Limits()

#: A virtual machine and Python workers beside it.
PYSPARK = Limits(seconds=180.0, cpu_seconds=360.0, memory=4 * GIB, processes=512, files=4096, scratch=GIB)

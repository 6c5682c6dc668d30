"""Upkeeps that are their own murderers: `python -m tests.contract.upkeep_host` reads [folder, point, after] a line.

For each it makes a process that loops over the table's upkeep. At `point`, the `after`-th time it comes by, the process
kills itself with SIGKILL: nothing is flushed, nothing is told. What ended it is then written as a line.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path

from bus.log.consumers import Consumers
from bus.log.snapshot import Snapshots
from bus.log.store import LocalStore
from bus.log.table import DeltaLog
from bus.log.upkeep import Folding, Limits, Upkeep
from schemas.tables import AGENT_MESSAGES
from tests.contract.crash_host import Death

#: Point -> (what is done to a file, a piece of its name, whether before or after it).
POINTS = {
    "compacted file put": ("put", "/compacted-", "after"),
    "before the compaction's entry": ("put_if_absent", ".json", "before"),
    "after the compaction's entry": ("put_if_absent", ".json", "after"),
    "state half written": ("put_if_absent", "state-", "after"),
    "checkpoint written, nobody pointed at it": ("put_if_absent", ".checkpoint.parquet", "after"),
    "readers pointed at it": ("replace", "_last_checkpoint", "after"),
    "files noted": ("put_if_absent", "_tailrace/removed/", "after"),
    "an entry deleted": ("delete", "_delta_log/", "after"),
    "an old checkpoint deleted": ("delete", ".checkpoint.parquet", "after"),
    "an old state half deleted": ("delete", "state-", "after"),
    "a data file deleted": ("delete", "date=", "after"),
    "a note about to be deleted": ("delete", "_tailrace/removed/", "before"),
}


class MortalStore(LocalStore):
    def __init__(self, root: Path, death: Death, point: str) -> None:
        super().__init__(root)
        self._death = death
        self._point = POINTS.get(point, ("", "", ""))

    def put(self, path: str, data: bytes) -> None:
        self._pass("put", path, "before")
        super().put(path, data)
        self._pass("put", path, "after")

    def put_if_absent(self, path: str, data: bytes) -> bool:
        self._pass("put_if_absent", path, "before")
        won = super().put_if_absent(path, data)
        self._pass("put_if_absent", path, "after")
        return won

    def replace(self, path: str, data: bytes) -> None:
        self._pass("replace", path, "before")
        super().replace(path, data)
        self._pass("replace", path, "after")

    def delete(self, path: str) -> None:
        self._pass("delete", path, "before")
        super().delete(path)
        self._pass("delete", path, "after")

    def _pass(self, verb: str, path: str, when: str) -> None:
        if (verb, when) == (self._point[0], self._point[2]) and self._point[1] in path:
            self._death.passes("here")


def upkeep_of(table: DeltaLog) -> Upkeep:
    """Files that left the table go at once: that is where mistakes would show."""
    limits = Limits(keep_s=0.0, checkpoint_every=20)
    return Upkeep(table, Consumers(table), limits, Folding(Snapshots(table), lambda _: True))


def work(folder: Path, point: str, after: int) -> None:
    table = DeltaLog(MortalStore(folder, Death("here", after), point), AGENT_MESSAGES)
    upkeep = upkeep_of(table)
    while True:
        upkeep.run(force=True)


def main() -> None:
    told = os.dup(1)
    os.dup2(2, 1)  # logs are no answers
    for line in sys.stdin:
        folder, point, after = json.loads(line)
        # A fork of a process that has done nothing but import: a death costs no start of Python.
        child = os.fork()
        if child == 0:
            try:
                work(Path(folder), point, after)
            except BaseException:
                traceback.print_exc()
            os._exit(1)
        _, status = os.waitpid(child, 0)
        os.write(told, f"{os.waitstatus_to_exitcode(status)}\n".encode())


if __name__ == "__main__":
    main()

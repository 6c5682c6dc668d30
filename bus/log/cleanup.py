"""Clean-up: entries below a floor go, and files that left the table go once nobody can be reading them any more.

Nothing is deleted that cannot be found again after a crash. An entry that removed files is deleted only when a note
of these files stands in `_tailrace/removed`; a note is deleted only when its files are.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bus.log import entry as entries
from bus.log.entry import entry_path

if TYPE_CHECKING:
    from bus.log.table import DeltaLog

FOLDER = "_tailrace/removed"
STATES = "_tailrace"
SCRATCH = "_tailrace/tmp"
#: Seconds a file nobody refers to is spared: its writer may be slow, or asleep.
ORPHAN_AGE_S = 86_400.0
#: Data files one pass deletes, roughly.
AT_ONCE = 5_000
#: Checkpoints that are kept, so that whoever just read where the newest is still finds it.
KEPT_CHECKPOINTS = 2


@dataclass
class Cleaned:
    """What went: log entries (with their checksums), old checkpoints, data files that left the table, files of nobody."""

    entries: int = 0
    checkpoints: int = 0
    files: int = 0
    orphans: int = 0
    bytes: int = 0

    def add(self, other: Cleaned) -> None:
        self.entries += other.entries
        self.checkpoints += other.checkpoints
        self.files += other.files
        self.orphans += other.orphans
        self.bytes += other.bytes


def clean_log(table: DeltaLog, floor: int, done: Cleaned, harmless: Collection[int] = ()) -> None:
    """Delete entries and checksums below `floor`, which must not be above the oldest checkpoint that is kept.

    `harmless`: versions known to have removed nothing, which need not be read again.
    """
    names = table.store.names("_delta_log")
    for name in sorted(name for name in names if name[:20].isdigit() and int(name[:20]) < floor):
        path = f"_delta_log/{name}"
        if name.endswith(".json"):
            if int(name[:20]) not in harmless:
                _note_removed(table, int(name[:20]))
            table.store.delete(path)
            done.entries += 1
        elif name.endswith(".crc"):
            table.store.delete(path)
        elif name.endswith(".checkpoint.parquet"):
            table.store.delete(path)
            done.checkpoints += 1


def kept_checkpoint(table: DeltaLog, newest: int) -> int:
    """The oldest checkpoint to keep."""
    names = table.store.names("_delta_log")
    found = sorted({int(n[:20]) for n in names if n.endswith(".checkpoint.parquet") and int(n[:20]) <= newest})
    return ([-1] * KEPT_CHECKPOINTS + found)[-KEPT_CHECKPOINTS]


def clean_states(table: DeltaLog, kept: Sequence[int]) -> None:
    """Delete what a crash left of written states: files below those that are kept."""
    for name in table.store.names(STATES):
        number = name.removeprefix("state-").partition(".")[0]
        if number != name and number.isdigit() and int(number) < min(kept, default=0):
            table.store.delete(f"{STATES}/{name}")


def _note_removed(table: DeltaLog, version: int) -> None:
    """The log is about to forget which files this entry removed."""
    data = table.store.get(entry_path(version))
    if data is None or b'"remove"' not in data:
        return
    removed = entries.parse(version, data).removed
    if removed:
        note = {
            "at_ms": max(one.removed_ms for one in removed),
            "paths": [one.path for one in removed],
            "bytes": sum(one.size for one in removed),
        }
        table.store.put_if_absent(f"{FOLDER}/{version:020d}.json", json.dumps(note).encode())


def vacuum(table: DeltaLog, alive: Collection[str], keep_s: float, done: Cleaned) -> None:
    """Delete files that left the table `keep_s` ago, by the notes. `alive`: paths that must stay whatever a note says."""
    now_ms = table.now().timestamp() * 1000
    before = done.files
    living = {entries.unquote(path) for path in alive}
    for name in sorted(table.store.names(FOLDER)):
        if done.files - before >= AT_ONCE:
            break  # the rest has time until the next pass; the log has not
        note = json.loads(table.store.get(f"{FOLDER}/{name}") or b"{}")
        if not note or note["at_ms"] > now_ms:  # by a clock that goes before ours
            continue
        if now_ms - note["at_ms"] < keep_s * 1000:
            break  # they stand in the order of the log: what follows left later
        for file in map(entries.unquote, note["paths"]):
            # By what the path means: an entry of somebody else's may spell it in another way, or lead out of the table.
            if file not in living and _is_data(file):
                table.store.delete(file)
                done.files += 1
        done.bytes += note["bytes"]
        table.store.delete(f"{FOLDER}/{name}")


def _is_data(file: str) -> bool:
    """Whether it can be a data file of this table: below its folder, and none of its log."""
    parts = file.split("/")
    return not {"", ".", ".."} & set(parts) and parts[0] not in ("_delta_log", "_tailrace")


def removed_paths(table: DeltaLog) -> set[str]:
    """Files that left the table and were not deleted yet: by the notes, and by the entries that still exist."""
    found: set[str] = set()
    # Entries first: one that is cleaned away between the two looks is in the notes by then.
    for name in table.store.names("_delta_log"):
        if name.endswith(".json") and name[:20].isdigit():
            data = table.store.get(f"_delta_log/{name}")
            if data is not None and b'"remove"' in data:
                found.update(one.path for one in entries.parse(int(name[:20]), data).removed)
    for name in table.store.names(FOLDER):
        found.update(json.loads(table.store.get(f"{FOLDER}/{name}") or b'{"paths":[]}')["paths"])
    return found


def delete_orphans(table: DeltaLog, done: Cleaned) -> None:
    """Delete what crashed writers left behind: data files of no entry, and scratch files; only when they are old."""
    from bus.log.contents import load

    limit_ms = (table.now().timestamp() - ORPHAN_AGE_S) * 1000
    old = [one for one in table.store.list() if one.modified_ms < limit_ms]
    data = [
        one for one in old if one.path.endswith(".parquet") and not one.path.startswith(("_delta_log/", "_tailrace/"))
    ]
    if data:
        # After the listing: what is referred to by now must stay.
        removed = {entries.unquote(path) for path in removed_paths(table)}
        kept = removed | {one.file for one in load(table).files.values()}
        data = [one for one in data if one.path not in kept]
    for one in [*data, *(one for one in old if one.path.startswith(f"{SCRATCH}/"))]:
        table.store.delete(one.path)
        done.orphans += 1
        done.bytes += one.size

"""What executions leave below the warehouse: dropped tables, results, tables half made. What nobody needs goes after a day."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass, field
from pathlib import Path

from workers.adapters.sandbox import history
from workers.adapters.sandbox.publish import DROPPED, NEW, RESULTS

#: Seconds that everything stays, as in the clean-up of the bus: whoever began earlier is done, or dead.
STAYS_S = 86_400.0


@dataclass(frozen=True)
class Needed:
    """What the log speaks of. `results`: names of files that an outcome refers to. `targets`: of executions without a final
    outcome, whose proof is the mark in the table, wherever that lies now."""

    results: Set[str] = frozenset()
    targets: Set[str] = frozenset()


@dataclass
class Removed:
    """Places below the warehouse, and bytes."""

    places: list[str] = field(default_factory=list)
    bytes: int = 0


def tidy(warehouse: Path, now: float, needed: Callable[[], Needed]) -> Removed:
    """`now`: seconds. `needed` reads the log, and is asked only when something is old enough."""
    removed = Removed()
    old = [one for one in _spare(warehouse) if _age(one, now) > STAYS_S]
    if not old:
        return removed
    wanted = needed()
    for place in old:
        where = place.relative_to(warehouse)
        if where.parts[0] == RESULTS and place.name in wanted.results:
            continue
        if where.parts[0] == DROPPED and where.parts[1] in wanted.targets:
            continue
        size = _size(place)
        _remove(place, warehouse)
        removed.places.append(str(where))
        removed.bytes += size
    return removed


def _spare(warehouse: Path) -> Iterator[Path]:
    """What no undo can bring back, whatever its age."""
    yield from _below(warehouse / NEW)
    yield from (one for one in _below(warehouse / RESULTS) if one.is_file())
    for target in _below(warehouse / DROPPED):
        graves = sorted(_below(target), key=_dropped_at)
        # An undo brings back the newest, and only when there is no table of that name.
        schema, _, name = target.name.partition(".")
        is_there = history.version_at(warehouse / schema / name) is not None
        yield from graves if is_there else graves[:-1]


def _below(folder: Path) -> list[Path]:
    if not folder.is_dir() or folder.is_symlink():
        return []
    return [one for one in folder.iterdir() if not one.is_symlink()]


def _dropped_at(grave: Path) -> float:
    """Its last version is the one that says so; nothing is written to it since."""
    log = grave / "_delta_log"
    return (log if log.is_dir() else grave).stat().st_mtime


def _age(place: Path, now: float) -> float:
    return now - _dropped_at(place)


def _size(place: Path) -> int:
    files = [place] if place.is_file() else [one for one in place.rglob("*") if one.is_file()]
    return sum(one.stat().st_size for one in files)


def _remove(place: Path, warehouse: Path) -> None:
    """A table goes at once, by its name; whoever dies while its files go leaves what is found half made the next time."""
    if place.is_file():
        place.unlink()
        return
    if place.parent != warehouse / NEW:
        gone = warehouse / NEW / f"gone-{uuid.uuid4().hex}"
        gone.parent.mkdir(exist_ok=True)
        place = place.rename(gone)
    shutil.rmtree(place)

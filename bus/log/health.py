"""The health of one table: how long its log is, how many small files it has, who is behind; read from the table alone."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from bus.log import contents
from bus.log.cleanup import FOLDER as REMOVED
from bus.log.consumers import Consumer, Consumers
from bus.log.snapshot import FOLDER as STATES

if TYPE_CHECKING:
    from bus.log.table import DeltaLog

#: A file below this size is small: reading it costs more than what is in it.
SMALL = 8 << 20
#: Entries a log should stay under; upkeep sees to it.
LONG_LOG = 2_000
#: Small files of one day, more than compaction ever leaves.
MANY_FILES = 1_000


@dataclass(frozen=True)
class Health:
    """Numbers for a person, a check or a metrics exporter. Versions are -1 where there is none.

    `entries` stand in the log, `since_checkpoint` of them above the newest checkpoint. `small` files are the most that
    one partition has. `waiting` files left the table and are not deleted yet.
    """

    table: str
    version: int
    checkpoint: int
    state: int
    entries: int
    since_checkpoint: int
    files: int
    small: int
    bytes: int
    rows: int
    waiting: int
    protocol: str
    consumers: tuple[Consumer, ...] = ()

    @property
    def slowest(self) -> Consumer | None:
        """Of those that are alive."""
        return next((one for one in self.consumers if not one.lost), None)

    @property
    def lag(self) -> int:
        """Versions that the slowest living consumer has not absorbed."""
        return 0 if self.slowest is None else max(0, self.version - self.slowest.version)

    @property
    def lost(self) -> tuple[Consumer, ...]:
        return tuple(one for one in self.consumers if one.lost)

    @property
    def troubles(self) -> list[str]:
        """What upkeep should have seen to, in words."""
        found = []
        if self.entries > LONG_LOG:
            found.append(f"{self.entries:,} log entries")
        if self.small > MANY_FILES:
            found.append(f"{self.small:,} small files in one day")
        return found

    def document(self) -> dict[str, Any]:
        slowest = None if self.slowest is None else self.slowest.name
        return asdict(self) | {"slowest": slowest, "lag": self.lag, "troubles": self.troubles}


def health(table: DeltaLog, consumers: Consumers | None = None) -> Health:
    """Raises LogMissing, or ForeignLog when the table is not what we write."""
    found = contents.load(table)
    versions = [name for name in table.store.names("_delta_log") if name.endswith(".json") and name[:20].isdigit()]
    small: dict[str, int] = {}
    for one in found.files.values():
        if one.size < SMALL:
            day = str(sorted(one.partition.items()))
            small[day] = small.get(day, 0) + 1
    states = [name for name in table.store.names(STATES) if name.startswith("state-") and name.endswith(".json")]
    return Health(
        table=table.schema.name,
        version=found.version,
        checkpoint=found.checkpoint,
        state=max((int(name[6:-5]) for name in states), default=-1),
        entries=len(versions),
        since_checkpoint=found.version - found.checkpoint,
        files=len(found.files),
        small=max(small.values(), default=0),
        bytes=sum(one.size for one in found.files.values()),
        rows=sum(max(one.rows, 0) for one in found.files.values()),
        waiting=len(table.store.names(REMOVED)),
        protocol=_protocol(found),
        consumers=tuple((consumers or Consumers(table)).all()),
    )


def _protocol(found: contents.Contents) -> str:
    features = ", ".join(found.protocol.get("writerFeatures") or ())
    return f"reader {found.protocol['minReaderVersion']}, writer {found.protocol['minWriterVersion']} ({features})"

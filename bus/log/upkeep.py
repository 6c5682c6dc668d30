"""Upkeep of one table: follow the log, compact, write checkpoint and state, clean up; safe while others append.

Every step can be cut off at any point: the next pass finds what was left and finishes it. Two upkeeps at once do no harm.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import structlog

from bus.errors import LogError, LogMissing
from bus.fold import State
from bus.log import cleanup, compaction, contents
from bus.log import rows as codec
from bus.log.cleanup import Cleaned
from bus.log.consumers import Consumers
from bus.log.entry import Added, Entry
from bus.log.follower import Accept, deciding
from schemas.envelope import Message

if TYPE_CHECKING:
    from bus.log.contents import Contents
    from bus.log.retention import Retained
    from bus.log.snapshot import Snapshots
    from bus.log.store import Location
    from bus.log.table import DeltaLog

log = structlog.get_logger(__name__)

#: Entries read at once; their rows are held until they are compacted.
BATCH = 500
#: Bytes of data files whose rows are held.
HELD = 64 << 20
KEPT_STATES = 2
#: Entries above a checkpoint that cost no reader anything.
FEW = 10


@dataclass(frozen=True)
class Limits:
    """`keep_s`: how long a file that left the table stays for readers that still hold it. `checkpoint_every`: entries, or
    `rows_every` messages in fewer entries, whichever is sooner: both cost whoever starts."""

    keep_s: float = 900.0
    checkpoint_every: int = 500
    rows_every: int = 20_000
    fan_out: int = compaction.FAN_OUT
    target: int = compaction.TARGET


@dataclass
class Done:
    """What one pass did."""

    table: str
    version: int = -1
    entries: int = 0
    compacted: int = 0
    into: int = 0
    checkpoint: int | None = None
    state: int | None = None
    held_by: str | None = None
    cleaned: Cleaned = field(default_factory=Cleaned)

    @property
    def changed(self) -> bool:
        return bool(self.into or self.checkpoint is not None or self.cleaned != Cleaned())

    def add(self, later: Done) -> None:
        """A later pass of the same table."""
        self.version, self.held_by = later.version, later.held_by
        self.checkpoint = self.checkpoint if later.checkpoint is None else later.checkpoint
        self.state = self.state if later.state is None else later.state
        self.entries += later.entries
        self.compacted += later.compacted
        self.into += later.into
        self.cleaned.add(later.cleaned)


class Folding:
    """The state of agent_messages, folded along so that it can be written beside a checkpoint. `heard`: told the valid rows."""

    def __init__(
        self, snapshots: Snapshots, accept: Accept, heard: Callable[[Sequence[Message]], None] = lambda _: None
    ) -> None:
        self._snapshots = snapshots
        self._accept = accept
        self._heard = heard
        self.state: State | None = None

    def begin(self, table: DeltaLog, oldest: int) -> None:
        """The newest written state, if the entries after it are there (from `oldest` on); else one made of all rows."""
        self.state = self._snapshots.newest()
        if self.state is None and oldest == 0:
            self.state = State()
        if self.state is None or self.state.version + 1 < oldest:
            found, version = table.scan()
            self.state = State()
            self.state.load(deciding(codec.from_arrow(found), self._accept))
            self.state.version = version

    def absorb(self, entry: Entry, rows: Sequence[Message]) -> None:
        assert self.state is not None
        if entry.version <= self.state.version:
            return
        valid = self.state.absorb(deciding(rows, self._accept)) if rows else []
        self.state.version = entry.version
        self._heard(valid)

    def write(self) -> int:
        assert self.state is not None
        return self._snapshots.write(self.state)

    def prune(self, table: DeltaLog) -> None:
        self._snapshots.prune(KEPT_STATES)
        cleanup.clean_states(table, self._snapshots.versions())


class Upkeep:
    """Keeps one table in shape; holds what it knows from pass to pass. `folding`: for agent_messages."""

    def __init__(
        self, table: DeltaLog, consumers: Consumers, limits: Limits | None = None, folding: Folding | None = None
    ) -> None:
        self.table = table
        self.consumers = consumers
        self.limits = limits or Limits()
        self._folding = folding
        self._contents: Contents | None = None
        self._held: dict[str, pa.Table | list[Mapping[str, Any]]] = {}
        self._misplaced: set[str] = set()
        #: Messages folded since the last checkpoint.
        self._rows = 0
        self._harmless: set[int] = set()
        self._orphans_looked_for = float("-inf")

    @property
    def state(self) -> State | None:
        """What is open, as of the last pass; None before the first, and where nothing is folded."""
        return None if self._folding is None else self._folding.state

    # --- one pass ------------------------------------------------------------------------------------------------------

    def due(self) -> int:
        """Entries that came since the last pass; the whole log before the first."""
        known = -1 if self._contents is None else self._contents.version
        return self.table.head(known) - known

    def run(self, force: bool = False) -> Done:
        """Catch up with the log and do what is due. `force`: a checkpoint even after few entries."""
        done = Done(self.table.schema.name)
        try:
            found = self._begun()
            while True:
                moved = self._follow(found, done)
                if found.version < 0:
                    raise LogMissing(f"no log at {self.table.uri}: run `tailrace init`")
                self._compact(found, done)
                behind = found.version - found.checkpoint
                last = moved < BATCH
                many = behind >= self.limits.checkpoint_every or self._rows >= self.limits.rows_every
                due = many or (last and force and behind >= FEW)
                if due:
                    self._checkpoint(found, done)
                if due or last:
                    # Also on the way: behind writers at full rate a pass has no end, and files must not wait for it.
                    self._clean_log(found, done)
                    self._clean_files(found, done)
                if last:
                    break
        except BaseException:
            # What is known may be half of a step: the next pass reads it again.
            self._contents = None
            raise
        done.version = found.version
        return done

    def retain(self, days: int, archive: Location | None, upto: int | None = None) -> Retained:
        """Move old days to the archive, None: to nowhere. `upto`: the version that every projection has come to."""
        from bus.log import retention

        self.run()
        return retention.retain(self.table, days, archive, state=self.state, upto=upto)

    def _begun(self) -> Contents:
        """What is known; read anew when the log was cleaned away above it."""
        found = self._contents
        if found is not None and (self.table.checkpoint_version() or -1) <= found.version:
            return found
        self._held.clear()
        self._harmless.clear()
        checkpoint = self.table.checkpoint_version()
        if self._folding is not None:
            self._folding.begin(self.table, self._oldest_entry())
        found = contents.load(self.table, upto_checkpoint=True)
        if self._folding is not None and self._folding.state is not None:
            self._fold_between(self._folding.state.version, found.version)
        log.info("upkeep.begun", table=self.table.uri, checkpoint=checkpoint)
        self._contents = found
        return found

    def _oldest_entry(self) -> int:
        """First of the entries that reach to the head without a gap."""
        names = self.table.store.names("_delta_log")
        versions = {int(name[:20]) for name in names if name.endswith(".json") and name[:20].isdigit()}
        oldest = max(versions, default=0)
        while oldest - 1 in versions:
            oldest -= 1
        return oldest

    def _fold_between(self, known: int, upto: int) -> None:
        """A state may have been written before the checkpoint that readers were pointed at."""
        assert self._folding is not None
        for version in range(known + 1, upto + 1):
            entry = self.table.entry(version)
            if entry is None:
                raise LogError(
                    f"{self.table.uri}: entry {version} is missing between the written state and the checkpoint"
                )
            self._folding.absorb(entry, codec.of_entry(self.table, entry))

    # --- steps ---------------------------------------------------------------------------------------------------------

    def _follow(self, found: Contents, done: Done) -> int:
        """Absorb at most BATCH entries; fewer when their rows would take too much memory. Says BATCH when there is more."""
        held = self._held_bytes()
        for moved in range(BATCH):
            entries = found.follow(self.table, 1)
            if not entries:
                return moved
            entry = entries[0]
            done.entries += 1
            if not entry.removed:
                self._harmless.add(entry.version)
            if self._folding is not None:
                held += self._absorb(entry)
            if held > HELD:
                return BATCH
        return BATCH

    def _absorb(self, entry: Entry) -> int:
        """Fold it; returns the bytes that are now held for compaction."""
        assert self._folding is not None
        self._rows += sum(one.rows for one in entry.added)
        raws = compaction.raw_rows(entry)
        if raws is not None:
            self._folding.absorb(entry, codec.of_entry(self.table, entry))
            self._held[entry.added[0].path] = raws
            return _size(raws)
        parts = [self.table.read_file(one) for one in entry.added]
        rows = pa.concat_tables(parts) if parts else self.table.schema.arrow.empty_table()
        self._folding.absorb(entry, codec.from_arrow(rows, entry.version))
        if len(parts) == 1:
            (one,) = entry.added
            self._held[one.path] = rows
            if not compaction.is_placed(rows, entry.version):
                self._misplaced.add(one.path)
        return rows.nbytes

    def _compact(self, found: Contents, done: Done) -> None:
        today = self.table.now().date().isoformat()
        groups = compaction.plan(found.files.values(), today, self.limits.fan_out, self.limits.target)
        planned = {one.path for group in groups for one in group}
        # Its place is known from its entry alone, which will be cleaned away.
        groups += [[found.files[path]] for path in sorted(self._misplaced - planned) if path in found.files]
        for group in groups:
            merged = compaction.merge(self.table, group, partial(self._known, found))
            compaction.check_rows(group, [merged])
            try:
                version = compaction.commit(self.table, found, group, [merged])
            except compaction.Overtaken as error:
                # Another upkeep works here too. Its work is as good as ours; ours was not seen by anybody.
                log.info("upkeep.overtaken", table=self.table.uri, reason=str(error))
                self.table.store.delete(merged.file)
                if not self._give_way(found, group, done):
                    raise
                return
            done.compacted += len(group)
            done.into += 1
            while found.version < version:
                self._follow(found, done)
        self._misplaced.clear()
        self._held = {path: rows for path, rows in self._held.items() if path in found.files}
        if self._held_bytes() > HELD:
            self._held.clear()  # large files do not wait for company in memory

    def _known(self, found: Contents, path: str) -> pa.Table | list[Mapping[str, Any]] | None:
        """The rows of a file without reading it: held, or from its entry while that is there, at a tenth of the price. Whoever
        has fallen behind holds no longer what it read, and would never catch up if each file cost it a millisecond."""
        if (held := self._held.get(path)) is not None:
            return held
        file = found.files.get(path)
        span = None if file is None or path in self._misplaced else file.span
        if span is None or span[0] != span[1]:
            return None
        entry = self.table.entry(span[0])
        if entry is None or [one.path for one in entry.added] != [path]:
            return None
        return compaction.raw_rows(entry)

    def _give_way(self, found: Contents, group: Sequence[Added], done: Done) -> bool:
        """Read on to the entry that took one of these files. It may be far above the last one read, and its writer dead: whoever
        began again below it would come to the same place for ever. False: no entry says so, it was cleaned away."""
        while all(one.path in found.files for one in group):
            self._held.clear()
            if not self._follow(found, done):
                return False
        return True

    def _held_bytes(self) -> int:
        return sum(map(_size, self._held.values()))

    def _checkpoint(self, found: Contents, done: Done) -> None:
        """The state first: once readers are pointed at the checkpoint, nothing below it is sure to be there."""
        if self._folding is not None:
            done.state = self._folding.write()
        found.write_checkpoint(self.table)
        self._rows = 0
        done.checkpoint = found.version
        if self._folding is not None:
            self._folding.prune(self.table)

    def _clean_log(self, found: Contents, done: Done) -> None:
        floor = cleanup.kept_checkpoint(self.table, found.checkpoint)
        slowest = self.consumers.slowest()
        if slowest is not None and slowest.version < floor:
            floor, done.held_by = slowest.version, slowest.name
        if floor > 0:
            cleanup.clean_log(self.table, floor, done.cleaned, self._harmless)
            self._harmless = {version for version in self._harmless if version >= floor}

    def _clean_files(self, found: Contents, done: Done) -> None:
        cleanup.vacuum(self.table, found.files.keys(), self.limits.keep_s, done.cleaned)
        now = self.table.now().timestamp()
        if abs(now - self._orphans_looked_for) > 3600:
            cleanup.delete_orphans(self.table, done.cleaned)
            self.consumers.bury()
            self._orphans_looked_for = now


def _size(rows: pa.Table | list[Mapping[str, Any]]) -> int:
    """Bytes in memory, roughly."""
    return sum(1_000 + len(row.get("content") or "") for row in rows) if isinstance(rows, list) else rows.nbytes

"""Following the log: from the newest written state, or from all of it, to the head, and over gaps that clean-up left."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby

import structlog

from bus.fold import State, is_binding
from bus.log import rows as codec
from bus.log.snapshot import Snapshots
from bus.log.table import DeltaLog
from schemas.envelope import Message

log = structlog.get_logger(__name__)

#: Whether a row's signature holds.
Accept = Callable[[Message], bool]
#: Told of each commit as it is folded: its version and its valid rows.
Told = Callable[[int, list[Message]], None]

#: Entries read one by one; more of them are read by one scan of the table.
STEPS = 1_000


def accept_all(_: Message) -> bool:
    """For tables without signatures."""
    return True


def tell_nobody(_: int, __: list[Message]) -> None:
    return


def deciding(rows: Iterable[Message], accept: Accept) -> list[Message]:
    """Without the binding rows that are not signed by whom they name: to the fold they never were."""
    return [row for row in rows if not is_binding(row) or accept(row)]


class Follower:
    """A state and its place in the log. Not safe for several threads: whoever owns it has a lock.

    `accept`: whether a row's signature holds; a binding row that nobody signed must not decide anything.
    `follow_only`: starts at the head without the past, for clients that need no open set; while nobody listens
    (`is_heard`), it does not look at rows at all.
    """

    def __init__(
        self,
        table: DeltaLog,
        *,
        state: State | None = None,
        snapshots: Snapshots | None = None,
        follow_only: bool = False,
        accept: Accept = accept_all,
        is_heard: Callable[[], bool] = lambda: True,
    ) -> None:
        self.table = table
        self._accept = accept
        self._is_heard = is_heard
        self.state = state or State(partial=follow_only)
        if follow_only:
            self.head = table.head()
            self.state.version = self.head
            return
        written = snapshots.newest(upto=table.head()) if snapshots else None
        if written is None:
            self.head = self._load()
            return
        for agent, kinds in self.state.subscriptions.items():
            written.subscribe(agent, kinds)
        self.state, self.head = written, written.version
        self.advance()

    def advance(self, told: Told = tell_nobody) -> int:
        """Fold whatever is in the log now; returns the version reached."""
        if self.is_overtaken() or self.table.exists(self.head + STEPS):
            self._leap(told)
        while (entry := self.table.entry(self.head + 1)) is not None:
            if self.state.partial and not self._is_heard():
                self.head = self.state.version = entry.version  # a producer does not read what others commit
                continue
            rows = codec.of_entry(self.table, entry)
            self.fold(entry.version, deciding(rows, self._accept), told)
        return self.head

    def fold(self, version: int, messages: Sequence[Message], told: Told = tell_nobody) -> None:
        """The rows of one commit, in order."""
        valid = self.state.absorb(messages)
        self.head = self.state.version = version
        told(version, valid)

    def is_overtaken(self) -> bool:
        """Whether our place in the log was cleaned away. An entry after a missing one is nothing to follow: it can only be
        there because somebody who slept "won" a version of the past."""
        return not self.table.exists(self.head) and (self.table.checkpoint_version() or -1) > self.head

    def _load(self) -> int:
        found, version = self.table.scan()
        rows = codec.from_arrow(found)
        if not codec.well_placed(rows, version) and self.table.exists(0):
            # A foreign writer's rows say nothing true about their place, and the table does not know it: the entries do.
            rows = []
            for entry, part in self.table.follow(-1):
                rows += codec.from_arrow(part, entry.version)
                version = entry.version
        self.state.load(deciding(rows, self._accept))
        self.state.version = version
        return version

    def _leap(self, told: Told) -> None:
        """To the living log: what came since is read from the table itself."""
        from pyarrow import compute as pc

        found, version = self.table.scan(filters=pc.field("log_version") > self.head)
        rows = codec.from_arrow(found)
        if not codec.well_placed(rows, version) and self.table.exists(self.head + 1):
            return  # as above: step by step then
        log.info("bus.leapt", was_at=self.head, now_at=version)
        for number, commit in groupby(deciding(rows, self._accept), key=lambda row: row.log_version):
            self.fold(number, list(commit), told)
        self.head = self.state.version = version

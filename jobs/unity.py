"""What is wired otherwise where agent_messages is in Unity Catalog: the bus over Spark, its views, its written states."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from bus import views
from bus.audit import AuditChain
from bus.base import Feed
from bus.errors import LogError, LogMissing, UnfitStore
from bus.fold import State
from bus.keys import Signer
from bus.log.follower import Accept
from bus.log.retention import Retained
from bus.log.seal import SigningSeal
from bus.log.snapshot import Snapshots
from bus.log.store import Location
from bus.log.upkeep import KEPT_STATES, Done
from bus.streaming import client
from bus.streaming.feed import ChangeFeed
from bus.streaming.spark_bus import SparkBus, absorb_news
from bus.streaming.spark_log import SparkLog, SparkPast
from bus.streaming.spark_table import SparkTable
from jobs.agents import Agent
from schemas.envelope import USER, Message
from schemas.tables import AGENT_MESSAGES

if TYPE_CHECKING:
    from jobs.bootstrap import System

#: A renewal is an append through Spark: it must cost little beside the work.
LEASE_S = 60.0
#: Commits after which the state is written down again: whoever starts reads so many at most.
EVERY = 200


class Unity:
    """Of one system. Nothing is opened before it is asked for; `table` stands in for the one in the catalogue."""

    def __init__(self, system: System, table: Callable[[], SparkTable] | None = None) -> None:
        self._system = system
        self._table = table or (lambda: client.messages_table(system.home))

    @property
    def lease_s(self) -> float:
        return max(self._system.settings.lease_s, LEASE_S)

    @cached_property
    def table(self) -> SparkTable:
        """To read and to ask. Every bus has a session of its own."""
        return self._table()

    @cached_property
    def log(self) -> SparkLog:
        return client.messages_log(self._system.home, self.table)

    @property
    def past(self) -> SparkPast:
        return SparkPast(self.log)

    @property
    def exists(self) -> bool:
        """Whether there is a log already. An empty table, made for us by who may make one, is none."""
        try:
            self.table.check()
        except LogMissing:
            return False
        return bool(self.log.scan(["message_id"])[0].num_rows)

    def check(self) -> str:
        """The table's id. Raises LogMissing naming what makes it."""
        try:
            return self.table.check()
        except LogMissing as error:
            raise LogMissing(f"{error}; `tailrace init` makes it, once, where a Spark is at hand") from error

    def create(self, say: Callable[[str], None]) -> None:
        """The table and the views beside it. What is there is kept; views of another release are replaced. Raises ForeignLog."""
        say(f"table {self.table.name}")
        self.table.create()
        self.noted_id.parent.mkdir(parents=True, exist_ok=True)
        self.noted_id.write_text(self.table.check())
        schema = self.table.name.rpartition(".")[0]
        statements = list(views.statements("spark", "spark", schema, views.ALL))
        # They stand on each other, and Spark looks through all of it for each: minutes, so not a second time for nothing.
        made = self._system.home.beside / f"views-{hashlib.sha256(repr(statements).encode()).hexdigest()[:16]}"
        if made.exists():
            return
        for name, statement in zip(views.ALL, statements, strict=True):
            say(f"view {name}")
            self.table.run(statement)
        made.touch()

    @property
    def noted_id(self) -> Path:
        """The table's id, for whoever signs without asking Spark."""
        return self._system.home.beside / "table-id"

    # --- hosts -------------------------------------------------------------------------------------------------------

    def bus(self, agents: Sequence[Agent]) -> SparkBus:
        """Signs for these agents and nobody else; begins with the newest written state."""
        system = self._system
        table = self._table()
        table_id = self.check()
        names = [agent.name for agent in agents]
        signer = Signer.load(system.home.keys, names, table_id, system.settings.env)
        chain = AuditChain(f"{agents[0].host}-{uuid.uuid4().hex[:8]}")
        return SparkBus(
            table,
            seal=SigningSeal(signer, chain, system.redactor),
            snapshots=system.snapshots(self.log, table_id),
            linger_ms=system.settings.linger_ms,
            accept=system.accept(table_id, names),
        )

    def bus_of_user(self, user: str) -> SparkBus:
        """Signs for one person, and knows nothing of the past."""
        system = self._system
        table_id = self.check()
        signer = Signer.load(system.home.keys, [USER + user], table_id, system.settings.env)
        seal = SigningSeal(signer, AuditChain(f"client-{uuid.uuid4().hex[:8]}"), system.redactor)
        return SparkBus(self._table(), seal=seal, follow_only=True, accept=system.accept(table_id))

    def follower(self) -> SparkBus:
        """Reads and folds everything, and signs for nobody."""
        table_id = self.check()
        snapshots = self._system.snapshots(self.log, table_id)
        return SparkBus(self._table(), snapshots=snapshots, accept=self._system.accept(table_id))

    def stream(self, bus: SparkBus) -> Feed:
        checkpoints = self._system.home.checkpoints / f"host-{os.getpid()}"
        return ChangeFeed(bus, bus.table, checkpoints)

    def check_engine(self, engine: str) -> None:
        """Raises UnfitStore for Structured Streaming from afar."""
        if engine != "tail" and client.is_remote(self.table.spark):
            raise UnfitStore(
                "Structured Streaming hands its rows to code beside the data, and this Spark is a remote one; "
                "use --engine tail (or TAILRACE_ENGINE=tail), or run the host on the cluster itself"
            )

    def valid_above(self, version: int) -> list[Message]:
        """Rows that count, of all above a version: folded from the newest state that was written before it."""
        table_id = self.check()
        state = self._system.snapshots(self.log, table_id).newest(upto=version) or State()
        rows: list[Message] = []
        absorb_news(self.table, state, self._system.accept(table_id), rows.extend)
        return rows

    def upkeep(self, heard: Callable[[Sequence[Message]], None]) -> StateKeeping:
        """Raises MissingKey when this process cannot vouch for what it writes."""
        system = self._system
        table_id = self.check()
        snapshots = system.snapshots(self.log, table_id, writes=True)
        return StateKeeping(self.table, snapshots, system.accept(table_id), heard)


class StateKeeping:
    """Upkeep of a table that Spark keeps in shape itself: what is open is written down, so that a start reads little.

    `heard`: told the rows that came.
    """

    def __init__(
        self, table: SparkTable, snapshots: Snapshots, accept: Accept, heard: Callable[[Sequence[Message]], None]
    ) -> None:
        self._table = table
        self._snapshots = snapshots
        self._accept = accept
        self._heard = heard
        self._written = -1
        #: As of the last pass.
        self.state: State | None = None

    def due(self) -> int:
        """Nothing is so urgent that Spark should be asked for it several times a second: a pass comes when it is time."""
        return 0

    def run(self, force: bool = False) -> Done:
        """Fold what came, and write the state down when that is worth it. `force`: for few commits too."""
        done = Done(AGENT_MESSAGES.name)
        if self.state is None:
            written = self._snapshots.newest()
            self.state, self._written = written or State(), -1 if written is None else written.version
        known = self.state.version
        done.version = absorb_news(self._table, self.state, self._accept, self._heard)
        done.entries = max(done.version - max(known, 0), 0)
        if self.state.version - self._written >= (1 if force else EVERY):
            done.state = self._written = self._snapshots.write(self.state)
            self._snapshots.prune(KEPT_STATES)
        return done

    def retain(self, days: int, archive: Location | None, upto: int | None = None) -> Retained:
        raise LogError("rows of a table in Unity Catalog stay: it is append-only, and no place of ours to take from")

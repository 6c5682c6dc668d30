"""What is wired otherwise where agent_messages is in Unity Catalog: the bus over Spark, its views, its written states."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from bus import views
from bus.audit import AuditChain
from bus.base import Feed
from bus.errors import LogMissing, UnfitStore
from bus.fold import State
from bus.keys import Signer
from bus.log.seal import SigningSeal
from bus.streaming.client import is_remote, messages_log, messages_table
from bus.streaming.feed import ChangeFeed
from bus.streaming.spark_bus import SparkBus, absorb_news
from bus.streaming.spark_log import SparkLog, SparkPast
from bus.streaming.spark_table import SparkTable
from jobs.agents import Agent

if TYPE_CHECKING:
    from jobs.bootstrap import System

#: A renewal is an append through Spark: it must cost little beside the work.
LEASE_S = 60.0
#: Written states that are kept.
KEPT_STATES = 2


@dataclass(frozen=True)
class Written:
    """The state that upkeep wrote: hosts start from `version`, having read `commits` less."""

    version: int
    open: int
    new: bool


class Unity:
    """Of one system. Nothing is opened before it is asked for; `table` stands in for the one in the catalogue."""

    def __init__(self, system: System, table: Callable[[], SparkTable] | None = None) -> None:
        self._system = system
        self._table = table or (lambda: messages_table(system.home))

    @property
    def lease_s(self) -> float:
        return max(self._system.settings.lease_s, LEASE_S)

    @cached_property
    def table(self) -> SparkTable:
        """To read and to ask. Every bus has a session of its own."""
        return self._table()

    @cached_property
    def log(self) -> SparkLog:
        return messages_log(self._system.home, self.table)

    @property
    def past(self) -> SparkPast:
        return SparkPast(self.log)

    def check(self) -> str:
        """The table's id. Raises LogMissing naming what makes it."""
        try:
            return self.table.check()
        except LogMissing as error:
            raise LogMissing(f"{error}; `tailrace init` makes it, once, where a Spark is at hand") from error

    def create(self, say: Callable[[str], None]) -> None:
        """The table and the views beside it. What is there is kept; views are replaced. Raises ForeignLog."""
        say(f"table {self.table.name}")
        self.table.create()
        schema = self.table.name.rpartition(".")[0]
        for name, statement in zip(views.ALL, self._views(schema), strict=True):
            say(f"view {name}")
            self.table.run(statement)

    def _views(self, schema: str) -> Sequence[str]:
        return list(views.statements("spark", "spark", schema, views.ALL))

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
        if engine != "tail" and is_remote(self.table.spark):
            raise UnfitStore(
                "Structured Streaming hands its rows to code beside the data, and this Spark is a remote one; "
                "use --engine tail (or TAILRACE_ENGINE=tail), or run the host on the cluster itself"
            )

    # --- upkeep ------------------------------------------------------------------------------------------------------

    def write_state(self) -> Written:
        """Write down what is open, so that a start reads what came after it. Raises MissingKey without upkeep's key."""
        system = self._system
        table_id = self.check()
        snapshots = system.snapshots(self.log, table_id, writes=True)
        state = snapshots.newest() or State()
        known = state.version
        absorb_news(self.table, state, system.accept(table_id))
        if state.version > known:
            snapshots.write(state)
            snapshots.prune(KEPT_STATES)
        return Written(state.version, len(state.open), state.version > known)

"""Metrics for Prometheus, served by the upkeep: how healthy the tables are, what waits, and what every host handles.

One place for all hosts, wherever they run: what was handled is counted from the receipts that upkeep folds anyway, so that only
those that count are counted. Nothing is computed while nobody asks.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter as Counting
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import structlog
from prometheus_client import CollectorRegistry, Counter, Histogram, start_http_server
from prometheus_client.core import GaugeMetricFamily, Metric

from bus.errors import BusError, LogError, LogMissing
from bus.log.health import Health, health
from jobs.redrive import dead_messages
from schemas.envelope import Message
from schemas.tables import AGENT_MESSAGES, TABLES
from workers.runtime.clock import micros

if TYPE_CHECKING:
    from bus.fold import State
    from jobs.bootstrap import System

log = structlog.get_logger(__name__)

#: Seconds that what was read from the tables is good for.
FRESH_S = 5.0
#: Seconds between two counts of the dead, which read every receipt.
COUNT_AGAIN_S = 60.0
#: Agents with series of their own. Anybody may send to any name, and each new name would be a series for ever.
AGENTS = 200
OTHERS = "(others)"
OUTCOMES = ("handled", "dead", "rejected", "expired")
#: Bounds of the handling times in seconds: from an agent that computes nothing to one that asks a model.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)

#: Gauges of one table: name -> what it says, and how it is got.
OF_TABLES: Mapping[str, tuple[str, Callable[[Health], float]]] = {
    "tailrace_small_files": ("Small files of the day that has most of them.", lambda one: one.small),
    "tailrace_files": ("Data files.", lambda one: one.files),
    "tailrace_table_bytes": ("Bytes of the data files.", lambda one: one.bytes),
    "tailrace_table_rows": ("Rows.", lambda one: one.rows),
    "tailrace_log_entries": ("Entries that stand in the log.", lambda one: one.entries),
    "tailrace_log_entries_since_checkpoint": ("Entries above the newest checkpoint.", lambda one: one.since_checkpoint),
    "tailrace_consumers": ("Who follows the log and is alive.", lambda one: len(one.consumers) - len(one.lost)),
    "tailrace_lost_consumers": ("Who followed the log and has been silent too long.", lambda one: len(one.lost)),
    "tailrace_slowest_consumer_lag_versions": (
        "Versions that the slowest living consumer has not absorbed.",
        lambda one: one.lag,
    ),
}


class Metrics:
    """A registry of its own. `heard` is told what upkeep folds; `state` says what is open, once that is known."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._lock = threading.Lock()
        self._healths: tuple[float, dict[str, Health | None]] = (float("-inf"), {})
        self._dead: Counting[str] = Counting()
        self._counted_at = float("-inf")
        self._count_again = True
        self._counting: threading.Thread | None = None
        self.state: Callable[[], State | None] = lambda: None
        #: What is in the log already was counted by whoever was here before.
        self._since = system.log(AGENT_MESSAGES.name).head()
        self.registry = CollectorRegistry()
        self._handled = Counter(
            "tailrace_messages_handled",
            "Messages with a counting receipt, by what it says.",
            ("agent", "outcome"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "tailrace_handling_seconds", "How long handling took.", ("agent",), registry=self.registry, buckets=BUCKETS
        )
        self._failures = Counter(
            "tailrace_upkeep_failures", "Passes of upkeep that failed.", ("table",), registry=self.registry
        )
        self._names: set[str] = set()
        self.registry.register(self)

    # --- told ----------------------------------------------------------------------------------------------------------

    def heard(self, rows: Sequence[Message]) -> None:
        """Valid rows, as upkeep folds them."""
        for row in rows:
            if row.log_version <= self._since:
                continue
            if row.message_type == "receipt":
                self._count(row)
            elif row.attempt > 1:
                self._count_again = True

    def _count(self, receipt: Message) -> None:
        try:
            said = json.loads(receipt.content)
            outcome, seconds = said["outcome"], float(said.get("handled_ms", 0.0)) / 1000
        except (ValueError, TypeError, KeyError, RecursionError):
            outcome, seconds = "", 0.0
        agent = self._name(receipt.from_agent)
        self._handled.labels(agent, outcome if outcome in OUTCOMES else OTHERS).inc()
        self._seconds.labels(agent).observe(seconds)
        if outcome != "handled":
            self._count_again = True

    def failed(self, tables: Iterable[str]) -> None:
        for table in tables:
            self._failures.labels(table).inc()

    def _name(self, agent: str) -> str:
        if len(self._names) < AGENTS:
            self._names.add(agent)
        return agent if agent in self._names else OTHERS

    # --- asked ---------------------------------------------------------------------------------------------------------

    def describe(self) -> Iterable[Metric]:
        """Nothing, so that registering reads no table."""
        return ()

    def collect(self) -> Iterable[Metric]:
        with self._lock:
            return [*self._of_tables(), *self._of_agents()]

    def _of_tables(self) -> Iterator[Metric]:
        at, found = self._healths
        if time.monotonic() - at > FRESH_S:
            found = self._look()
            self._healths = (time.monotonic(), found)
        protocol = GaugeMetricFamily("tailrace_protocol_ok", "1: the table is what we write.", labels=["table"])
        gauges = {name: GaugeMetricFamily(name, words, labels=["table"]) for name, (words, _) in OF_TABLES.items()}
        for table, one in found.items():
            protocol.add_metric([table], 0 if one is None else 1)
            if one is not None:
                for name, (_, value) in OF_TABLES.items():
                    gauges[name].add_metric([table], value(one))
        yield protocol
        yield from gauges.values()

    def _look(self) -> dict[str, Health | None]:
        """None: a table that is not what we write. One that cannot be read now is not in it."""
        found: dict[str, Health | None] = {}
        for name in TABLES:
            try:
                table = self._system.log(name)
                found[name] = health(table, self._system.consumers(table))
            except LogMissing:
                continue  # the home is older than this table
            except LogError as error:
                log.warning("metrics.foreign", table=name, error=str(error))
                found[name] = None
            except OSError as error:
                log.warning("metrics.unreadable", table=name, error=str(error))
        return found

    def _of_agents(self) -> Iterator[Metric]:
        waiting = GaugeMetricFamily("tailrace_open_messages", "Messages that wait for an agent.", labels=["agent"])
        oldest = GaugeMetricFamily(
            "tailrace_oldest_open_message_seconds",
            "Age of the oldest of them, from when it was due.",
            labels=["agent"],
        )
        state = self.state()
        if state is not None:
            now = micros(self._system.clock.now())
            for agent, (count, since) in self._waiting(state).items():
                waiting.add_metric([agent], count)
                oldest.add_metric([agent], max(0.0, (now - since) / 1e6))
        dead = GaugeMetricFamily(
            "tailrace_dead_messages", "Messages that were given up and not redriven.", labels=["agent"]
        )
        for agent, count in self._dead_by_agent().items():
            dead.add_metric([agent], count)
        yield from (waiting, oldest, dead)

    def _waiting(self, state: State) -> dict[str, tuple[int, int]]:
        """Agent -> how many messages wait for it, and since when the oldest was due."""
        found: dict[str, tuple[int, int]] = {}
        for agent in state.waiting():
            rows = state.open_for(agent)  # of the thread that folds: it may have settled them by now
            due = min(
                (max(row.timestamp, row.not_before or 0) for row in rows), default=micros(self._system.clock.now())
            )
            name = self._name(agent)
            count, since = found.get(name, (0, due))
            found[name] = (count + len(rows), min(since, due))
        return found

    def _dead_by_agent(self) -> Counting[str]:
        """As they were counted last; counting reads every receipt, and nobody who asks waits for that."""
        if self._count_again and time.monotonic() - self._counted_at > COUNT_AGAIN_S and self._counting is None:
            self._counting = threading.Thread(target=self.count_dead, name="count-dead")
            self._counting.start()
        return self._dead

    def count_dead(self) -> None:
        self._count_again = False
        try:
            found = dead_messages(self._system)
            self._dead = Counting(self._name(one.agent) for one in found if one.redriven_as is None)
        except (BusError, OSError) as error:
            log.warning("metrics.cannot_count_the_dead", error=str(error))
            self._count_again = True
        finally:
            self._counted_at = time.monotonic()
            self._counting = None

    def close(self) -> None:
        """Wait for what is under way."""
        if (counting := self._counting) is not None:
            counting.join()


class CannotServe(OSError):
    """Nothing can listen at this address and port."""


@contextmanager
def served(metrics: Metrics, address: str, port: int) -> Iterator[int]:
    """Over HTTP, at any path, for as long as the block lasts; yields the port. Raises CannotServe."""
    try:
        server, thread = start_http_server(port, address, metrics.registry)
    except OSError as error:
        raise CannotServe(f"metrics cannot be served at {address}:{port}: {error.strerror or error}") from error
    log.info("metrics.served", address=address, port=server.server_port)
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        metrics.close()

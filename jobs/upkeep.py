"""Upkeep as a job: one pass over every table of the bus, or pass after pass while the hosts run. `python -m jobs.upkeep`."""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from bus.errors import BusError
from bus.home import Home
from bus.log.compaction import Overtaken
from bus.log.contents import load
from bus.log.retention import Retained
from bus.log.store import Location
from bus.log.upkeep import Done, Upkeep
from bus.projections.tables import PROJECTIONS
from config.settings import Settings
from jobs import logging
from jobs.bootstrap import System
from jobs.leftovers import remove_leftovers
from jobs.scheduler import JobScheduler
from schemas.tables import AGENT_EVENTS, AGENT_MESSAGES, AUDIT_LOG, TABLES
from workers.adapters.sandbox.leftovers import Removed

if TYPE_CHECKING:
    from jobs.metrics import Metrics

log = structlog.get_logger(__name__)

#: Seconds between two looks whether something came.
LOOK_S = 0.5
#: Seconds until a process looks again whether the upkeep is its turn.
TURN_S = 5.0
#: Seconds between two looks whether a day has grown old.
RETAIN_S = 3600.0
#: Tables that days leave. Approvals and executions stay: agents look up in them what is published.
RETAINED = (AGENT_MESSAGES.name, AGENT_EVENTS.name, AUDIT_LOG.name)
#: Where a pass says that it could not look after what executions left.
LEFTOVERS = "leftovers"
#: Entries after which a pass does not wait for its time.
BUSY = 400


class UpkeepRunning(RuntimeError):
    """Another process keeps the tables of this home in shape."""


@dataclass
class Pass:
    """What one pass over all tables did, and which tables it could not do."""

    done: list[Done] = field(default_factory=list)
    retained: list[Retained] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    tidied: bool = False
    #: What executions had left below the warehouse, and nothing referred to any more.
    removed: list[Removed] = field(default_factory=list)

    @property
    def worked(self) -> bool:
        """Whether anything was changed, or should have been."""
        return (
            bool(self.failed)
            or any(one.changed for one in self.done)
            or any(one.days for one in self.retained)
            or bool(self.removed)
        )

    def document(self) -> dict[str, Any]:
        tables = [asdict(one) for one in self.done]
        return {
            "ok": not self.failed,
            "tables": tables,
            "retained": [asdict(one) for one in self.retained],
            "leftovers": {
                "removed": [place for one in self.removed for place in one.places],
                "bytes": sum(one.bytes for one in self.removed),
            },
            "failed": self.failed,
            "seconds": round(self.seconds, 3),
        }

    def add(self, other: Pass) -> None:
        """Another pass of the same tables: counts add up, places are the newest."""
        for one in other.done:
            known = next((mine for mine in self.done if mine.table == one.table), None)
            if known is None:
                self.done.append(one)
            else:
                known.add(one)
            self.failed.pop(one.table, None)
        self.retained += other.retained
        self.removed += other.removed
        if other.tidied:
            self.failed.pop(LEFTOVERS, None)
        self.failed |= other.failed
        self.seconds += other.seconds


class Tables:
    """The upkeep of every table of a home, each with what it knows from pass to pass."""

    def __init__(self, system: System, metrics: Metrics | None = None) -> None:
        self._system = system
        self._metrics = metrics
        self._interval = system.settings.upkeep_interval_s
        self._upkeeps: dict[str, Upkeep] = {}
        self._looked: dict[str, float] = {}

    def run(self, say: Callable[[str], None] = lambda _: None) -> Pass:
        """One pass over all of them, whatever there is to do."""
        began = time.monotonic()
        done = Pass()
        for name in TABLES:
            say(name)
            self._one(name, done, force=True)
        self.tidy(done)
        done.seconds = time.monotonic() - began
        return done

    def retain(self, days: int, archive: Location | None, done: Pass) -> None:
        """Move days older than these to the archive; None discards them. After a pass, so that all is compacted."""
        try:
            upto = self._projected()
        except (BusError, OSError) as error:
            done.failed["projections"] = str(error)
            return
        for name in RETAINED:
            try:
                found = self._upkeep(name).retain(days, archive, upto if name == AGENT_MESSAGES.name else None)
                done.retained.append(found)
            except (BusError, OSError, Overtaken) as error:
                log.warning("upkeep.cannot_retain", table=name, error=str(error))
                done.failed[name] = f"nothing was removed: {error or type(error).__name__}"

    def tidy(self, done: Pass) -> None:
        """Remove what executions left below the warehouse and nothing refers to any more, once it is a day old."""
        try:
            found = remove_leftovers(self._system)
        except (BusError, OSError) as error:
            log.warning("upkeep.cannot_tidy", error=str(error))
            done.failed[LEFTOVERS] = f"not all was removed: {error or type(error).__name__}"
            return
        except Exception as error:
            log.exception("upkeep.broke", table=LEFTOVERS)
            done.failed[LEFTOVERS] = f"{type(error).__name__}: {error}"
            return
        done.tidied = True
        if found.places:
            log.info("upkeep.tidied", places=found.places, bytes=found.bytes)
            done.removed.append(found)

    def _projected(self) -> int:
        """The version of agent_messages that every projection has come to."""
        tables = [self._system.log(schema.name) for schema, _ in PROJECTIONS]
        return min(load(table).txns.get(f"projector:{table.schema.name}", -1) for table in tables)

    def run_due(self) -> Pass:
        """Those tables only for which enough came, or for which it is time."""
        began = time.monotonic()
        done = Pass()
        for name in TABLES:
            waited = time.monotonic() - self._looked.get(name, float("-inf"))
            try:
                due = self._upkeep(name).due()
            except (BusError, OSError):
                due = 0  # a pass will say why, when it is time for one
            if due >= BUSY or waited >= self._interval:
                self._one(name, done, force=False)
        done.seconds = time.monotonic() - began
        return done

    def _one(self, name: str, done: Pass, force: bool) -> None:
        self._looked[name] = time.monotonic()
        try:
            done.done.append(self._upkeep(name).run(force=force))
        except (BusError, OSError, Overtaken) as error:
            log.warning("upkeep.failed", table=name, error=str(error) or type(error).__name__)
            done.failed[name] = str(error) or type(error).__name__
        except Exception as error:
            # Whatever it is: the other tables are kept in shape, and the hosts beside this process go on.
            log.exception("upkeep.broke", table=name)
            done.failed[name] = f"{type(error).__name__}: {error}"

    def _upkeep(self, name: str) -> Upkeep:
        if name not in self._upkeeps:
            metrics = self._metrics
            if metrics is None or name != AGENT_MESSAGES.name:
                self._upkeeps[name] = self._system.upkeep(name)
            else:
                made = self._upkeeps[name] = self._system.upkeep(name, metrics.heard)
                metrics.state = lambda: made.state
        return self._upkeeps[name]


def watch(
    system: System,
    stop: threading.Event,
    told: Callable[[Pass], None] = lambda _: None,
    retention: tuple[int, Location | None] | None = None,
    metrics: Metrics | None = None,
) -> None:
    """Pass after pass until `stop`: as often as it is worth it, and at least every `upkeep_interval_s`.

    `retention`: days that are kept, and the archive of the others, which is looked after once an hour.
    """
    tables = Tables(system, metrics)
    retained = float("-inf")
    while not stop.is_set():
        done = tables.run_due()
        if time.monotonic() - retained > RETAIN_S:
            retained = time.monotonic()
            if retention is not None:
                tables.retain(*retention, done)
            tables.tidy(done)
        if metrics is not None:
            metrics.failed(done.failed)
        if done.done or done.failed or done.removed:
            told(done)
        stop.wait(LOOK_S)


@contextmanager
def metrics_served(system: System) -> Iterator[Metrics | None]:
    """What the settings say: metrics at `metrics_port`, or none. Raises CannotServe."""
    settings = system.settings
    if settings.metrics_port is None:
        yield None
        return
    # Not before it is wanted: a pass without metrics has no use for what serves them.
    from jobs.metrics import Metrics, served

    metrics = Metrics(system)
    with served(metrics, settings.metrics_address, settings.metrics_port):
        yield metrics


def retention(settings: Settings) -> tuple[int, Location | None] | None:
    """What the settings say. Without an archive nothing leaves: only a person discards, by a command."""
    if settings.retain_days is None or settings.archive is None:
        return None
    return settings.retain_days, place(settings.archive)


def place(archive: str) -> Location:
    return archive if "://" in archive else Path(archive).absolute()


@contextmanager
def alone(home: Home) -> Iterator[None]:
    """One upkeep a home and machine. Two would do no harm, but work for nothing. Raises UpkeepRunning."""
    home.run.mkdir(parents=True, exist_ok=True)
    with open(home.run / "upkeep.lock", "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise UpkeepRunning(f"upkeep runs already in this home, process {file.read() or 'unknown'}") from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)


def main(arguments: Sequence[str] | None = None) -> None:
    """Upkeep at its own pace, and the jobs of this home by the clock, until SIGTERM.

    The upkeep is no job of the scheduler here: hosts append hundreds of entries a second, and what keeps the log short has to
    look at the log, not at the time. As a Databricks job it has a schedule, because nothing runs there in between.
    """
    settings = Settings.load()
    system = System(settings)
    logging.configure(settings.log_level, json_lines=True, redactor=system.redactor)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    while not stop.is_set():
        with suppress(UpkeepRunning), alone(system.home), _metrics_if_possible(system) as metrics:
            scheduler = JobScheduler(system.home)
            scheduler.start()
            try:
                watch(system, stop, _log, retention(settings), metrics)
            finally:
                scheduler.stop()
        stop.wait(TURN_S)


@contextmanager
def _metrics_if_possible(system: System) -> Iterator[Metrics | None]:
    """A port that somebody else has costs the metrics, not the upkeep."""
    with ExitStack() as stack:
        try:
            metrics = stack.enter_context(metrics_served(system))
        except (BusError, OSError) as error:
            log.error("metrics.not_served", error=str(error))
            metrics = None
        yield metrics


def _log(done: Pass) -> None:
    for one in done.done:
        if one.changed:
            log.info(
                "upkeep.done",
                table=one.table,
                version=one.version,
                entries=one.entries,
                compacted=one.compacted,
                into=one.into,
                checkpoint=one.checkpoint,
                deleted_entries=one.cleaned.entries,
                deleted_files=one.cleaned.files,
                held_by=one.held_by,
            )


if __name__ == "__main__":
    main(sys.argv[1:])

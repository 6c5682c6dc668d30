"""Replays recorded messages through today's or a named worker, without effects, and says what would come out differently."""

from __future__ import annotations

import json
import re
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from importlib import import_module
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from bus.fold import EXECUTION_CLAIMED, grant_of, is_binding, valid_rows
from bus.log import rows as codec
from bus.log.table import DeltaLog
from bus.trust import Trust
from config import files
from jobs.agents import AGENTS, find
from jobs.bootstrap import System
from schemas.envelope import Message
from schemas.tables import AGENT_MESSAGES, EXECUTIONS, REPLAYS
from workers.ports import ResultCatalog, SqlEngine
from workers.runtime.base import Worker
from workers.runtime.clock import micros
from workers.runtime.comparing import Comparison, compare
from workers.runtime.replaying import Moment, Recording, Replayed, Replayer, recordings

#: Conversations folded at once, and rows of `replays` written in one commit.
CONVERSATIONS, ROWS = 500, 500
#: Results that are not simply the same and are kept for showing; the table has them all.
KEPT = 1_000

#: (messages done, messages in all)
Progress = Callable[[int, int], None]
#: A version of the log, or a time in UTC microseconds.
Bound = tuple[str, int]

_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


class CannotReplay(ValueError):
    """The request makes no sense; the message says what would."""


@dataclass(frozen=True)
class ReplayRequest:
    """What to replay, through what. `since` and `until` are versions or times, of the receipt, both included.

    `workers` are `module:Class`; `files` maps names in config/ to the files that are read instead of them.
    """

    since: str | None = None
    until: str | None = None
    agent: str | None = None
    correlation_id: str | None = None
    workers: Sequence[str] = ()
    files: Mapping[str, Path] = field(default_factory=dict)
    ignore: Sequence[str] = ()


@dataclass(frozen=True)
class Result:
    """One message, replayed."""

    recording: Recording
    replayed: Replayed | None
    comparison: Comparison

    def document(self) -> dict[str, Any]:
        message, comparison = self.recording.message, self.comparison
        return {
            "message_id": message.message_id,
            "correlation_id": message.correlation_id,
            "agent": self.recording.agent,
            "kind": message.kind,
            "verdict": comparison.verdict,
            "reason": comparison.reason,
            "recorded_outcome": self.recording.said.outcome,
            "replayed_outcome": self.replayed.receipt.outcome if self.replayed else None,
            "differences": [one.document() for one in comparison.differences],
        }


@dataclass
class ReplayReport:
    """`counts`: (agent, kind, verdict) -> messages. `notable`: results that are not simply the same, as many as are kept."""

    replay_id: str
    version: int
    counts: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    notable: list[Result] = field(default_factory=list)

    @property
    def verdicts(self) -> Counter[str]:
        found: Counter[str] = Counter()
        for (_, _, verdict), count in self.counts.items():
            found[verdict] += count
        return found

    @property
    def total(self) -> int:
        return self.counts.total()

    def document(self) -> dict[str, Any]:
        """For machines. What is not among `results` is in the table `replays`."""
        by_kind = [
            {"agent": agent, "kind": kind, "verdict": verdict, "messages": count}
            for (agent, kind, verdict), count in sorted(self.counts.items())
        ]
        return {
            "replay_id": self.replay_id,
            "version": self.version,
            "messages": self.total,
            "verdicts": dict(sorted(self.verdicts.items())),
            "by_kind": by_kind,
            "results": [one.document() for one in self.notable],
        }

    def add(self, result: Result) -> None:
        verdict = result.comparison.verdict
        self.counts[result.recording.agent, result.recording.message.kind, verdict] += 1
        if verdict != "same" and len(self.notable) < KEPT:
            self.notable.append(result)


class ReplaySystem(System):
    """The system as hosts have it, but for its effects: what would act answers as the log did."""

    def __init__(self, system: System, moment: Moment) -> None:
        super().__init__(system.settings, system.clock)
        self.moment = moment

    def sql_engine(self) -> SqlEngine:
        from workers.adapters.replaying import ReplayingEngine

        return ReplayingEngine(self.moment)

    def result_catalog(self) -> ResultCatalog:
        from workers.adapters.knowledge.results import DeltaResultCatalog
        from workers.adapters.replaying import LogThen

        then = LogThen(self.log(EXECUTIONS.name), self.moment)
        return DeltaResultCatalog(then, self.home.warehouse, self.canonical())


async def replay(system: System, request: ReplayRequest, progress: Progress = lambda *_: None) -> ReplayReport:
    """Replay what is asked for, write the table `replays`, and report. Raises CannotReplay, UnknownAgent, ConfigError."""
    moment = Moment()
    crew = Crew(ReplaySystem(system, moment), request)
    source = system.log(AGENT_MESSAGES.name)
    table_id = source.check()
    history = History(source, system.accept(table_id), request, micros(system.clock.now()), crew.only)
    report = ReplayReport(f"rpl-{uuid.uuid4().hex[:12]}", history.version)
    book = Book(system.log(REPLAYS.name), report.replay_id, request, micros(system.clock.now()))
    trust = system.trust(table_id)
    replayers: dict[str, Replayer | None] = {}
    try:
        progress(0, history.total)
        for done, recording in enumerate(history.recordings(), 1):
            if recording.agent not in replayers:
                replayers[recording.agent] = await crew.replayer(recording.agent, trust, moment, history.claims)
            result = await _replayed(recording, replayers[recording.agent], request.ignore)
            report.add(result)
            book.add(result, crew.places.get(recording.agent, ""))
            progress(done, history.total)
    finally:
        book.close()
        for replayer in replayers.values():
            if replayer is not None:
                await replayer.worker.close()
    return report


async def _replayed(recording: Recording, replayer: Replayer | None, ignore: Sequence[str]) -> Result:
    if replayer is None:
        why = f"there is no code for {recording.agent} here; name it with --worker module:Class"
        return Result(recording, None, Comparison("skipped", why, ()))
    replayed = await replayer.replay(recording)
    return Result(recording, replayed, compare(recording, replayed, ignore))


class Crew:
    """The workers that replay: today's, or those that were named. `places` says which code each agent runs."""

    def __init__(self, system: ReplaySystem, request: ReplayRequest) -> None:
        self._system = system
        self._files = request.files
        named = [(place, find(place)) for place in request.workers]
        self._named = {agent.name: (place, agent) for place, agent in named}
        self.places: dict[str, str] = {}
        self.only = self._only(request.agent)

    def _only(self, asked: str | None) -> frozenset[str] | None:
        """The agents whose messages are replayed; None for all. A single named worker may stand in for another agent."""
        if asked is None:
            return frozenset(self._named) or None
        name = next((a.name for a in AGENTS if asked.lower() in (a.name.lower(), a.short)), asked)
        if self._named and name not in self._named:
            if len(self._named) > 1:
                raise CannotReplay(f"which of {', '.join(self._named)} is to stand in for {name}? Name one worker.")
            (stand_in,) = self._named.values()
            self._named = {name: stand_in}
        return frozenset({name})

    async def replayer(
        self, agent: str, trust: Trust, moment: Moment, claims: Mapping[str, Message]
    ) -> Replayer | None:
        """None when there is no code for it here."""
        with files.replaced(self._files):
            worker = self._built(agent)
        if worker is None:
            return None
        self.places[agent] = f"{type(worker).__module__}:{type(worker).__qualname__}"
        await worker.warm()
        return Replayer(worker, trust, moment, claims)

    def _built(self, name: str) -> Worker | None:
        shipped = next((agent for agent in AGENTS if agent.name == name), None)
        if name not in self._named:
            return None if shipped is None else shipped.build(self._system)
        place, agent = self._named[name]
        worker = self._built_from(place, agent.build, shipped.build if shipped else None)
        # What it stands in for is what it speaks as.
        worker.name = name
        return worker

    def _built_from(
        self, place: str, build: Callable[[System], Worker], shipped: Callable[[System], Worker] | None
    ) -> Worker:
        try:
            return build(self._system)
        except TypeError as error:
            # It wants arguments. One that only changes what a shipped agent does gets what that agent gets.
            module, _, name = place.partition(":")
            kind = getattr(import_module(module), name)
            model = shipped(self._system) if shipped is not None else None
            if model is None or not issubclass(kind, type(model)) or kind.__init__ is not type(model).__init__:
                raise CannotReplay(
                    f"{place} cannot be made without arguments ({error}); give it a constructor that needs none"
                ) from error
            worker: Worker = kind.__new__(kind)
            vars(worker).update(vars(model))
            return worker


class History:
    """The recorded handlings of one request, by conversation in the order they began; reads the table once."""

    def __init__(
        self,
        source: DeltaLog,
        accept: Callable[[Message], bool],
        request: ReplayRequest,
        now: int,
        agents: frozenset[str] | None,
    ) -> None:
        self._accept = accept
        self._agents = agents
        self._since, self._until = _bound(request.since, now, "--from"), _bound(request.until, now, "--to")
        if self._since and self._until and self._since[0] == self._until[0] and self._since > self._until:
            raise CannotReplay(f"--from {request.since} is after --to {request.until}")
        self._conversations, self.total = self._find(source, request.correlation_id)
        wanted = pc.field("correlation_id").isin(pa.array(self._conversations, pa.string()))
        found, self.version = source.scan(filters=wanted | (pc.field("kind") == EXECUTION_CLAIMED))
        self._rows = found

    def _find(self, source: DeltaLog, correlation_id: str | None) -> tuple[list[str], int]:
        """The conversations with a receipt that is asked for, oldest first, and how many such receipts there are."""
        wanted = pc.field("message_type") == "receipt"
        if correlation_id is not None:
            wanted &= pc.field("correlation_id") == correlation_id
        if self._agents is not None:
            wanted &= pc.field("from_agent").isin(pa.array(sorted(self._agents), pa.string()))
        for bound, is_kept in ((self._since, pc.greater_equal), (self._until, pc.less_equal)):
            if bound is not None:
                wanted &= is_kept(pc.field(bound[0]), _scalar(bound))
        found, _ = source.scan(["correlation_id", "log_version"], wanted)
        if not found.num_rows and self._agents is not None:
            self._check_agents(source)
        order = found.sort_by("log_version").column("correlation_id").to_pylist()
        return list(dict.fromkeys(order)), len(order)

    def _check_agents(self, source: DeltaLog) -> None:
        """Nothing was found: because of the span, or because nobody has that name?"""
        found, _ = source.scan(["from_agent"], pc.field("message_type") == "receipt")
        known = set(found.column("from_agent").to_pylist()) | {agent.name for agent in AGENTS}
        if unknown := sorted((self._agents or frozenset()) - known):
            raise CannotReplay(
                f"no agent called {', '.join(unknown)} has handled anything here; {', '.join(sorted(known))} have"
            )

    @cached_property
    def claims(self) -> dict[str, Message]:
        """The claim that counts for each grant."""
        found = codec.from_arrow(self._rows.filter(pc.field("kind") == EXECUTION_CLAIMED))
        claims: dict[str, Message] = {}
        for row in valid_rows(row for row in found if self._accept(row)):
            claims.setdefault(grant_of(row), row)
        return claims

    def recordings(self) -> Iterator[Recording]:
        for begin in range(0, len(self._conversations), CONVERSATIONS):
            part = self._conversations[begin : begin + CONVERSATIONS]
            rows = codec.from_arrow(self._rows.filter(pc.field("correlation_id").isin(pa.array(part, pa.string()))))
            # As the bus itself folds: a receipt or claim that nobody signed decides nothing.
            valid = valid_rows(row for row in rows if not is_binding(row) or self._accept(row))
            by_conversation = sorted(valid, key=lambda row: (row.correlation_id, row.position))
            folded = {name: list(said) for name, said in groupby(by_conversation, key=lambda row: row.correlation_id)}
            for name in part:
                yield from (one for one in recordings(folded.get(name, [])) if self._is_wanted(one))

    def _is_wanted(self, recording: Recording) -> bool:
        if self._agents is not None and recording.agent not in self._agents:
            return False
        receipt = recording.receipt
        after = self._since is None or getattr(receipt, self._since[0]) >= self._since[1]
        return after and (self._until is None or getattr(receipt, self._until[0]) <= self._until[1])


class Book:
    """Writes the table `replays`, some hundred rows a commit."""

    def __init__(self, table: DeltaLog, replay_id: str, request: ReplayRequest, now: int) -> None:
        self._table = table
        self._replay_id = replay_id
        self._replaced = json.dumps({name: str(path) for name, path in request.files.items()})
        self._now = now
        self._rows: list[dict[str, Any]] = []
        table.create()  # homes that are older than this table have none

    def add(self, result: Result, worker: str) -> None:
        recording, replayed, comparison = result.recording, result.replayed, result.comparison
        self._rows.append(
            {
                "replay_id": self._replay_id,
                "message_id": recording.message.message_id,
                "correlation_id": recording.message.correlation_id,
                "agent": recording.agent,
                "kind": recording.message.kind,
                "worker": worker,
                "verdict": comparison.verdict,
                "reason": comparison.reason,
                "recorded_outcome": recording.said.outcome,
                "replayed_outcome": replayed.receipt.outcome if replayed else None,
                "recorded": _outputs(recording.outputs),
                "replayed": _outputs(replayed.outputs) if replayed else None,
                "difference_count": len(comparison.differences),
                "differences": json.dumps([one.document() for one in comparison.differences], ensure_ascii=False),
                "recorded_ms": recording.said.handled_ms,
                "replayed_ms": replayed.receipt.handled_ms if replayed else None,
                "replaced": self._replaced,
                "timestamp": self._now,
                "log_version": recording.receipt.log_version,
                "seq": recording.receipt.seq,
            }
        )
        if len(self._rows) >= ROWS:
            self.close()

    def close(self) -> None:
        """Write what has not been written yet."""
        if self._rows:
            schema = self._table.schema.file_schema
            columns = [pa.array([row[field.name] for row in self._rows], type=field.type) for field in schema]
            self._table.append(pa.Table.from_arrays(columns, schema=schema))
            self._rows = []


def _outputs(rows: Sequence[Message]) -> str:
    names = ("message_type", "kind", "to_agent", "causation_id", "priority", "not_before", "expires_at", "content")
    return json.dumps([{name: getattr(row, name) for name in names} for row in rows], ensure_ascii=False)


def _bound(text: str | None, now: int, option: str) -> Bound | None:
    """A version, a span back from now such as `2h`, or an ISO time (local unless it names its zone)."""
    if text is None:
        return None
    text = text.strip()
    if text.isdigit():
        return "log_version", int(text)
    if span := _SPAN.fullmatch(text):
        return "timestamp", now - round(float(span[1]) * _SECONDS[span[2]] * 1_000_000)
    try:
        return "timestamp", micros(datetime.fromisoformat(text).astimezone())
    except (ValueError, OverflowError) as error:
        raise CannotReplay(
            f"{option} {text} is neither a version (such as 120), a span back from now (such as 90m, 2h or 1d) "
            "nor an ISO time (such as 2026-03-01T09:30)"
        ) from error


def _scalar(bound: Bound) -> pa.Scalar:
    name, value = bound
    return pa.scalar(value, AGENT_MESSAGES.file_schema.field(name).type)

"""Ports for a replay: what has effects answers as the log did, or says that it cannot."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from bus.log.table import DeltaLog, Put
from bus.shared import Fact, Rights, SharedMemory, facts_of
from schemas.envelope import EVERYONE, Message
from schemas.payloads import CodeDryRun, CodeRun, DryRunCode, ExecutionSettled, Failed, Refused
from schemas.tables import AGENT_SHARED_MEMORY
from workers.ports import (
    NO_MEMORY,
    DryRun,
    Executed,
    Memory,
    Outcome,
    OutcomeUnknown,
    Rows,
    Statement,
    StatementFailed,
    StatementRefused,
)
from workers.runtime.base import Handling
from workers.runtime.memory import HandlerMemory
from workers.runtime.replaying import SLACK, Moment, Recording

#: Rules by which ExecutionAgent itself refuses; every other rule is the engine's.
_AGENTS_RULES = ("dry_run.", "grant.", "principal.", "signature.", "message.")
_DRY_RUN_FAILED = "execution.dry_run"
_MOVED = "grant.dry_run_changed"
_HOW_THEY_MOVED = "effect: the tables had changed since the dry run, and how is not in the log"
_ENDED = ("execution.cancelled", "execution.timeout")


class ReplayingEngine:
    """An Engine that runs nothing: it gives back what the log recorded of the same code, target and grant."""

    def __init__(self, moment: Moment) -> None:
        self._moment = moment

    async def warm(self) -> None:
        return

    async def close(self) -> None:
        return

    async def dry_run(self, statement: Statement) -> DryRun:
        recording = self._recording("dry run")
        if recording.message.kind == DryRunCode.kind():
            asked = DryRunCode.model_validate_json(recording.message.content)
            if _is_for(asked, statement):
                return self._said(recording.outputs)
        elif (found := self._approved(recording, statement)) is not None:
            return found
        raise self._moment.skip("effect: the log holds no dry run of this code for this target")

    async def run(self, statement: Statement, grant_id: str, row_limit: int, *, digest: str | None = None) -> Executed:
        sql, target = statement.text, statement.target
        outcome = self._recording("run").outputs
        if any(found.rule == _MOVED for found in _payloads(outcome, Refused)):
            raise self._moment.skip(_HOW_THEY_MOVED)
        for settled in _payloads(outcome, ExecutionSettled):
            if (settled.code, settled.target, settled.grant_id) != (sql, target, grant_id):
                continue
            if settled.step == "done" and not settled.proof:
                return self._executed(_payloads(outcome, CodeRun), settled, row_limit)
            if any(found.rule in _ENDED for found in _payloads(outcome, Failed)):
                raise self._moment.skip("effect: it was ended from outside")
            unknown = settled.step == "in_doubt" or settled.proof
            raise OutcomeUnknown(settled.reason) if unknown else StatementFailed(settled.reason)
        raise self._moment.skip(f"effect: the log holds no run of this code under grant {grant_id}")

    def _executed(self, said: Sequence[CodeRun], settled: ExecutionSettled, row_limit: int) -> Executed:
        for run in said:
            if run.grant_id == settled.grant_id and run.row_count is not None:
                found = run.result
                rows = tuple(tuple(row) for row in found.rows[:row_limit])
                result = Rows(tuple(found.columns), rows, found.truncated or len(found.rows) > row_limit)
                before = settled.table_version_before
                return Executed(result, run.row_count, found.table, found.table_version, 0.0, before, found.reference)
        raise self._moment.skip(f"effect: the log holds no result of grant {settled.grant_id}")

    async def outcome_of(self, grant_id: str, target: str, since: int | None = None) -> Outcome | None:
        """What the target proved then, as far as it was written down."""
        for settled in _payloads(self._recording("proof").outputs, ExecutionSettled):
            if (settled.grant_id, settled.target) == (grant_id, target):
                if not settled.proof:
                    raise OutcomeUnknown("the target did not tell")
                return Outcome(target, settled.table_version) if settled.step == "done" else None
        raise self._moment.skip("effect: what a table says of a grant is not in the log")

    async def cancel(self, grant_id: str) -> bool:
        return False

    def _recording(self, what: str) -> Recording:
        if self._moment.recording is None:
            raise self._moment.skip(f"effect: a {what} outside of any message")
        return self._moment.recording

    def _said(self, outputs: Sequence[Message]) -> DryRun:
        """What the handling that asked for this dry run answered."""
        for found in _payloads(outputs, CodeDryRun):
            return _dry_run(found)
        self._raise_refusal(outputs)
        raise self._moment.skip("effect: the dry run left no outcome in the log")

    def _approved(self, recording: Recording, statement: Statement) -> DryRun | None:
        """Before a run the engine is asked again: the same as was approved, unless the log says otherwise."""
        if any(refused.rule == _MOVED for refused in _payloads(recording.outputs, Refused)):
            raise self._moment.skip(_HOW_THEY_MOVED)
        if not _payloads(recording.outputs, CodeRun) and not _payloads(recording.outputs, ExecutionSettled):
            self._raise_refusal(recording.outputs)
        asked = {
            row.message_id
            for row in recording.known
            if row.kind == DryRunCode.kind() and _is_for(DryRunCode.model_validate_json(row.content), statement)
        }
        answers = [row for row in recording.known if row.causation_id in asked]
        found = _payloads(answers, CodeDryRun)
        return _dry_run(found[-1]) if found else None

    @staticmethod
    def _raise_refusal(outputs: Sequence[Message]) -> None:
        for refused in _payloads(outputs, Refused):
            if not refused.rule.startswith(_AGENTS_RULES):
                raise StatementRefused(refused.rule, refused.reason)
        for failed in _payloads(outputs, Failed):
            if failed.rule == _DRY_RUN_FAILED:
                raise StatementFailed(failed.reason)


class LogThen:
    """A projection as it was when the message was handled: later rows are left out. Reads its table once."""

    def __init__(self, log: DeltaLog, moment: Moment) -> None:
        self._log = log
        self._moment = moment
        self._rows: pa.Table | None = None

    def head(self, known: int = -1) -> int:
        self._log.head(known)  # says when there is no such table
        return self._moment.version

    def scan(self, columns: Sequence[str] | None = None, filters: Any = None) -> tuple[pa.Table, int]:
        """The same columns and filters at every call, as one reader asks."""
        if self._rows is None:
            self._rows, _ = self._log.scan(columns, filters)
        version = self._moment.version
        return self._rows.filter(pc.field("log_version") < version), version


class MemoryThen:
    """Shared memory as a handling saw it: facts from before it began. What it writes is noted, and seen by it alone.

    `log` None: this home shares nothing.
    """

    def __init__(self, log: DeltaLog | None, rights: Rights, accept: Callable[[Message], bool], moment: Moment) -> None:
        self._log = log
        self._rights = rights
        self._accept = accept
        self._moment = moment

    @cached_property
    def _rows(self) -> pa.Table:
        assert self._log is not None
        return self._log.scan()[0]

    @cached_property
    def _by_handling(self) -> dict[tuple[str | None, str], list[Fact]]:
        found: dict[tuple[str | None, str], list[Fact]] = {}
        for fact in facts_of(self._rows) if self._log is not None else ():
            if self._accept(fact.as_message()):
                found.setdefault((fact.message_id, fact.writer), []).append(fact)
        return found

    def __call__(self, agent: str, message: Message, principal: str | None, handling: Handling) -> Memory:
        if self._log is None:
            return NO_MEMORY
        return _OnUse(lambda: HandlerMemory(self._shared(), agent, message, principal, handling))

    def recorded(self, recording: Recording) -> Sequence[Message]:
        """The facts that the handling wrote, as rows."""
        facts = self._by_handling.get((recording.message.message_id, recording.agent), ())
        return [noted(fact) for fact in facts if fact.timestamp >= recording.began - SLACK]

    def _shared(self) -> SharedMemory:
        recording = self._moment.recording
        assert recording is not None
        # What this very handling wrote it saw only once it had written it.
        cause = pc.field("message_id")
        others = cause.is_null() | (cause != recording.message.message_id)
        time = pc.field("timestamp")
        seen = (time <= _time(recording.began)) & (others | (time < _time(recording.began - SLACK)))
        written = _Written(self._rows.filter(seen), recording.began, self._moment)
        return SharedMemory(
            written, self._rights, accept=lambda fact: fact.message_id in written.ids or self._accept(fact)
        )


def noted(fact: Fact) -> Message:
    """A fact as a row that can be compared and shown."""
    value = None if fact.value is None else json.loads(fact.value)
    content = {"scope": fact.scope, "key": fact.key, "value": value, "expires_at": fact.expires_at}
    row = {"to_agent": EVERYONE, "content": json.dumps(content, ensure_ascii=False)}
    return fact.as_message().model_copy(update=row)


def _time(micros: int) -> pa.Scalar:
    return pa.scalar(micros, pa.timestamp("us", tz="UTC"))


class _Written:
    """The facts of then as a log; what is put into it is noted."""

    def __init__(self, facts: pa.Table, now: int, moment: Moment) -> None:
        self.ids: set[str] = set()
        self.schema = AGENT_SHARED_MEMORY
        self._facts = facts
        self._now = datetime.fromtimestamp(now / 1e6, UTC)
        self._moment = moment

    def now(self) -> datetime:
        return self._now

    def check(self) -> str:
        return ""

    def scan(self) -> tuple[pa.Table, int]:
        return self._facts, 0

    def exists(self, version: int) -> bool:
        return True

    def follow(self, after: int) -> Iterator[Any]:
        return iter(())

    def put(self, version: int, rows: pa.Table) -> Put:
        for fact in facts_of(rows):
            self.ids.add(fact.fact_id)
            self._moment.noted.append(noted(fact))
        return Put(version, won=True)


class _OnUse:
    """A memory that is made when it is first used: most handlers never do."""

    def __init__(self, make: Callable[[], Memory]) -> None:
        self._make = make

    @cached_property
    def _made(self) -> Memory:
        return self._make()

    async def get(self, scope: str, key: str) -> Any:
        return await self._made.get(scope, key)

    async def put(self, scope: str, key: str, value: Any, *, ttl_s: float | None = None) -> None:
        await self._made.put(scope, key, value, ttl_s=ttl_s)

    async def delete(self, scope: str, key: str) -> None:
        await self._made.delete(scope, key)

    async def keys(self, scope: str) -> Sequence[str]:
        return await self._made.keys(scope)


def _is_for(asked: DryRunCode, statement: Statement) -> bool:
    return (asked.code.language, asked.code.text, asked.target) == (
        statement.language,
        statement.text,
        statement.target,
    )


def _dry_run(found: CodeDryRun) -> DryRun:
    return DryRun(
        found.statement_class,
        tuple(found.columns),
        found.table_versions,
        found.plan,
        found.digest,
        0.0,
        found.writes,
        found.estimated_rows,
        found.estimated_bytes,
        found.effect,
    )


def _payloads(rows: Sequence[Message], model: Any) -> list[Any]:
    return [model.model_validate_json(row.content) for row in rows if row.kind == model.kind()]

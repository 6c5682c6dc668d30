"""Ports for a replay: what has effects answers as the log did, or says that it cannot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from bus.log.table import DeltaLog
from schemas.envelope import Message
from schemas.payloads import CodeDryRun, CodeRun, DryRunCode, ExecutionSettled, Failed, Refused
from workers.ports import DryRun, Executed, OutcomeUnknown, Rows, StatementFailed, StatementRefused
from workers.runtime.replaying import Moment, Recording

#: Rules by which ExecutionAgent itself refuses; every other rule is the engine's.
_AGENTS_RULES = ("dry_run.", "grant.", "principal.", "signature.", "message.")
_DRY_RUN_FAILED = "execution.dry_run"


class ReplayingEngine:
    """A SqlEngine that runs nothing: it gives back what the log recorded of the same code, target and grant."""

    def __init__(self, moment: Moment) -> None:
        self._moment = moment

    async def warm(self) -> None:
        return

    async def close(self) -> None:
        return

    async def dry_run(self, sql: str, target: str | None) -> DryRun:
        recording = self._recording("dry run")
        if recording.message.kind == DryRunCode.kind():
            asked = DryRunCode.model_validate_json(recording.message.content)
            if (asked.code.text, asked.target) == (sql, target):
                return self._said(recording.outputs)
        elif (found := self._approved(recording, sql, target)) is not None:
            return found
        raise self._moment.skip("effect: the log holds no dry run of this code for this target")

    async def run(self, sql: str, target: str | None, grant_id: str, row_limit: int) -> Executed:
        outcome = self._recording("run").outputs
        for run in _payloads(outcome, CodeRun):
            if (run.code, run.result.table, run.grant_id) == (sql, target, grant_id):
                rows = tuple(tuple(row) for row in run.result.rows[:row_limit])
                truncated = run.result.truncated or len(run.result.rows) > row_limit
                result = Rows(tuple(run.result.columns), rows, truncated)
                return Executed(result, run.row_count, run.result.table, run.result.table_version, 0.0)
        for settled in _payloads(outcome, ExecutionSettled):
            if (settled.code, settled.target, settled.grant_id) == (sql, target, grant_id):
                raise OutcomeUnknown(settled.reason) if settled.step == "in_doubt" else StatementFailed(settled.reason)
        raise self._moment.skip(f"effect: the log holds no run of this code under grant {grant_id}")

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

    def _approved(self, recording: Recording, sql: str, target: str | None) -> DryRun | None:
        """Before a run the engine is asked again: the same as was approved, unless the log says otherwise."""
        if any(refused.rule == "grant.dry_run_changed" for refused in _payloads(recording.outputs, Refused)):
            raise self._moment.skip("effect: the tables had changed since the dry run, and how is not in the log")
        if not _payloads(recording.outputs, CodeRun) and not _payloads(recording.outputs, ExecutionSettled):
            self._raise_refusal(recording.outputs)
        asked = {
            row.message_id
            for row in recording.known
            if row.kind == DryRunCode.kind() and _is_for(DryRunCode.model_validate_json(row.content), sql, target)
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


def _is_for(asked: DryRunCode, sql: str, target: str | None) -> bool:
    return (asked.code.text, asked.target) == (sql, target)


def _dry_run(found: CodeDryRun) -> DryRun:
    return DryRun(found.statement_class, tuple(found.columns), found.table_versions, found.plan, found.digest, 0.0)


def _payloads(rows: Sequence[Message], model: Any) -> list[Any]:
    return [model.model_validate_json(row.content) for row in rows if row.kind == model.kind()]

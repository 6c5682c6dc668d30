"""ExecutionAgent: the only one with effects. Verifies the grant itself, claims it in the log, runs once, says what happened."""

from __future__ import annotations

import structlog

from schemas.envelope import Message
from schemas.payloads import (
    BeginRun,
    CancelExecution,
    CodeDryRun,
    DryRunCode,
    Failed,
    Refused,
    RunCode,
    SettleExecution,
)
from workers.execution.grants import AUTHORITY, code_sha256
from workers.execution.limits import CODE, PLAN, Limits, bounded_preview, storable
from workers.execution.people import NoRoles, People
from workers.execution.proofs import Gone, Prover, never
from workers.execution.runs import Runs
from workers.ports import Engine, Roles, Statement, StatementFailed, StatementRefused
from workers.runtime.base import Context, Outgoing, Received, Worker, audit, reply

log = structlog.get_logger(__name__)

#: Where it is not said: no more than fits a test.
USUAL = Limits()


class ExecutionAgent(Worker):
    """DryRunCode -> CodeDryRun; RunCode with a grant -> CodeRun, at most once per grant.

    `environment`: the one grants must be for. `process`: where this runs. `gone`: whether another such process, and all
    that it had started, has ended for certain.
    """

    handles = (DryRunCode, RunCode, BeginRun, CancelExecution, SettleExecution)
    #: More than ever run at once, so that the wish to end a run finds somebody who listens.
    concurrency = 32
    #: Runs and dry runs have limits of their own, which say what became of them.
    timeout_s = 86_400.0

    def __init__(
        self,
        engine: Engine,
        roles: Roles | None = None,
        environment: str = "",
        limits: Limits = USUAL,
        process: str = "",
        gone: Gone = never,
    ) -> None:
        self._engine = engine
        prover = Prover(engine, process, gone)
        self._runs = Runs(self.name, engine, environment, limits, process, prover)
        self._people = People(self.name, roles or NoRoles(), self._runs, prover)

    async def handle(self, message: Received, context: Context) -> list[Outgoing]:
        match message.payload:
            case DryRunCode() as asked:
                return await self._dry_run(asked, message)
            case RunCode() as run:
                return await self._runs.run(run, message.message, context)
            case BeginRun() as again:
                return await self._begin_run(again, message, context)
            case CancelExecution() as said:
                return await self._people.cancel(said, message, context)
            case SettleExecution() as said:
                return await self._people.settle(said, message, context)
        raise TypeError(f"no way to handle {type(message.payload).__name__}")

    async def warm(self) -> None:
        await self._engine.warm()

    async def close(self) -> None:
        await self._engine.close()

    async def _begin_run(self, again: BeginRun, message: Received, context: Context) -> list[Outgoing]:
        """What was to wait is looked at anew, as governance signed it: only the time has changed."""
        waits: Message | None = next(
            (m for m in context.conversation if m.message_id == again.message_id and m.kind == RunCode.kind()), None
        )
        if message.sender != self.name or waits is None:
            reason = f"only {self.name} itself looks again, and only at what was asked of it"
            return [audit("execution.ignored", "refused", rule="execution.unasked", reason=reason)]
        return await self._runs.run(RunCode.model_validate_json(waits.content), waits, context, again.turn)

    async def _dry_run(self, asked: DryRunCode, message: Received) -> list[Outgoing]:
        if message.sender != AUTHORITY:
            reason = f"a dry run is asked for by {AUTHORITY}, which knows who may, not by {message.sender}"
            return _refused(message, "dry_run.issuer", reason)
        if (size := len(asked.code.text.encode())) > CODE:
            return _refused(message, "execution.size", f"the code has {size:,} bytes; the limit is {CODE:,}")
        try:
            statement = Statement(asked.code.language, asked.code.text, asked.target, tuple(asked.reads))
            found = await self._engine.dry_run(statement)
        except StatementRefused as error:
            return _refused(message, error.rule, error.reason)
        except StatementFailed as error:
            reason = storable(str(error))
            failed = Failed(rule="execution.dry_run", reason=reason)
            return [audit("dry_run.failed", "failed", rule=failed.rule, reason=reason), reply(message, failed)]
        facts = {"digest": found.digest, "tables": dict(found.table_versions), "target": asked.target}
        return [
            audit("dry_run.done", "done", **facts, engine_ms=round(found.elapsed_ms)),
            reply(
                message,
                CodeDryRun(
                    code_sha256=code_sha256(asked.code.text),
                    statement_class=found.statement_class,
                    columns=list(found.columns),
                    table_versions=dict(found.table_versions),
                    plan=storable(found.plan, PLAN),
                    digest=found.digest,
                    writes=found.writes,
                    estimated_rows=found.estimated_rows,
                    estimated_bytes=found.estimated_bytes,
                    effect=bounded_preview(found.effect),
                ),
            ),
        ]


def _refused(message: Received, rule: str, reason: str) -> list[Outgoing]:
    reason = storable(reason)
    return [
        audit("dry_run.refused", "refused", rule=rule, reason=reason),
        reply(message, Refused(rule=rule, reason=reason)),
    ]

"""ExecutionAgent: the only one with effects. Verifies the grant itself, claims it in the log, runs once, says what happened."""

from __future__ import annotations

import structlog

from schemas.envelope import Message
from schemas.payloads import (
    CodeDryRun,
    CodeRun,
    DryRunCode,
    ExecutionClaimed,
    ExecutionSettled,
    Failed,
    Payload,
    Refused,
    Result,
    RunCode,
)
from workers.execution.grants import AUTHORITY, GrantRefused, check_grant, code_sha256
from workers.ports import DryRun, Engine, Executed, OutcomeUnknown, Statement, StatementFailed, StatementRefused
from workers.runtime.base import Context, Outgoing, Received, Worker, audit, event, reply
from workers.runtime.clock import micros

log = structlog.get_logger(__name__)


class ExecutionAgent(Worker):
    """DryRunCode -> CodeDryRun; RunCode with a grant -> CodeRun, at most once per grant."""

    handles = (DryRunCode, RunCode)
    timeout_s = 600.0

    def __init__(self, engine: Engine, row_limit: int = 1000) -> None:
        self._engine = engine
        self._row_limit = row_limit

    async def handle(self, message: Received, context: Context) -> list[Outgoing]:
        match message.payload:
            case DryRunCode() as asked:
                return await self._dry_run(asked, message)
            case RunCode() as run:
                return await self._run(run, message, context)
        raise TypeError(f"no way to handle {type(message.payload).__name__}")

    async def warm(self) -> None:
        await self._engine.warm()

    async def close(self) -> None:
        await self._engine.close()

    # --- dry run -----------------------------------------------------------------------------------------------------

    async def _dry_run(self, asked: DryRunCode, message: Received) -> list[Outgoing]:
        if message.sender != AUTHORITY:
            reason = f"a dry run is asked for by {AUTHORITY}, which knows who may, not by {message.sender}"
            return _refused(message.sender, "dry_run.refused", "dry_run.issuer", reason)
        try:
            statement = Statement(asked.code.language, asked.code.text, asked.target, tuple(asked.reads))
            found = await self._engine.dry_run(statement)
        except StatementRefused as error:
            return _refused(message.sender, "dry_run.refused", error.rule, error.reason)
        except StatementFailed as error:
            return _failed(message.sender, "dry_run.failed", "execution.dry_run", str(error))
        return [
            audit(
                "dry_run.done",
                "done",
                digest=found.digest,
                tables=dict(found.table_versions),
                target=asked.target,
                engine_ms=round(found.elapsed_ms),
            ),
            reply(
                message,
                CodeDryRun(
                    code_sha256=code_sha256(asked.code.text),
                    statement_class=found.statement_class,
                    columns=list(found.columns),
                    table_versions=dict(found.table_versions),
                    plan=found.plan,
                    digest=found.digest,
                    writes=found.writes,
                    estimated_rows=found.estimated_rows,
                    estimated_bytes=found.estimated_bytes,
                    effect=found.effect,
                ),
            ),
        ]

    # --- run ---------------------------------------------------------------------------------------------------------

    async def _run(self, run: RunCode, message: Received, context: Context) -> list[Outgoing]:
        try:
            check_grant(run, message.sender, context.principal, context.conversation, micros(context.now))
            claim = context.claims.get(run.grant.grant_id)
            if claim is not None and claim.causation_id != message.message.message_id:
                raise GrantRefused("grant.used", f"grant {run.grant.grant_id} was used already")
            checked_ms = await self._check_dry_run(run) if claim is None else 0.0
        except GrantRefused as error:
            return _refused(run.reply_to, "grant.refused", error.rule, error.reason, grant=run.grant.grant_id)
        except StatementRefused as error:
            return _refused(run.reply_to, "grant.refused", error.rule, error.reason, grant=run.grant.grant_id)
        except StatementFailed as error:
            return _failed(run.reply_to, "execution.failed", "execution.dry_run", str(error))
        if claim is not None:
            return self._recovered(run, claim)
        # The claim is in the log before the effect starts: from here on it happens at most once.
        if not await context.commit([event(_claimed(run, context.instance))]):
            return _refused(run.reply_to, "grant.refused", "grant.used", f"grant {run.grant.grant_id} was used already")
        # A pause between the two may have been long enough for others to take over: whatever they found is their word then.
        if not await context.still_ours():
            return self._not_begun(run)
        return await self._effect(run, checked_ms)

    async def _check_dry_run(self, run: RunCode) -> float:
        """What was approved is what would run now: same code, same tables, same plan. Returns the engine's milliseconds."""
        now: DryRun = await self._engine.dry_run(_statement(run))
        if now.digest != run.grant.dry_run_digest:
            moved = sorted(t for t, v in now.table_versions.items() if run.grant.table_versions.get(t) != v)
            what = f"these tables have changed: {', '.join(moved)}" if moved else "the plan has changed"
            raise GrantRefused("grant.dry_run_changed", f"since the dry run that was approved, {what}; ask again")
        return now.elapsed_ms

    async def _effect(self, run: RunCode, checked_ms: float) -> list[Outgoing]:
        grant = run.grant
        try:
            done = await self._engine.run(_statement(run), grant.grant_id, self._row_limit, digest=grant.dry_run_digest)
        except OutcomeUnknown as error:
            return self._in_doubt(run, str(error))
        except (StatementRefused, StatementFailed) as error:
            return [
                event(_settled(run, "failed", reason=str(error))),
                *_failed(run.reply_to, "execution.failed", "execution.failed", str(error), grant=grant.grant_id),
            ]
        return self._done(run, done, checked_ms + done.elapsed_ms)

    def _done(self, run: RunCode, done: Executed, engine_ms: float) -> list[Outgoing]:
        grant = run.grant
        outcome = CodeRun(
            grant_id=grant.grant_id,
            question=run.question,
            code=run.code.text,
            result=Result(
                columns=list(done.result.columns),
                rows=[list(row) for row in done.result.rows],
                truncated=done.result.truncated,
                table=done.table,
                table_version=done.table_version,
            ),
            row_count=done.row_count,
            requester=grant.requester,
            approved_by=grant.approved_by,
        )
        facts = {
            "grant": grant.grant_id,
            "table": done.table,
            "table_version": done.table_version,
            "rows": done.row_count,
            "engine_ms": round(engine_ms),
        }
        return [
            event(_settled(run, "done", row_count=done.row_count, table_version=done.table_version)),
            audit("execution.done", "done", rule=grant.rule, **facts),
            Outgoing(run.reply_to, outcome, "response"),
        ]

    def _recovered(self, run: RunCode, claim: Message) -> list[Outgoing]:
        """We, or an instance before us, claimed this and died: whether it ran is not known from the log."""
        claimant = ExecutionClaimed.model_validate_json(claim.content).instance
        return self._in_doubt(run, f"it was claimed by {claimant}, and no outcome was recorded")

    def _not_begun(self, run: RunCode) -> list[Outgoing]:
        reason = "it was not run: this instance had slept, and others had ended its lease; ask again for another grant"
        return [
            event(_settled(run, "failed", reason=reason)),
            *_failed(run.reply_to, "execution.failed", "execution.lease_lost", reason, grant=run.grant.grant_id),
        ]

    def _in_doubt(self, run: RunCode, reason: str) -> list[Outgoing]:
        told = f"Whether it ran is not known ({reason}). It is not run again by itself: a person has to settle it."
        return [
            event(_settled(run, "in_doubt", reason=reason)),
            *_failed(run.reply_to, "execution.in_doubt", "execution.in_doubt", told, grant=run.grant.grant_id),
        ]


def _statement(run: RunCode) -> Statement:
    return Statement(run.code.language, run.code.text, run.grant.target, tuple(run.grant.reads))


def _claimed(run: RunCode, instance: str) -> ExecutionClaimed:
    grant = run.grant
    return ExecutionClaimed(
        grant_id=grant.grant_id,
        requester=grant.requester,
        question=run.question,
        code=run.code.text,
        target=grant.target,
        approved_by=grant.approved_by,
        instance=instance,
    )


def _settled(run: RunCode, step: str, **outcome: object) -> ExecutionSettled:
    grant = run.grant
    return ExecutionSettled(
        grant_id=grant.grant_id,
        step=step,
        requester=grant.requester,
        question=run.question,
        code=run.code.text,
        target=grant.target,
        approved_by=grant.approved_by,
        **outcome,
    )


def _refused(to: str, action: str, rule: str, reason: str, **details: object) -> list[Outgoing]:
    return [audit(action, "refused", rule=rule, reason=reason, **details), _tell(to, Refused(rule=rule, reason=reason))]


def _failed(to: str, action: str, rule: str, reason: str, **details: object) -> list[Outgoing]:
    return [audit(action, "failed", rule=rule, reason=reason, **details), _tell(to, Failed(rule=rule, reason=reason))]


def _tell(to: str, payload: Payload) -> Outgoing:
    return Outgoing(to, payload, "response")

"""Runs: from a grant to an outcome, with at most one effect between them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import structlog

from schemas.envelope import Message
from schemas.payloads import BeginRun, CodeRun, ExecutionClaimed, GrantRevoked, Result, RunCode
from workers.execution.grants import GrantRefused, check_grant, dry_run_of
from workers.execution.limits import OUTPUT, PLAN, Limits, bounded, room_for_rows, storable
from workers.execution.proofs import Proof, Prover
from workers.execution.telling import Telling
from workers.execution.under_way import Ended, UnderWay
from workers.ports import DryRun, Engine, Executed, OutcomeUnknown, Rows, Statement, StatementFailed, StatementRefused
from workers.runtime.base import Context, Outgoing, request
from workers.runtime.clock import micros

log = structlog.get_logger(__name__)

MOVED = "grant.dry_run_changed"
#: Seconds between two looks whether a run may begin: doubled each time, up to the second number.
FIRST_LOOK_S, LAST_LOOK_S = 1.0, 15.0


@dataclass(frozen=True)
class _Effect:
    """What is about to run: the words for it, the digest it must have, and the bytes its rows may take."""

    telling: Telling
    run: RunCode
    digest: str
    room: int
    reads_only: bool


class Runs:
    """`under_way`: by grant. A grant is claimed in the log before its effect starts, so it happens at most once."""

    def __init__(
        self, name: str, engine: Engine, environment: str, limits: Limits, process: str, prover: Prover
    ) -> None:
        self._name = name
        self._engine = engine
        self._environment = environment
        self._limits = limits
        self._process = process
        self._prover = prover
        self.under_way: dict[str, UnderWay] = {}
        #: What did not end when it was told to.
        self._unended: dict[str, UnderWay] = {}

    async def run(self, run: RunCode, message: Message, context: Context, turn: int = 0) -> list[Outgoing]:
        """`message` is the RunCode, as governance signed it; `turn`: how often it has waited for its turn."""
        telling = Telling(run, message, context.conversation)
        grant = run.grant
        try:
            check_grant(
                run,
                message.from_agent,
                context.principal,
                context.conversation,
                micros(context.now),
                self._environment,
            )
            claim = self._claim(run, message, context)
            if claim is not None:
                return await self._recovered(telling, claim)
            room = room_for_rows(self._limits, message.content)
            if room < 0:
                raise GrantRefused("execution.size", "question and code leave no room for an outcome in a message")
            if (reason := self._busy(grant.requester)) is not None:
                return self._wait(telling, message, reason, context, turn)
        except GrantRefused as error:
            return telling.refused(error.rule, error.reason)
        own = UnderWay(grant.grant_id, grant.requester, self._engine, self._limits.run_s)
        self.under_way[grant.grant_id] = own
        try:
            return await self._begin(telling, own, context, room)
        finally:
            del self.under_way[grant.grant_id]
            if not own.is_over:
                self._unended[grant.grant_id] = own
            own.ended.set()

    def is_over(self, claimed: ExecutionClaimed) -> bool:
        """Whether nothing of a claim can be running any more, here or elsewhere."""
        here = self.under_way.get(claimed.grant_id) or self._unended.get(claimed.grant_id)
        return (here is None or here.is_over) and self._prover.is_over(claimed)

    # --- before the claim --------------------------------------------------------------------------------------------

    def _claim(self, run: RunCode, message: Message, context: Context) -> Message | None:
        """Our own claim of an earlier handling of this very message. Raises GrantRefused for any other, or a revocation."""
        grant_id = run.grant.grant_id
        claim = context.claims.get(grant_id)
        if claim is not None and claim.kind == GrantRevoked.kind():
            revoked = GrantRevoked.model_validate_json(claim.content)
            why = f": {revoked.reason}" if revoked.reason else ""
            raise GrantRefused("grant.revoked", f"{revoked.actor} took the grant back{why}")
        if grant_id in self.under_way or (claim is not None and claim.causation_id != message.message_id):
            raise GrantRefused("grant.used", f"grant {grant_id} was used already")
        return claim

    def _busy(self, requester: str) -> str | None:
        own = Counter(one.requester for one in self.under_way.values())[requester]
        if own >= self._limits.per_principal:
            return f"{own} runs of {requester} are under way, which is the most that one person may have"
        if len(self.under_way) >= self._limits.at_once:
            return f"{len(self.under_way)} runs are under way, which is the most that run at once"
        return None

    def _wait(self, telling: Telling, message: Message, reason: str, context: Context, turn: int) -> list[Outgoing]:
        """It waits in the log, not here: what waits must not keep others, or the wish to cancel, from being heard.

        It waits rather than being refused, since people have approved it already; the end of the grant ends the waiting.
        """
        pause = min(FIRST_LOOK_S * 2 ** min(turn, 10), LAST_LOOK_S)
        again = BeginRun(message_id=message.message_id, turn=turn + 1)
        facts = [] if turn else [telling.fact("execution.waits", "allowed", "execution.busy", reason)]
        return [*facts, request(self._name, again, not_before=micros(context.now) + round(pause * 1_000_000))]

    async def _begin(self, telling: Telling, own: UnderWay, context: Context, room: int) -> list[Outgoing]:
        run, grant = telling.run, telling.run.grant
        approved = dry_run_of(grant, context.conversation)
        digest = grant.dry_run_digest
        if grant.table_drift > 0:
            try:
                digest = await self._digest_now(run, context)
            except (GrantRefused, StatementRefused) as error:
                say = telling.sent_back if error.rule == MOVED else telling.refused
                return say(error.rule, error.reason)
            except StatementFailed as error:
                return telling.failed("execution.dry_run", str(error))
        # The claim is in the log before the effect starts: from here on it happens at most once.
        if not await context.commit([telling.claimed(context.instance, self._process)]):
            return self._too_late(telling, context)
        # A pause between the two may have been long enough for others to take over: whatever they found is their word then.
        if not await context.still_ours():
            own.outcome = Ended("failed", "it was not run")
            return self._not_begun(telling)
        if own.stopped_by:
            return self._ended(telling, own, Proof(False, "it had not begun"))
        reads_only = grant.target is None and approved is not None and approved.statement_class == "read"
        return await self._effect(_Effect(telling, run, digest, room, reads_only), own)

    async def _digest_now(self, run: RunCode, context: Context) -> str:
        """Tables may have moved by so many versions; all else must be as it was approved. Raises GrantRefused."""
        grant = run.grant
        then = dry_run_of(grant, context.conversation)
        if then is None:
            raise GrantRefused("grant.dry_run", "this conversation holds no dry run with the digest of the grant")
        now = await self._engine.dry_run(_statement(run))
        for table in sorted(then.table_versions.keys() | now.table_versions.keys()):
            before, after = then.table_versions.get(table), now.table_versions.get(table)
            if before is None or after is None or not 0 <= after - before <= grant.table_drift:
                raise GrantRefused(MOVED, f"{_moved(table, before, after)}; {grant.table_drift} versions are allowed")
        different = [
            what
            for what, was, is_ in (
                ("class", then.statement_class, now.statement_class),
                ("columns", then.columns, list(now.columns)),
                ("target", then.writes, now.writes),
                ("plan", then.plan, storable(now.plan, PLAN)),
            )
            if was != is_
        ]
        if different:
            raise GrantRefused(MOVED, f"since the dry run that was approved, its {', '.join(different)} changed")
        return now.digest

    def _too_late(self, telling: Telling, context: Context) -> list[Outgoing]:
        """The log has decided otherwise, between our look and our claim."""
        claim = context.claims.get(telling.run.grant.grant_id)
        if claim is not None and claim.kind == GrantRevoked.kind():
            revoked = GrantRevoked.model_validate_json(claim.content)
            return telling.refused("grant.revoked", f"{revoked.actor} took the grant back")
        return telling.refused("grant.used", f"grant {telling.run.grant.grant_id} was used already")

    # --- the effect --------------------------------------------------------------------------------------------------

    async def _effect(self, effect: _Effect, own: UnderWay) -> list[Outgoing]:
        telling, grant_id = effect.telling, effect.run.grant.grant_id
        running = self._engine.run(_statement(effect.run), grant_id, self._limits.rows, digest=effect.digest)
        try:
            done = await own.carry_out(running)
        except StatementRefused as error:
            if error.rule == MOVED:
                return await self._moved_meanwhile(telling, error)
            return self._ended(telling, own, Proof(False, str(error)), str(error))
        except StatementFailed as error:
            return self._ended(telling, own, Proof(False, str(error)), str(error))
        except Exception as error:  # OutcomeUnknown, or what no engine should raise: it may have happened
            reason = str(error) if isinstance(error, OutcomeUnknown) else f"{type(error).__name__}: {error}"
            grant = effect.run.grant
            proof = await self._prover.proof(grant_id, grant.target, over=own.is_over, since=grant.issued_at)
            if proof is None and effect.reads_only:
                proof = Proof(False, "it only reads, and has no target")
            return self._ended(telling, own, proof, reason)
        own.outcome = Ended("done", "it was done before it could be ended" if own.stopped_by else "")
        return self._done(effect, done)

    def _ended(self, telling: Telling, own: UnderWay, proof: Proof | None, reason: str = "") -> list[Outgoing]:
        """It did not end well: cancelled, failed, or done after all, as far as that is proven; else in doubt."""
        if own.stopped_by:
            reason = f"{own.stopped_by} ended it" + (f": {own.why}" if own.why else "")
        if proof is None:
            own.outcome = Ended("in_doubt", reason)
            return self._in_doubt(telling, reason)
        if proof.happened:
            own.outcome = Ended("done", proof.said)
            return self._done_by_proof(telling, proof, reason)
        by_person = bool(own.stopped_by) and own.stopped_by != "the time limit"
        own.outcome = Ended("cancelled" if by_person else "failed", reason)
        rule = "execution.cancelled" if by_person else "execution.timeout" if own.stopped_by else "execution.failed"
        return [
            telling.settled(
                own.outcome.step, reason=reason, proof=proof.said if own.stopped_by or proof.said != reason else ""
            ),
            *telling.failed(rule, reason),
        ]

    async def _moved_meanwhile(self, telling: Telling, error: StatementRefused) -> list[Outgoing]:
        """The engine found another dry run than the approved one, and ran nothing. Which tables moved is for people."""
        reason = error.reason
        try:
            now: DryRun = await self._engine.dry_run(_statement(telling.run))
            then = telling.run.grant.table_versions
            moved = [t for t in sorted(now.table_versions.keys() | then) if now.table_versions.get(t) != then.get(t)]
            changes = ", ".join(_moved(t, then.get(t), now.table_versions.get(t)) for t in moved)
            reason = f"since the dry run that was approved, {changes or 'the plan has changed'}; ask again"
        except (StatementRefused, StatementFailed):
            log.info("execution.cannot_compare", grant=telling.run.grant.grant_id)
        return [telling.settled("failed", reason=reason), *telling.sent_back(MOVED, reason)]

    def _done(self, effect: _Effect, done: Executed) -> list[Outgoing]:
        telling, grant = effect.telling, effect.run.grant
        kept = bounded(done.result, effect.room)
        told = self._code_run(
            telling, kept, done.row_count, done.table, done.table_version, reference=done.reference, output=done.output
        )
        facts = {
            "table": done.table,
            "table_version": done.table_version,
            "table_version_before": done.table_version_before,
            "rows": done.row_count,
            "engine_ms": round(done.elapsed_ms),
        }
        return [
            telling.settled(
                "done",
                row_count=done.row_count,
                table_version=done.table_version,
                table_version_before=done.table_version_before,
            ),
            telling.fact("execution.done", "done", grant.rule, **facts),
            telling.answer(told),
        ]

    def _code_run(
        self,
        telling: Telling,
        rows: Rows,
        count: int | None,
        table: str | None,
        version: int | None,
        *,
        reference: str | None = None,
        proof: str = "",
        output: str = "",
    ) -> CodeRun:
        run, grant = telling.run, telling.run.grant
        return CodeRun(
            grant_id=grant.grant_id,
            question=run.question,
            code=run.code.text,
            result=Result(
                columns=list(rows.columns),
                rows=[list(row) for row in rows.rows],
                truncated=rows.truncated,
                table=table,
                table_version=version,
                reference=reference,
            ),
            row_count=count,
            requester=grant.requester,
            approved_by=grant.approved_by,
            proof=proof,
            output=storable(output, OUTPUT),
        )

    # --- after a crash -----------------------------------------------------------------------------------------------

    async def _recovered(self, telling: Telling, claim: Message) -> list[Outgoing]:
        """We, or an instance before us, claimed this and died: whether it ran, the log of the bus does not know."""
        claimed = ExecutionClaimed.model_validate_json(claim.content)
        reason = f"it was claimed by {claimed.instance}, and no outcome was recorded"
        over = self.is_over(claimed)
        grant = telling.run.grant
        proof = await self._prover.proof(claimed.grant_id, grant.target, over=over, since=grant.issued_at)
        if proof is None:
            return self._in_doubt(telling, reason)
        if proof.happened:
            return self._done_by_proof(telling, proof, reason)
        return [
            telling.settled("failed", reason=reason, proof=proof.said, settled_by=self._name),
            *telling.failed("execution.failed", f"It was not run: {proof.said}. Ask again for another grant."),
        ]

    def _done_by_proof(self, telling: Telling, proof: Proof, reason: str) -> list[Outgoing]:
        nothing = Rows((), (), True)
        target = telling.run.grant.target
        told = self._code_run(telling, nothing, None, target, proof.table_version, proof=proof.said)
        return [
            telling.settled(
                "done",
                reason=reason,
                proof=proof.said,
                settled_by=self._name,
                table_version=proof.table_version,
                table_version_before=proof.table_version_before,
            ),
            telling.fact("execution.done", "done", telling.run.grant.rule, reason, proof=proof.said, table=target),
            telling.answer(told),
        ]

    def _not_begun(self, telling: Telling) -> list[Outgoing]:
        reason = "it was not run: this instance had slept, and others had ended its lease; ask again for another grant"
        return [telling.settled("failed", reason=reason), *telling.failed("execution.lease_lost", reason)]

    def _in_doubt(self, telling: Telling, reason: str) -> list[Outgoing]:
        told = f"Whether it ran is not known ({reason}). It is not run again by itself: a person has to settle it."
        return [
            telling.settled("in_doubt", reason=reason),
            *telling.failed("execution.in_doubt", told, "execution.in_doubt"),
        ]


def _statement(run: RunCode) -> Statement:
    return Statement(run.code.language, run.code.text, run.grant.target, tuple(run.grant.reads))


def _moved(table: str, before: int | None, after: int | None) -> str:
    if before is None:
        return f"{table} is there, and was not"
    if after is None:
        return f"{table} is gone"
    return f"{table} moved from version {before} to {after}"

"""A person's word on an execution: to end one that runs, and to say what became of one that is in doubt."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from schemas.envelope import USER, Message
from schemas.payloads import (
    CancelExecution,
    ExecutionAnswered,
    ExecutionClaimed,
    ExecutionSettled,
    GrantRevoked,
    SettleExecution,
)
from workers.execution.limits import storable
from workers.execution.proofs import Prover
from workers.execution.runs import Runs
from workers.execution.under_way import END_S
from workers.ports import Roles
from workers.runtime.base import Context, Outgoing, Received, audit, event, reply

PERMISSION = "execution.approve"


class NoRoles:
    """Where nobody has a role: a person may end their own execution, and that is all."""

    def role_of(self, user: str) -> str:
        return "none"

    def allows(self, user_or_role: str, permission: str) -> bool:
        return False

    def is_bot(self, user: str) -> bool:
        return False


@dataclass(frozen=True)
class _Verdict:
    accepted: bool
    rule: str
    reason: str


class _No(Exception):
    def __init__(self, rule: str, reason: str) -> None:
        self.rule, self.reason = rule, reason
        super().__init__(reason)


class People:
    def __init__(self, name: str, roles: Roles, runs: Runs, prover: Prover) -> None:
        self._name = name
        self._roles = roles
        self._runs = runs
        self._prover = prover

    # --- cancel ------------------------------------------------------------------------------------------------------

    async def cancel(self, said: CancelExecution, message: Received, context: Context) -> list[Outgoing]:
        """It comes in a conversation of its own, so that it need not wait for the very run it ends."""
        actor = _person(message)
        try:
            claimed = self._may_cancel(said.grant_id, actor, context)
            verdict = await self._cancelled(claimed, actor, said.reason)
        except _No as error:
            verdict = _Verdict(False, error.rule, error.reason)
        return self._answered("execution.cancel", said.grant_id, actor, said.reason, verdict, message)

    def _may_cancel(self, grant_id: str, actor: str, context: Context) -> ExecutionClaimed:
        if not actor:
            raise _No("execution.not_a_person", "only a person may end an execution")
        claim = context.claims.get(grant_id)
        if claim is None:
            raise _No("execution.not_begun", f"nothing has begun under {grant_id}; the grant itself can be revoked")
        if claim.kind == GrantRevoked.kind():
            raise _No("grant.revoked", f"{grant_id} was revoked before anything began under it")
        claimed = ExecutionClaimed.model_validate_json(claim.content)
        if actor != claimed.requester and not self._may_decide(actor):
            reason = f"{claimed.requester} asked for it, and {actor}'s role does not allow {PERMISSION}"
            raise _No(f"rbac.{PERMISSION}", reason)
        return claimed

    async def _cancelled(self, claimed: ExecutionClaimed, actor: str, reason: str) -> _Verdict:
        own = self._runs.under_way.get(claimed.grant_id)
        if own is None:
            reason = "it does not run in this process: it has ended, is in doubt, or runs on another machine"
            raise _No("execution.not_running", f"{reason} (it was claimed by {claimed.instance})")
        await own.stop(actor, reason)
        try:
            async with asyncio.timeout(END_S):
                await own.ended.wait()
        except TimeoutError:
            return _Verdict(True, "execution.ending", f"it was told to end, and has not within {END_S:g} s")
        outcome = own.outcome
        if outcome.step == "done":
            return _Verdict(False, "execution.done", f"too late: {outcome.reason}")
        if outcome.step == "in_doubt":
            reason = "it was ended, and whether it had its effect is not known: it is in doubt, and has to be settled"
            return _Verdict(True, "execution.in_doubt", reason)
        return _Verdict(True, f"execution.{outcome.step}", "it was ended, and changed nothing")

    # --- settle ------------------------------------------------------------------------------------------------------

    async def settle(self, said: SettleExecution, message: Received, context: Context) -> list[Outgoing]:
        """Said in the conversation of the execution: its log order decides between two who settle at once."""
        actor = _person(message)
        settled: list[Outgoing] = []
        try:
            claimed, row = self._may_settle(said, actor, context)
            verdict, settled = await self._settled(said, claimed, row, actor)
        except _No as error:
            verdict = _Verdict(False, error.rule, error.reason)
        return [*settled, *self._answered("execution.settled", said.grant_id, actor, said.reason, verdict, message)]

    def _may_settle(self, said: SettleExecution, actor: str, context: Context) -> tuple[ExecutionClaimed, Message]:
        if not actor:
            raise _No("execution.not_a_person", "only a person may settle an execution")
        row, last = self._known(said.grant_id, context)
        if row is None:
            raise _No("execution.unknown", f"this conversation holds no execution under {said.grant_id}")
        claimed = ExecutionClaimed.model_validate_json(row.content)
        if actor == claimed.requester:
            raise _No("execution.four_eyes", f"{actor} asked for it; another person has to settle it")
        if not self._may_decide(actor):
            raise _No(f"rbac.{PERMISSION}", f"{actor}'s role does not allow {PERMISSION}")
        if last is not None and last.step != "in_doubt":
            by = f", settled by {last.settled_by}" if last.settled_by else ""
            raise _No("execution.settled", f"it is not in doubt: it is {last.step}{by}")
        if said.grant_id in self._runs.under_way or (last is None and not self._runs.is_over(claimed)):
            raise _No("execution.running", f"it may still run ({claimed.instance}): it can be cancelled, not settled")
        if not said.reason.strip():
            raise _No("execution.reason", "say how it is known: the reason is kept with the outcome")
        return claimed, row

    def _known(self, grant_id: str, context: Context) -> tuple[Message | None, ExecutionSettled | None]:
        """The claim of this grant in this conversation, and the newest word on its outcome."""
        claim: Message | None = None
        last: ExecutionSettled | None = None
        for row in context.conversation:
            if row.from_agent != self._name or row.message_type != "event":
                continue
            if row.kind == ExecutionClaimed.kind():
                if ExecutionClaimed.model_validate_json(row.content).grant_id == grant_id:
                    claim = row
            elif row.kind == ExecutionSettled.kind():
                settled = ExecutionSettled.model_validate_json(row.content)
                last = settled if settled.grant_id == grant_id else last
        return claim, last

    async def _settled(
        self, said: SettleExecution, claimed: ExecutionClaimed, row: Message, actor: str
    ) -> tuple[_Verdict, list[Outgoing]]:
        """Where the target proves it, the proof decides, whatever the person says."""
        over = self._runs.is_over(claimed)
        proof = await self._prover.proof(claimed.grant_id, claimed.target, over=over, since=row.timestamp)
        outcome: dict[str, object] = {"step": said.outcome, "settled_by": actor, "reason": storable(said.reason)}
        verdict = _Verdict(True, "execution.settled", f"it is {said.outcome}, on {actor}'s word")
        if proof is not None:
            outcome["proof"] = proof.said
            if proof.happened:
                outcome |= {
                    "table_version": proof.table_version,
                    "table_version_before": proof.table_version_before,
                }
            verdict = _Verdict(True, "execution.proven", f"it is {said.outcome}: {proof.said}")
        if proof is not None and proof.word != said.outcome:
            outcome |= {"step": proof.word, "settled_by": self._name}
            outcome["reason"] = f"{actor} said {said.outcome}, which the target contradicts"
            reason = f"it is {proof.word}, not {said.outcome}: {proof.said}"
            verdict = _Verdict(False, "execution.proven", f"{reason}; it is settled so")
        kept = claimed.model_dump(exclude={"instance", "process"})
        return verdict, [event(ExecutionSettled.model_validate(kept | outcome))]

    # --- both --------------------------------------------------------------------------------------------------------

    def _may_decide(self, actor: str) -> bool:
        return self._roles.allows(actor, PERMISSION) and not self._roles.is_bot(actor)

    def _answered(
        self, action: str, grant_id: str, actor: str, said: str, verdict: _Verdict, message: Received
    ) -> list[Outgoing]:
        reason = storable(verdict.reason)
        answer = ExecutionAnswered(grant_id=grant_id, accepted=verdict.accepted, rule=verdict.rule, reason=reason)
        decision = "done" if verdict.accepted else "refused"
        facts = {"grant": grant_id, "actor": actor, "said": storable(said)}
        return [audit(action, decision, rule=verdict.rule, reason=reason, **facts), reply(message, answer)]


def _person(message: Received) -> str:
    """Whose word it is: only the signature of the row says that. Empty for an agent."""
    return message.sender.removeprefix(USER) if message.sender.startswith(USER) else ""

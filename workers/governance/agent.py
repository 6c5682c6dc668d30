"""GovernanceAgent: the gate. Nothing is executed but under a grant that this agent signs after another person approved."""

from __future__ import annotations

import uuid

from schemas.envelope import USER, Message
from schemas.payloads import (
    ApprovalDecided,
    ApprovalRequested,
    CodeDryRun,
    Decide,
    DecisionAnswered,
    DryRunCode,
    ExpireApprovals,
    Failed,
    Grant,
    Refused,
    RequestExecution,
    RunCode,
)
from workers.governance.approvals import Approval, approvals
from workers.governance.policy import Verdict, may_decide, may_request, needs_approval
from workers.ports import Roles
from workers.runtime.base import Context, Outgoing, Received, Worker, audit, event, reply, request
from workers.runtime.clock import micros

EXECUTOR = "ExecutionAgent"


class GovernanceAgent(Worker):
    """RequestExecution -> dry run -> approval by another person -> RunCode with a grant; or Refused."""

    handles = (RequestExecution, CodeDryRun, Failed, Refused, Decide, ExpireApprovals)

    def __init__(self, roles: Roles, approval_ttl_s: float = 3600.0, grant_ttl_s: float = 900.0) -> None:
        self._roles = roles
        self._approval_ttl = round(approval_ttl_s * 1_000_000)
        self._grant_ttl = round(grant_ttl_s * 1_000_000)

    async def handle(self, message: Received, context: Context) -> list[Outgoing]:
        match message.payload:
            case RequestExecution() as asked:
                return self._requested(asked, message, context)
            case CodeDryRun() as dry_run:
                return self._dry_run(dry_run, message, context)
            case Failed() | Refused() as outcome:
                return self._dry_run_failed(outcome, message, context)
            case Decide() as decision:
                return self._decide(decision, message, context)
            case ExpireApprovals(approval_id=approval_id):
                return self._expire(approval_id, message, context)
        raise TypeError(f"no way to handle {type(message.payload).__name__}")

    # --- the request -------------------------------------------------------------------------------------------------

    def _requested(self, asked: RequestExecution, message: Received, context: Context) -> list[Outgoing]:
        verdict = may_request(asked, context.principal or "", self._roles)
        if message.sender.startswith(USER) and message.sender != USER + (context.principal or ""):
            # Or one person could ask in another's conversation, and approve it: four eyes, all of them the same person's.
            reason = f"this is {context.principal}'s conversation; ask in one of your own"
            verdict = Verdict(False, "principal.other", reason)
        if not verdict.allowed:
            return [
                _fact("execution.requested", verdict),
                reply(message, Refused(rule=verdict.rule, reason=verdict.reason)),
            ]
        return [
            _fact("execution.requested", verdict, target=asked.target),
            request(EXECUTOR, DryRunCode(code=asked.code, target=asked.target)),
        ]

    def _dry_run(self, dry_run: CodeDryRun, message: Received, context: Context) -> list[Outgoing]:
        origin = self._request_behind(message.message, context)
        if origin is None or message.sender != EXECUTOR:
            return [audit("dry_run.ignored", "refused", rule="dry_run.unasked", sender=message.sender)]
        asked = RequestExecution.model_validate_json(origin.content)
        verdict = needs_approval(dry_run)
        if not verdict.allowed:
            return [
                _fact("execution.denied", verdict),
                _answer(origin, Refused(rule=verdict.rule, reason=verdict.reason)),
            ]
        approval_id = f"apr-{uuid.uuid5(uuid.NAMESPACE_OID, message.message.message_id).hex[:12]}"
        expires_at = micros(context.now) + self._approval_ttl
        wanted = ApprovalRequested(
            approval_id=approval_id,
            requester=context.principal or "",
            question=asked.question,
            code=asked.code,
            target=asked.target,
            digest=dry_run.digest,
            plan=dry_run.plan,
            rule=verdict.rule,
            expires_at=expires_at,
        )
        return [
            event(wanted),
            _fact("approval.requested", verdict, approval_id=approval_id, digest=dry_run.digest, target=asked.target),
            # The bus is the clock's memory: whoever runs governance then will find it.
            request(self.name, ExpireApprovals(approval_id=approval_id), not_before=expires_at),
        ]

    def _dry_run_failed(self, outcome: Failed | Refused, message: Received, context: Context) -> list[Outgoing]:
        origin = self._request_behind(message.message, context)
        if origin is None or message.sender != EXECUTOR:
            return [audit("dry_run.ignored", "refused", rule="dry_run.unasked", sender=message.sender)]
        decision = "refused" if isinstance(outcome, Refused) else "failed"
        return [
            audit("execution.denied", decision, rule=outcome.rule, reason=outcome.reason),
            _answer(origin, outcome),
        ]

    # --- the decision ------------------------------------------------------------------------------------------------

    def _decide(self, decision: Decide, message: Received, context: Context) -> list[Outgoing]:
        actor = message.sender.removeprefix(USER) if message.sender.startswith(USER) else ""
        approval = approvals(context.conversation).get(decision.approval_id)
        verdict = self._may(decision, actor, approval, context)
        answer = DecisionAnswered(
            approval_id=decision.approval_id, accepted=verdict.allowed, rule=verdict.rule, reason=verdict.reason
        )
        facts = {"approval_id": decision.approval_id, "actor": actor, "said": decision.reason}
        if not verdict.allowed or approval is None:
            return [_fact("approval.refused", verdict, **facts), reply(message, answer)]
        if decision.decision == "reject":
            reason = f"{actor} rejected it" + (f": {decision.reason}" if decision.reason else "")
            return [
                event(
                    ApprovalDecided(approval_id=approval.id, decision="rejected", actor=actor, reason=decision.reason)
                ),
                _fact("approval.rejected", verdict, **facts),
                self._refuse(approval, context, "approval.rejected", reason),
                reply(message, answer),
            ]
        grant = self._grant(approval, actor, verdict, context)
        run = RunCode(
            grant=grant,
            question=approval.requested.question,
            code=approval.requested.code,
            reply_to=self._asker(approval, context).from_agent,
        )
        return [
            event(ApprovalDecided(approval_id=approval.id, decision="approved", actor=actor, reason=decision.reason)),
            _fact("grant.issued", verdict, **facts, grant=grant.model_dump()),
            request(EXECUTOR, run, priority=8),
            reply(message, answer),
        ]

    def _may(self, decision: Decide, actor: str, approval: Approval | None, context: Context) -> Verdict:
        if not actor:
            return Verdict(False, "approval.not_a_person", "only a person may decide on an approval")
        if approval is None:
            return Verdict(
                False, "approval.unknown", f"there is no approval {decision.approval_id} in this conversation"
            )
        if approval.decided is not None:
            return Verdict(
                False, "approval.decided", f"it was {approval.decided.decision} already, by {approval.decided.actor}"
            )
        if approval.requested.expires_at < micros(context.now):
            return Verdict(False, "approval.expired", "the approval has expired; ask again")
        if approval.requested.digest != decision.digest:
            return Verdict(
                False, "approval.digest", "the decision is about another dry run than the one that was asked about"
            )
        return may_decide(actor, approval.requested.requester, self._roles)

    def _grant(self, approval: Approval, actor: str, verdict: Verdict, context: Context) -> Grant:
        dry_run = next(
            CodeDryRun.model_validate_json(m.content)
            for m in reversed(context.conversation)
            if m.kind == CodeDryRun.kind() and m.from_agent == EXECUTOR and approval.requested.digest in m.content
        )
        issued = micros(context.now)
        return Grant(
            # One approval, one grant: however often it is issued, it can be claimed once.
            grant_id=f"grant-{uuid.uuid5(uuid.NAMESPACE_OID, approval.id).hex[:12]}",
            approval_id=approval.id,
            code_sha256=dry_run.code_sha256,
            dialect=approval.requested.code.language,
            target=approval.requested.target,
            dry_run_digest=dry_run.digest,
            table_versions=dry_run.table_versions,
            requester=approval.requested.requester,
            approved_by=actor,
            rule=verdict.rule,
            issued_at=issued,
            expires_at=issued + self._grant_ttl,
        )

    def _expire(self, approval_id: str, message: Received, context: Context) -> list[Outgoing]:
        approval = approvals(context.conversation).get(approval_id)
        if message.sender != self.name or approval is None or approval.decided is not None:
            return []
        reason = "nobody decided in time"
        return [
            event(ApprovalDecided(approval_id=approval_id, decision="expired", actor=self.name, reason=reason)),
            audit("approval.expired", "refused", rule="approval.expired", reason=reason, approval_id=approval_id),
            self._refuse(approval, context, "approval.expired", f"{reason}; ask again"),
        ]

    # --- who asked ---------------------------------------------------------------------------------------------------

    def _request_behind(self, dry_run: Message, context: Context) -> Message | None:
        """The RequestExecution whose dry run this answers: two causes back."""
        by_id = {m.message_id: m for m in context.conversation}
        asked = by_id.get(dry_run.causation_id or "")
        origin = by_id.get(asked.causation_id or "") if asked is not None else None
        return origin if origin is not None and origin.kind == RequestExecution.kind() else None

    def _asker(self, approval: Approval, context: Context) -> Message:
        by_id = {m.message_id: m for m in context.conversation}
        origin = self._request_behind(by_id[approval.message.causation_id or ""], context)
        assert origin is not None  # the approval was asked for by this very agent
        return origin

    def _refuse(self, approval: Approval, context: Context, rule: str, reason: str) -> Outgoing:
        return _answer(self._asker(approval, context), Refused(rule=rule, reason=reason))


def _answer(origin: Message, payload: Refused | Failed) -> Outgoing:
    return Outgoing(origin.from_agent, payload, "response", causation_id=origin.message_id)


def _fact(action: str, verdict: Verdict, **details: object) -> Outgoing:
    decision = "allowed" if verdict.allowed else "refused"
    return audit(action, decision, rule=verdict.rule, reason=verdict.reason, **details)

"""Clocks: what happens to an approval while nobody decides. Each is a message of governance to itself, due later."""

from __future__ import annotations

from schemas.payloads import (
    ApprovalDecided,
    ApprovalEscalated,
    ApprovalReminded,
    EscalateApproval,
    ExpireApprovals,
    RemindApprovers,
)
from workers.governance.approvals import AUTHORITY, Approval, approvals
from workers.governance.matters import matter_behind
from workers.governance.office import Office
from workers.governance.voting import in_words
from workers.runtime.base import Context, Outgoing, Received, event

Clock = RemindApprovers | EscalateApproval | ExpireApprovals


def rung(office: Office, clock: Clock, message: Received, context: Context) -> list[Outgoing]:
    """Nothing, if it was decided meanwhile, or somebody else rang."""
    approval = approvals(context.conversation).get(clock.approval_id)
    if message.sender != AUTHORITY or approval is None or approval.decided is not None:
        return []
    match clock:
        case RemindApprovers():
            return _remind(office, approval)
        case EscalateApproval():
            return _escalate(office, approval)
        case ExpireApprovals():
            return _expire(office, approval, context)


def _remind(office: Office, approval: Approval) -> list[Outgoing]:
    reminded = ApprovalReminded(approval_id=approval.id, waiting_for=[need.group for need in approval.remaining])
    reason = f"still needed: {in_words(approval.remaining)}"
    return [
        event(reminded),
        office.fact("approval.reminded", "done", approval.requested.rule, reason, approval_id=approval.id),
    ]


def _escalate(office: Office, approval: Approval) -> list[Outgoing]:
    to = approval.requested.escalates_to
    reason = f"nobody decided in time; {', '.join(need.group for need in to)} may decide as well"
    return [
        event(ApprovalEscalated(approval_id=approval.id, to=to)),
        office.fact("approval.escalated", "done", approval.requested.rule, reason, approval_id=approval.id),
    ]


def _expire(office: Office, approval: Approval, context: Context) -> list[Outgoing]:
    rule, reason = "approval.expired", "nobody decided in time"
    if approval.votes:
        reason += f"; still needed: {in_words(approval.remaining)}"
    return [
        event(ApprovalDecided(approval_id=approval.id, decision="expired", actor=AUTHORITY, reason=reason)),
        office.fact(rule, "refused", rule, reason, approval_id=approval.id, asked_by=approval.requested.rule),
        matter_behind(approval, context.conversation).refuse(rule, f"{reason}; ask again"),
    ]

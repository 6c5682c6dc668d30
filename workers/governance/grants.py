"""Grants: governance's permission for one effect, issued and taken back."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from schemas.envelope import Message
from schemas.payloads import (
    ApprovalGranted,
    ExecutionAnswered,
    Grant,
    GrantRevoked,
    RevokeGrant,
    RunCode,
)
from workers.governance.approvals import AUTHORITY, Approval, approvals
from workers.governance.delegations import person
from workers.governance.matters import EXECUTOR, Matter, matter_granted
from workers.governance.office import DECIDING, Office
from workers.runtime.base import Context, Outgoing, Received, event, reply, request
from workers.runtime.clock import micros

#: Who approved what a rule of the policy allows by itself.
BY_POLICY = "policy"
REVOKED = "grant.revoked"


@dataclass(frozen=True)
class Issue:
    """Why a grant is issued. `approval` None: a rule of the policy allows it by itself."""

    rule: str
    reason: str
    approval: Approval | None = None
    approvers: tuple[str, ...] = ()


def grant_of(office: Office, matter: Matter, issue: Issue, now: int) -> Grant:
    approval = issue.approval
    # One approval, one grant: however often it is issued, it can be claimed once.
    seed = matter.evidence.message_id if approval is None else approval.id
    ttl = office.grant_ttl_s if approval is None else min(approval.requested.grant_ttl_s, office.grant_ttl_s)
    return Grant(
        grant_id=f"grant-{uuid.uuid5(uuid.NAMESPACE_OID, seed).hex[:12]}",
        approval_id=None if approval is None else approval.id,
        code_sha256=matter.code_sha256,
        dialect=matter.code.language if matter.subject == "execution" else matter.subject,
        target=matter.target,
        dry_run_digest=matter.digest,
        table_versions=matter.table_versions,
        requester=matter.origin.principal or "",
        approved_by=issue.approvers[-1] if issue.approvers else BY_POLICY,
        rule=issue.rule,
        issued_at=now,
        expires_at=now + round(ttl * 1_000_000),
        subject=matter.subject,
        policy=office.policy.digest,
        environment=office.environment,
        approvers=list(issue.approvers),
        table_drift=0 if approval is None else approval.requested.table_drift,
        reads=list(matter.reads),
        undoes=matter.undoes,
    )


def issue(office: Office, matter: Matter, why: Issue, context: Context, **facts: object) -> list[Outgoing]:
    """The grant, to whoever uses it."""
    grant = grant_of(office, matter, why, micros(context.now))
    fact = office.fact("grant.issued", "allowed", why.rule, why.reason, **facts, grant=grant.model_dump())
    if matter.subject != "execution":
        return [fact, matter.answer(ApprovalGranted(grant=grant))]
    run = RunCode(grant=grant, question=matter.question, code=matter.code, reply_to=matter.origin.from_agent)
    return [fact, request(EXECUTOR, run, priority=8)]


def granted(grant_id: str, conversation: Sequence[Message]) -> Grant | None:
    """A grant that governance issued in this conversation."""
    for message in reversed(conversation):
        if message.from_agent == AUTHORITY and message.kind in (RunCode.kind(), ApprovalGranted.kind()):
            model = RunCode if message.kind == RunCode.kind() else ApprovalGranted
            found = model.model_validate_json(message.content).grant
            if found.grant_id == grant_id:
                return found
    return None


async def revoke(office: Office, asked: RevokeGrant, message: Received, context: Context) -> list[Outgoing]:
    """Take a grant back. The log says whether it was used before: the revocation stands where its claim would."""
    actor = person(message)
    grant = granted(asked.grant_id, context.conversation)
    rule, reason = _may_revoke(office, actor, grant, asked.grant_id, context)
    facts = {"grant_id": asked.grant_id, "actor": actor, "said": asked.reason}
    earlier = _revocation(asked.grant_id, context.conversation)
    if not rule and earlier is not None and earlier.causation_id != message.message.message_id:
        rule, reason = REVOKED, "it was taken back already"
    if rule or grant is None:
        answer = ExecutionAnswered(grant_id=asked.grant_id, accepted=False, rule=rule, reason=reason)
        return [office.fact("revocation.refused", "refused", rule, reason, **facts), reply(message, answer)]
    if earlier is None:
        matter = matter_granted(grant, context.conversation)
        executor = EXECUTOR if matter is None else matter.executor
        gone = GrantRevoked(grant_id=grant.grant_id, executor=executor, actor=actor, reason=asked.reason)
        said = office.fact(REVOKED, "done", REVOKED, f"{actor} took it back", **facts)
        # In the log before the answer, which must not promise what a claim has overtaken.
        if not await context.commit([event(gone), said]):
            rule, reason = "grant.used", "it was used before it could be taken back"
            answer = ExecutionAnswered(grant_id=grant.grant_id, accepted=False, rule=rule, reason=reason)
            return [office.fact("revocation.refused", "refused", rule, reason, **facts), reply(message, answer)]
    reason = "it was taken back before it was used; it can never be used"
    return [reply(message, ExecutionAnswered(grant_id=grant.grant_id, accepted=True, rule=REVOKED, reason=reason))]


def _may_revoke(office: Office, actor: str, grant: Grant | None, grant_id: str, context: Context) -> tuple[str, str]:
    """The rule that refuses it, or ""."""
    if not actor:
        return "grant.not_a_person", "only a person may take a grant back"
    if grant is None:
        return "grant.unknown", f"there is no grant {grant_id} in this conversation"
    if actor == grant.requester or office.roles.allows(actor, DECIDING[grant.subject]):
        return "", ""
    approval = approvals(context.conversation).get(grant.approval_id or "")
    if approval is not None and office.electorate.may_fill(
        actor, approval.requested.needs, approval.escalated.to if approval.escalated else ()
    ):
        return "", ""
    return f"rbac.{DECIDING[grant.subject]}", f"{actor} neither asked for it nor may decide on it"


def _revocation(grant_id: str, conversation: Sequence[Message]) -> Message | None:
    for message in conversation:
        if (
            message.kind == GrantRevoked.kind()
            and message.from_agent == AUTHORITY
            and GrantRevoked.model_validate_json(message.content).grant_id == grant_id
        ):
            return message
    return None

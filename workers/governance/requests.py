"""Requests: what may be asked at all, what its dry run says, and what the policy makes of both."""

from __future__ import annotations

import uuid
from dataclasses import replace

from schemas.envelope import EVERYONE, USER, Message
from schemas.payloads import (
    ApprovalRequested,
    CodeDryRun,
    DryRunCode,
    EscalateApproval,
    ExpireApprovals,
    Failed,
    Refused,
    RemindApprovers,
    RequestApproval,
    RequestExecution,
    RunCode,
)
from workers.governance.approvals import AUTHORITY
from workers.governance.grants import Issue, issue
from workers.governance.matters import EXECUTOR, Matter, failed_dry_run, matter_granted, matter_of
from workers.governance.office import TAKING_AWAY, Office, confidence
from workers.governance.policy import Decision
from workers.runtime.base import Context, Outgoing, Received, audit, reply, request
from workers.runtime.clock import micros

#: Dry runs of one request: the first, and those after its tables had moved under an approval.
DRY_RUNS = 3
#: Their dry run runs them on copies of what they declare to read: a rule that keeps somebody from a table comes before it.
PROGRAMS = ("python", "pyspark")
#: What the executor says when the tables have moved more than the grant allows.
MOVED = "grant.dry_run_changed"


def execution_requested(office: Office, asked: RequestExecution, message: Received, context: Context) -> list[Outgoing]:
    """Refused at once, or tried first."""
    refused = _another_persons(message, context) or office.may_ask("execution", context)
    if refused is not None:
        return _refused_at_once(office, "execution.requested", *refused, message)
    question = replace(
        office.question("execution", context),
        language=asked.code.language,
        confidence=confidence(asked.confidence, message.sender),
    )
    if asked.code.language in PROGRAMS:
        question = replace(question, reads=dict.fromkeys(asked.reads, office.policy.every_column))
    decision = office.policy.before_dry_run(question)
    if decision.effect == "deny":
        return _refused_at_once(office, "execution.requested", decision.rule, decision.reason, message)
    return [
        office.decided("execution.requested", decision, target=asked.target),
        request(EXECUTOR, DryRunCode(code=asked.code, target=asked.target, reads=asked.reads)),
    ]


def approval_requested(office: Office, asked: RequestApproval, message: Received, context: Context) -> list[Outgoing]:
    """What is no code needs no dry run: its digest says exactly what it is."""
    refused = _another_persons(message, context) or office.may_ask(asked.subject, context)
    if asked.subject == "execution":
        refused = "approval.subject", "code is asked for with RequestExecution, so that it is tried first"
    if refused is not None:
        return _refused_at_once(office, "approval.asked", *refused, message)
    matter = matter_of(message.message, context.conversation)
    assert matter is not None
    return settled(office, matter, context)


def dry_run_done(office: Office, message: Received, context: Context) -> list[Outgoing]:
    matter = matter_of(message.message, context.conversation)
    if matter is None:
        return _unasked(message)
    return settled(office, matter, context, _again(message.message, context))


def settled(office: Office, matter: Matter, context: Context, again: str = "") -> list[Outgoing]:
    """What the policy says, done: a refusal, a grant, or people are asked. `again`: why they are asked once more."""
    decision = decided(office, matter, context)
    facts = {"subject": matter.subject, "digest": matter.digest, "target": matter.target}
    if decision.effect == "deny":
        fact = office.decided("execution.denied" if matter.subject == "execution" else "approval.denied", decision)
        return [fact, matter.refuse(decision.rule, decision.reason)]
    if decision.effect == "allow":
        return issue(office, matter, Issue(decision.rule, decision.reason), context, **facts)
    return _asked(office, matter, decision, context, again, facts)


def decided(office: Office, matter: Matter, context: Context) -> Decision:
    """Of everything that is known now."""
    question = office.question(matter.subject, context)
    if matter.subject != "execution":
        asked = RequestApproval.model_validate_json(matter.origin.content)
        said = confidence(asked.confidence, matter.origin.from_agent)
        return office.policy.decide(replace(question, confidence=said))
    if matter.statement_class in TAKING_AWAY and not office.roles.allows(question.principal, "sql.delete"):
        reason = f"{question.principal}'s role does not allow sql.delete, which a {matter.statement_class} takes"
        return Decision("deny", "rbac.sql.delete", reason, office.policy.digest)
    code = RequestExecution.model_validate_json(matter.origin.content)
    seen = CodeDryRun.model_validate_json(matter.evidence.content)
    return office.policy.decide(
        replace(
            question,
            language=code.code.language,
            statement_class=seen.statement_class,
            reads=office.reads_of(code.code, seen),
            writes=seen.writes,
            rows=seen.estimated_rows,
            bytes=seen.estimated_bytes,
            changes=seen.effect,
            confidence=confidence(code.confidence, matter.origin.from_agent),
        )
    )


def _asked(
    office: Office, matter: Matter, decision: Decision, context: Context, again: str, facts: dict[str, str | None]
) -> list[Outgoing]:
    assert decision.approval is not None  # the policy was validated: who approves is said where approval is asked
    rule, now = office.limited(decision.approval), micros(context.now)

    def after(seconds: float | None) -> int | None:
        return None if seconds is None or seconds >= rule.expires_after_s else now + round(seconds * 1_000_000)

    # The same evidence under another policy is another question.
    seed = f"{matter.evidence.message_id}/{decision.policy}"
    wanted = ApprovalRequested(
        approval_id=f"apr-{uuid.uuid5(uuid.NAMESPACE_OID, seed).hex[:12]}",
        requester=context.principal or "",
        question=matter.question,
        code=matter.code,
        target=matter.target,
        digest=matter.digest,
        plan=matter.plan,
        rule=decision.rule,
        expires_at=now + round(rule.expires_after_s * 1_000_000),
        subject=matter.subject,
        policy=decision.policy,
        needs=list(rule.needs),
        statement_class=matter.statement_class,
        table_versions=matter.table_versions,
        effect=matter.effect,
        remind_at=after(rule.remind_after_s),
        escalate_at=after(rule.escalate_after_s),
        escalates_to=list(rule.escalate_to),
        again=again,
        grant_ttl_s=rule.grant_ttl_s,
        table_drift=rule.drift.table_versions,
    )
    evidence = matter.evidence.message_id
    return [
        Outgoing(EVERYONE, wanted, "event", causation_id=evidence),
        office.decided("approval.requested", decision, approval_id=wanted.approval_id, **facts),
        *_clocks(wanted),
    ]


def _clocks(wanted: ApprovalRequested) -> list[Outgoing]:
    """The bus is the clock's memory: whoever runs governance then will find them."""
    approval_id = wanted.approval_id
    clocks = [request(AUTHORITY, ExpireApprovals(approval_id=approval_id), not_before=wanted.expires_at)]
    if wanted.remind_at is not None:
        clocks.append(request(AUTHORITY, RemindApprovers(approval_id=approval_id), not_before=wanted.remind_at))
    if wanted.escalate_at is not None:
        clocks.append(request(AUTHORITY, EscalateApproval(approval_id=approval_id), not_before=wanted.escalate_at))
    return clocks


# --- what came to nothing -------------------------------------------------------------------------------------------


def came_to_nothing(office: Office, outcome: Failed | Refused, message: Received, context: Context) -> list[Outgoing]:
    """A dry run that failed, or a grant that was not used because its tables had moved."""
    by_id = {m.message_id: m for m in context.conversation}
    cause = by_id.get(message.message.causation_id or "")
    if (
        message.sender == EXECUTOR
        and cause is not None
        and (cause.kind, cause.from_agent) == (RunCode.kind(), AUTHORITY)
    ):
        return _moved(office, outcome, cause, context)
    origin = failed_dry_run(message.message, context.conversation)
    if origin is None:
        return _unasked(message)
    decision = "refused" if isinstance(outcome, Refused) else "failed"
    return [
        audit("execution.denied", decision, rule=outcome.rule, reason=outcome.reason),
        Outgoing(origin.from_agent, outcome, "response", causation_id=origin.message_id),
    ]


def _moved(office: Office, outcome: Failed | Refused, run: Message, context: Context) -> list[Outgoing]:
    """Tried again, and asked for again, by itself: but not for ever, where tables never rest."""
    said = RunCode.model_validate_json(run.content)
    matter = matter_granted(said.grant, context.conversation)
    if matter is None:
        return [audit("dry_run.ignored", "refused", rule="dry_run.unasked", sender=EXECUTOR)]
    tried = _dry_runs(matter.origin, context)
    if outcome.rule != MOVED or len(tried) >= DRY_RUNS:
        reason = outcome.reason
        if outcome.rule == MOVED:
            reason += f" (tried {len(tried)} times; the tables move faster than they are approved)"
        fact = office.fact("execution.denied", "refused", outcome.rule, reason, grant=said.grant.grant_id)
        return [fact, matter.answer(type(outcome)(rule=outcome.rule, reason=reason))]
    code = DryRunCode(code=matter.code, target=matter.target, reads=list(matter.reads))
    return [
        office.fact("execution.again", "allowed", outcome.rule, outcome.reason, grant=said.grant.grant_id),
        Outgoing(EXECUTOR, code, causation_id=matter.origin.message_id),
    ]


def _dry_runs(origin: Message, context: Context) -> list[Message]:
    return [
        m
        for m in context.conversation
        if m.kind == DryRunCode.kind() and m.from_agent == AUTHORITY and m.causation_id == origin.message_id
    ]


def _again(dry_run: Message, context: Context) -> str:
    """Why there is a dry run once more, or ""."""
    by_id = {m.message_id: m for m in context.conversation}
    asked = by_id.get(dry_run.causation_id or "")
    origin = by_id.get(asked.causation_id or "") if asked is not None else None
    if asked is None or origin is None or _dry_runs(origin, context)[:1] in ([], [asked]):
        return ""
    reasons = [
        Refused.model_validate_json(m.content).reason
        for m in context.conversation
        if m.from_agent == EXECUTOR and m.kind in (Refused.kind(), Failed.kind()) and m.position < asked.position
    ]
    return reasons[-1].removesuffix("; ask again") if reasons else "the tables had moved"


def _unasked(message: Received) -> list[Outgoing]:
    return [audit("dry_run.ignored", "refused", rule="dry_run.unasked", sender=message.sender)]


def _another_persons(message: Received, context: Context) -> tuple[str, str] | None:
    """Or one person could ask in another's conversation, and approve it: four eyes, all of them the same person's."""
    if message.sender.startswith(USER) and message.sender != USER + (context.principal or ""):
        return "principal.other", f"this is {context.principal}'s conversation; ask in one of your own"
    return None


def _refused_at_once(office: Office, action: str, rule: str, reason: str, message: Received) -> list[Outgoing]:
    return [
        office.fact(action, "refused", rule, reason),
        reply(message, Refused(rule=rule, reason=reason)),
    ]

"""Whether a grant permits this very effect, now: checked by the executor itself, from signed rows alone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from schemas.envelope import USER, Message
from schemas.payloads import ApprovalRequested, Decide, RunCode

AUTHORITY = "GovernanceAgent"


class GrantRefused(Exception):
    """The grant does not permit this; `rule` says which check it failed."""

    def __init__(self, rule: str, reason: str) -> None:
        self.rule, self.reason = rule, reason
        super().__init__(f"{rule}: {reason}")


def code_sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def check_grant(run: RunCode, sender: str, principal: str | None, conversation: Sequence[Message], now: int) -> None:
    """`conversation` holds trusted rows only; `now` is UTC microseconds. Raises GrantRefused."""
    grant = run.grant
    if sender != AUTHORITY:
        raise GrantRefused("grant.issuer", f"a grant comes from {AUTHORITY}, not from {sender}")
    if code_sha256(run.code.text) != grant.code_sha256 or run.code.language != grant.dialect:
        raise GrantRefused("grant.code", "the grant is for other code")
    if grant.requester != principal:
        raise GrantRefused("grant.requester", f"the grant is for {grant.requester}, the conversation is {principal}'s")
    if grant.approved_by == grant.requester:
        raise GrantRefused("grant.four_eyes", "the requester approved their own request")
    if now > grant.expires_at:
        raise GrantRefused("grant.expired", "the grant has expired; ask again")
    _check_approval(run, conversation)


def _check_approval(run: RunCode, conversation: Sequence[Message]) -> None:
    """A person's own signed row must say yes to what was asked, whatever governance says."""
    grant = run.grant
    asked = [
        ApprovalRequested.model_validate_json(m.content)
        for m in conversation
        if m.kind == ApprovalRequested.kind() and m.from_agent == AUTHORITY
    ]
    approval = next((a for a in asked if a.approval_id == grant.approval_id), None)
    if approval is None or approval.digest != grant.dry_run_digest or approval.target != grant.target:
        raise GrantRefused("grant.approval", "no approval was asked for this dry run and target")
    for message in conversation:
        if message.kind == Decide.kind() and message.from_agent == USER + grant.approved_by:
            decision = Decide.model_validate_json(message.content)
            if (decision.approval_id, decision.decision, decision.digest) == (
                approval.approval_id,
                "approve",
                approval.digest,
            ):
                return
    raise GrantRefused("grant.approval", f"{grant.approved_by} has not signed an approval of this")

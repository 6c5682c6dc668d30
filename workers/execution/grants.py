"""Whether a grant permits this very effect, now: checked by the executor itself, from signed rows alone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from schemas.envelope import USER, Message
from schemas.payloads import ApprovalDecided, ApprovalRequested, CodeDryRun, Decide, Grant, RunCode

AUTHORITY = "GovernanceAgent"
EXECUTOR = "ExecutionAgent"
#: Who approves where a rule of the policy lets it happen without asking anybody.
POLICY = "policy"


class GrantRefused(Exception):
    """The grant does not permit this; `rule` says which check it failed."""

    def __init__(self, rule: str, reason: str) -> None:
        self.rule, self.reason = rule, reason
        super().__init__(f"{rule}: {reason}")


def code_sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def check_grant(
    run: RunCode,
    sender: str,
    principal: str | None,
    conversation: Sequence[Message],
    now: int,
    environment: str,
) -> None:
    """`conversation` holds trusted rows only; `now` is UTC microseconds. Raises GrantRefused.

    Who may approve what is governance's to know. That enough different people said yes, each in their own name, can be
    seen by anybody who can read signatures, and so it is not believed but looked at.
    """
    grant = run.grant
    if sender != AUTHORITY:
        raise GrantRefused("grant.issuer", f"a grant comes from {AUTHORITY}, not from {sender}")
    if code_sha256(run.code.text) != grant.code_sha256 or run.code.language != grant.dialect:
        raise GrantRefused("grant.code", "the grant is for other code")
    if grant.subject != "execution":
        raise GrantRefused("grant.subject", f"the grant is for a {grant.subject}, which runs no code")
    if grant.requester != principal:
        raise GrantRefused("grant.requester", f"the grant is for {grant.requester}, the conversation is {principal}'s")
    if grant.environment != environment:
        raise GrantRefused("grant.environment", f"the grant is for '{grant.environment}', this is '{environment}'")
    if not grant.rule or not grant.policy:
        raise GrantRefused("grant.policy", "the grant does not name the rule and the policy that it follows")
    if grant.requester in (grant.approved_by, *grant.approvers):
        raise GrantRefused("grant.four_eyes", "the requester approved their own request")
    if now > grant.expires_at:
        raise GrantRefused("grant.expired", "the grant has expired; ask again")
    if grant.approval_id is None:
        _check_policy(grant, conversation)
    else:
        _check_approval(grant, conversation)


def dry_run_of(grant: Grant, conversation: Sequence[Message]) -> CodeDryRun | None:
    """The dry run of this conversation that the grant is bound to, as this very agent has signed it."""
    for message in reversed(conversation):
        if message.kind == CodeDryRun.kind() and message.from_agent == EXECUTOR:
            found = CodeDryRun.model_validate_json(message.content)
            if (found.digest, found.code_sha256) == (grant.dry_run_digest, grant.code_sha256):
                return found
    return None


def _check_policy(grant: Grant, conversation: Sequence[Message]) -> None:
    """Nobody was asked: then governance says which rule of which policy lets it happen, and there was a dry run of it."""
    if grant.approved_by != POLICY or grant.approvers:
        raise GrantRefused("grant.approval", "no approval was asked for this dry run and target")
    if not grant.rule or not grant.policy:
        raise GrantRefused(
            "grant.policy", "without a person's yes, a grant names the rule and the policy that allow it"
        )
    if dry_run_of(grant, conversation) is None:
        raise GrantRefused("grant.dry_run", "this conversation holds no dry run with the digest of the grant")
    if any(asked.digest == grant.dry_run_digest for asked in _asked(conversation)):
        raise GrantRefused("grant.approval", "people were asked about this dry run: the policy alone cannot allow it")


def _check_approval(grant: Grant, conversation: Sequence[Message]) -> None:
    """People's own signed rows must say yes to what was asked, whatever governance says."""
    approval = next((a for a in _asked(conversation) if a.approval_id == grant.approval_id), None)
    if (
        approval is None
        or (approval.digest, approval.target, approval.subject) != (grant.dry_run_digest, grant.target, grant.subject)
        or code_sha256(approval.code.text) != grant.code_sha256
    ):
        raise GrantRefused("grant.approval", "no approval was asked for this dry run and target")
    if grant.table_drift > approval.table_drift:
        raise GrantRefused(
            "grant.drift", f"tables may move by {approval.table_drift} versions, the grant says {grant.table_drift}"
        )
    _refuse_what_was_not_approved(approval, conversation)
    names = grant.approvers or [grant.approved_by]
    if grant.approved_by not in names:
        raise GrantRefused("grant.approval", f"{grant.approved_by} is none of those who approved")
    voters, voices = set(), set()
    for name in names:
        voter, voice = _yes_of(name, approval, conversation)
        if grant.requester in (voter, voice):
            raise GrantRefused("grant.four_eyes", f"a yes of {grant.requester} counts for their own request")
        voters.add(voter)
        voices.add(voice)
    needed = max(1, sum(need.count for need in approval.needs))
    # A delegate's yes is that of the person who lent the right: neither of the two counts twice.
    if min(len(voters), len(voices)) < needed:
        raise GrantRefused(
            "grant.needs", f"{needed} different people have to say yes, and {min(len(voters), len(voices))} did"
        )


def _asked(conversation: Sequence[Message]) -> list[ApprovalRequested]:
    return [
        ApprovalRequested.model_validate_json(m.content)
        for m in conversation
        if m.kind == ApprovalRequested.kind() and m.from_agent == AUTHORITY
    ]


def _refuse_what_was_not_approved(approval: ApprovalRequested, conversation: Sequence[Message]) -> None:
    for message in conversation:
        if message.kind == ApprovalDecided.kind() and message.from_agent == AUTHORITY:
            decided = ApprovalDecided.model_validate_json(message.content)
            if decided.approval_id == approval.approval_id and decided.decision != "approved":
                raise GrantRefused("grant.approval", f"the approval was {decided.decision}, by {decided.actor}")


def _yes_of(name: str, approval: ApprovalRequested, conversation: Sequence[Message]) -> tuple[str, str]:
    """Who signed the yes that goes by this name, and whose yes it is. Raises GrantRefused."""
    for message in conversation:
        if message.kind != Decide.kind() or not message.from_agent.startswith(USER):
            continue
        said = Decide.model_validate_json(message.content)
        if (said.approval_id, said.decision, said.digest) != (approval.approval_id, "approve", approval.digest):
            continue
        voter = message.from_agent.removeprefix(USER)
        if name in (voter, said.for_user):
            return voter, said.for_user or voter
    raise GrantRefused("grant.approval", f"{name} has not signed an approval of this")

"""What is decided on: code that is to run, or something that is no code; found again in the conversation by its evidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from schemas.envelope import Message
from schemas.payloads import (
    Code,
    CodeDryRun,
    DryRunCode,
    EffectPreview,
    Grant,
    Payload,
    Refused,
    RequestApproval,
    RequestExecution,
    Subject,
)
from workers.governance.approvals import AUTHORITY, Approval
from workers.runtime.base import Outgoing

EXECUTOR = "ExecutionAgent"


@dataclass(frozen=True)
class Matter:
    """`origin` is the request, `evidence` the message that holds what is decided on: its dry run, or the request itself."""

    origin: Message
    evidence: Message
    subject: Subject
    question: str
    code: Code
    code_sha256: str
    digest: str
    target: str | None = None
    plan: str = ""
    statement_class: str = ""
    table_versions: dict[str, int] = field(default_factory=dict)
    effect: EffectPreview | None = None
    reads: tuple[str, ...] = ()
    undoes: str | None = None

    @property
    def executor(self) -> str:
        """Who will use the grant."""
        return EXECUTOR if self.subject == "execution" else self.origin.from_agent

    def answer(self, payload: Payload) -> Outgoing:
        """To whoever asked."""
        return Outgoing(self.origin.from_agent, payload, "response", causation_id=self.origin.message_id)

    def refuse(self, rule: str, reason: str) -> Outgoing:
        return self.answer(Refused(rule=rule, reason=reason))


def matter_of(evidence: Message, conversation: Sequence[Message]) -> Matter | None:
    """`conversation` holds trusted rows. None when this is no evidence that governance asked for."""
    if evidence.kind == RequestApproval.kind():
        return _other(evidence)
    origin = request_behind(evidence, conversation)
    if evidence.kind != CodeDryRun.kind() or evidence.from_agent != EXECUTOR or origin is None:
        return None
    asked = RequestExecution.model_validate_json(origin.content)
    seen = CodeDryRun.model_validate_json(evidence.content)
    return Matter(
        origin,
        evidence,
        "execution",
        asked.question,
        asked.code,
        seen.code_sha256,
        seen.digest,
        # A statement that names its own target is approved for that one: the engine refuses any other.
        asked.target or seen.writes,
        seen.plan,
        seen.statement_class,
        seen.table_versions,
        seen.effect,
        tuple(asked.reads),
        asked.undoes,
    )


def _other(evidence: Message) -> Matter:
    asked = RequestApproval.model_validate_json(evidence.content)
    summary = Code(language="text", text=asked.summary)
    return Matter(evidence, evidence, asked.subject, asked.name, summary, asked.digest, asked.digest, target=asked.name)


def request_behind(dry_run: Message, conversation: Sequence[Message]) -> Message | None:
    """The RequestExecution whose dry run this answers: two causes back."""
    by_id = {m.message_id: m for m in conversation}
    asked = by_id.get(dry_run.causation_id or "")
    if asked is None or asked.kind != DryRunCode.kind() or asked.from_agent != AUTHORITY:
        return None
    origin = by_id.get(asked.causation_id or "")
    return origin if origin is not None and origin.kind == RequestExecution.kind() else None


def matter_behind(approval: Approval, conversation: Sequence[Message]) -> Matter:
    """What an approval is about: governance names the evidence as its cause."""
    evidence = next(m for m in conversation if m.message_id == approval.message.causation_id)
    matter = matter_of(evidence, conversation)
    assert matter is not None  # the approval was asked for by this very agent
    return matter


def matter_granted(grant: Grant, conversation: Sequence[Message]) -> Matter | None:
    """What a grant of this conversation is about."""
    for message in reversed(conversation):
        if message.kind in (CodeDryRun.kind(), RequestApproval.kind()):
            matter = matter_of(message, conversation)
            if matter is not None and (matter.digest, matter.subject) == (grant.dry_run_digest, grant.subject):
                return matter
    return None


def failed_dry_run(outcome: Message, conversation: Sequence[Message]) -> Message | None:
    """The request whose dry run came to nothing."""
    return request_behind(outcome, conversation) if outcome.from_agent == EXECUTOR else None

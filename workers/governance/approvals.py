"""Approvals as a fold of the conversation: what was asked of people, who said yes so far, and what became of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from schemas.envelope import Message
from schemas.payloads import (
    ApprovalDecided,
    ApprovalEscalated,
    ApprovalReminded,
    ApprovalRequested,
    ApprovalVoted,
    Need,
)

#: The only agent whose word on approvals counts.
AUTHORITY = "GovernanceAgent"


@dataclass(frozen=True)
class Approval:
    """One question to people; `decided` is None while it is open. `votes`: those who said yes, without the last."""

    requested: ApprovalRequested
    message: Message
    decided: ApprovalDecided | None = None
    votes: tuple[ApprovalVoted, ...] = ()
    reminded: ApprovalReminded | None = None
    escalated: ApprovalEscalated | None = None

    @property
    def id(self) -> str:
        return self.requested.approval_id

    @property
    def status(self) -> str:
        return self.decided.decision if self.decided else "pending"

    @property
    def remaining(self) -> tuple[Need, ...]:
        """What is still needed, as governance said it last."""
        if self.decided is not None and self.decided.decision == "approved":
            return ()
        return tuple(self.votes[-1].remaining if self.votes else self.requested.needs)


def approvals(messages: Iterable[Message]) -> dict[str, Approval]:
    """All approvals these valid messages speak of, by id, in log order."""
    found: dict[str, Approval] = {}
    for message in messages:
        if message.from_agent != AUTHORITY or message.message_type != "event":
            continue
        if message.kind == ApprovalRequested.kind():
            requested = ApprovalRequested.model_validate_json(message.content)
            found.setdefault(requested.approval_id, Approval(requested, message))
        elif (model := _STEPS.get(message.kind)) is not None:
            step = model.model_validate_json(message.content)
            approval = found.get(step.approval_id)
            if approval is not None and approval.decided is None:
                found[approval.id] = _after(approval, step)
    return found


_Step = ApprovalVoted | ApprovalReminded | ApprovalEscalated | ApprovalDecided
_STEPS: dict[str, type[_Step]] = {
    model.kind(): model for model in (ApprovalVoted, ApprovalReminded, ApprovalEscalated, ApprovalDecided)
}


def _after(approval: Approval, step: _Step) -> Approval:
    match step:
        case ApprovalVoted():
            return replace(approval, votes=(*approval.votes, step))
        case ApprovalReminded():
            return replace(approval, reminded=step)
        case ApprovalEscalated():
            return replace(approval, escalated=step)
        case ApprovalDecided():
            return replace(approval, decided=step)

"""Approvals as a fold of the conversation: what was asked of a person, and what became of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from schemas.envelope import Message
from schemas.payloads import ApprovalDecided, ApprovalRequested

#: The only agent whose word on approvals counts.
AUTHORITY = "GovernanceAgent"


@dataclass(frozen=True)
class Approval:
    """One question to a person; `decided` is None while it is open."""

    requested: ApprovalRequested
    message: Message
    decided: ApprovalDecided | None = None

    @property
    def id(self) -> str:
        return self.requested.approval_id

    @property
    def status(self) -> str:
        return self.decided.decision if self.decided else "pending"


def approvals(messages: Iterable[Message]) -> dict[str, Approval]:
    """All approvals these valid messages speak of, by id, in log order."""
    found: dict[str, Approval] = {}
    for message in messages:
        if message.from_agent != AUTHORITY or message.message_type != "event":
            continue
        if message.kind == ApprovalRequested.kind():
            requested = ApprovalRequested.model_validate_json(message.content)
            found.setdefault(requested.approval_id, Approval(requested, message))
        elif message.kind == ApprovalDecided.kind():
            decided = ApprovalDecided.model_validate_json(message.content)
            approval = found.get(decided.approval_id)
            if approval is not None and approval.decided is None:
                found[decided.approval_id] = Approval(approval.requested, approval.message, decided)
    return found

"""The projection `approvals`: a row for each step, readable without the payloads."""

from __future__ import annotations

import pytest

from bus.projections.tables import approval_row
from schemas.envelope import Message
from schemas.payloads import (
    ApprovalDecided,
    ApprovalEscalated,
    ApprovalReminded,
    ApprovalRequested,
    ApprovalVoted,
    Code,
    Need,
    Payload,
)

ONE = [Need(group="admin", count=1)]


def row(payload: Payload, sender: str = "GovernanceAgent", kind: str = "event") -> Message:
    return Message(
        message_id="m",
        correlation_id="c",
        from_agent=sender,
        to_agent="*",
        message_type=kind,
        kind=payload.kind(),
        content=payload.model_dump_json(),
        timestamp=7,
        principal="eli",
        log_version=3,
        seq=1,
    )


@pytest.mark.parametrize(
    ("payload", "step", "actor", "reason"),
    [
        (ApprovalVoted(approval_id="a", actor="ada", group="admin", remaining=ONE), "voted", "ada", "1 of admin"),
        (
            ApprovalVoted(approval_id="a", actor="kim", group="x", remaining=ONE, for_user="ada"),
            "voted",
            "kim",
            "for ada",
        ),
        (ApprovalReminded(approval_id="a", waiting_for=["admin"]), "reminded", "GovernanceAgent", "admin"),
        (ApprovalEscalated(approval_id="a", to=ONE), "escalated", "GovernanceAgent", "1 of admin"),
        (
            ApprovalDecided(approval_id="a", decision="changes_requested", actor="ada", reason="r"),
            "changes_requested",
            "ada",
            "r",
        ),
        (ApprovalDecided(approval_id="a", decision="approved", actor="ada"), "approved", "ada", ""),
    ],
)
def test_every_step_is_a_row(payload: Payload, step: str, actor: str, reason: str) -> None:
    found = approval_row(row(payload))
    assert found is not None
    assert (found["approval_id"], found["step"], found["actor"], found["reason"]) == ("a", step, actor, reason)
    assert (found["requester"], found["correlation_id"], found["log_version"], found["seq"]) == ("eli", "c", 3, 1)
    assert approval_row(row(payload, "CodeAgent")) is None
    assert approval_row(row(payload, kind="request")) is None


def test_the_question_has_what_was_asked() -> None:
    code = Code(language="sql", text="SELECT 1")
    asked = ApprovalRequested(
        approval_id="a",
        requester="eli",
        question="q",
        code=code,
        target="results.x",
        digest="d",
        plan="",
        rule="r",
        expires_at=9,
    )
    found = approval_row(row(asked))
    assert found is not None
    assert (found["step"], found["code"], found["digest"], found["expires_at"]) == ("requested", "SELECT 1", "d", 9)

"""Grants, checked from signed rows alone: who said yes, how many, to what; and what needs nobody's yes."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.envelope import Message
from schemas.payloads import (
    ApprovalDecided,
    ApprovalRequested,
    Code,
    CodeDryRun,
    Decide,
    Grant,
    Need,
    Payload,
    RunCode,
)
from workers.execution.grants import AUTHORITY, EXECUTOR, GrantRefused, check_grant, code_sha256

SQL, DIGEST, NOW = "DELETE FROM results.x", "d" * 64, 1_000_000


def said(sender: str, payload: Payload) -> Message:
    return Message(
        message_id=f"{sender}-{payload.kind()}-{hash(payload.model_dump_json())}",
        correlation_id="c",
        from_agent=sender,
        to_agent="*",
        message_type="event",
        kind=payload.kind(),
        content=payload.model_dump_json(),
        timestamp=NOW,
        principal="eli",
    )


def yes(voter: str, for_user: str | None = None, **changed: Any) -> Message:
    decide = {"approval_id": "apr-1", "decision": "approve", "digest": DIGEST, "for_user": for_user}
    return said(f"user:{voter}", Decide.model_validate(decide | changed))


def asked(*needs: tuple[str, int], **changed: Any) -> Message:
    fields = {
        "approval_id": "apr-1",
        "requester": "eli",
        "question": "q",
        "code": Code(language="sql", text=SQL),
        "target": "results.x",
        "digest": DIGEST,
        "plan": "p",
        "rule": "r",
        "expires_at": NOW,
        "needs": [Need(group=group, count=count) for group, count in needs],
    }
    return said(AUTHORITY, ApprovalRequested.model_validate(fields | changed))


def dry_run(**changed: Any) -> Message:
    fields = {
        "code_sha256": code_sha256(SQL),
        "statement_class": "delete",
        "columns": [],
        "table_versions": {"results.x": 3},
        "plan": "p",
        "digest": DIGEST,
    }
    return said(EXECUTOR, CodeDryRun.model_validate(fields | changed))


def refused(*conversation: Message, environment: str = "prod", **changed: Any) -> str:
    """The rule that refuses this grant; empty when it is good."""
    fields = {
        "grant_id": "grant-1",
        "approval_id": "apr-1",
        "code_sha256": code_sha256(SQL),
        "dialect": "sql",
        "target": "results.x",
        "dry_run_digest": DIGEST,
        "table_versions": {"results.x": 3},
        "requester": "eli",
        "approved_by": "ada",
        "rule": "r",
        "policy": "p" * 64,
        "environment": "prod",
        "issued_at": NOW,
        "expires_at": NOW + 1,
    } | changed
    run = RunCode(grant=Grant.model_validate(fields), question="q", code=Code(language="sql", text=SQL), reply_to="X")
    try:
        check_grant(run, AUTHORITY, "eli", conversation, NOW, environment)
    except GrantRefused as error:
        return error.rule
    return ""


TWO = ("admin", 2)


@pytest.mark.parametrize(
    ("conversation", "changed", "rule"),
    [
        ([asked(), yes("ada")], {}, ""),
        ([asked(("admin", 1)), yes("ada")], {"approvers": ["ada"]}, ""),
        ([asked(TWO), yes("ada"), yes("bea")], {"approvers": ["ada", "bea"]}, ""),
        ([asked(("admin", 1), ("steward", 1)), yes("ada"), yes("kim")], {"approvers": ["ada", "kim"]}, ""),
        # Too few, or one person several times.
        ([asked(TWO), yes("ada")], {"approvers": ["ada"]}, "grant.needs"),
        ([asked(TWO), yes("ada")], {}, "grant.needs"),
        ([asked(TWO), yes("ada"), yes("ada")], {"approvers": ["ada", "ada"]}, "grant.needs"),
        ([asked(("admin", 1), ("steward", 1)), yes("ada")], {"approvers": ["ada"]}, "grant.needs"),
        # Somebody who is named and has not signed, or has signed something else.
        ([asked(TWO), yes("ada")], {"approvers": ["ada", "bea"]}, "grant.approval"),
        ([asked(TWO), yes("ada"), yes("bea", digest="e" * 64)], {"approvers": ["ada", "bea"]}, "grant.approval"),
        ([asked(TWO), yes("ada"), yes("bea", decision="reject")], {"approvers": ["ada", "bea"]}, "grant.approval"),
        ([asked(TWO), yes("ada"), yes("bea", approval_id="apr-2")], {"approvers": ["ada", "bea"]}, "grant.approval"),
        ([asked(TWO), yes("bea"), yes("kim")], {"approvers": ["bea", "kim"]}, "grant.approval"),
        # A yes of an agent is nobody's.
        (
            [asked(), said("CodeAgent", Decide(approval_id="apr-1", decision="approve", digest=DIGEST))],
            {},
            "grant.approval",
        ),
        # The requester, openly or by a delegate.
        ([asked(TWO), yes("ada"), yes("eli")], {"approvers": ["ada", "eli"]}, "grant.four_eyes"),
        ([asked(TWO), yes("ada"), yes("bea", "eli")], {"approvers": ["ada", "bea"]}, "grant.four_eyes"),
        ([asked(TWO), yes("ada"), yes("eli", "bea")], {"approvers": ["ada", "bea"]}, "grant.four_eyes"),
        # A delegate and the one who lent the right are one voice; one voter with two voices is one voter.
        ([asked(TWO), yes("ada"), yes("bea", "ada")], {"approvers": ["ada", "bea"]}, "grant.needs"),
        ([asked(TWO), yes("ada", "kim"), yes("bea")], {"approvers": ["ada", "bea"]}, ""),
        # What was asked is not what would run.
        ([asked(code=Code(language="sql", text="SELECT 1")), yes("ada")], {}, "grant.approval"),
        ([asked(subject="promotion"), yes("ada")], {}, "grant.approval"),
        ([asked(), yes("ada")], {"subject": "promotion"}, "grant.subject"),
        ([asked(), yes("ada")], {"table_drift": 1}, "grant.drift"),
        ([asked(table_drift=2), yes("ada")], {"table_drift": 1}, ""),
        ([asked(), yes("ada")], {"environment": "dev"}, "grant.environment"),
    ],
)
def test_enough_different_people_said_yes_to_this(
    conversation: list[Message], changed: dict[str, Any], rule: str
) -> None:
    assert refused(*conversation, **changed) == rule


@pytest.mark.parametrize("decision", ["rejected", "expired", "changes_requested"])
def test_what_was_not_approved_is_not_run_whoever_said_yes(decision: str) -> None:
    end = ApprovalDecided.model_validate({"approval_id": "apr-1", "decision": decision, "actor": "kim"})
    assert refused(asked(), yes("ada"), said(AUTHORITY, end)) == "grant.approval"
    # Nobody else's word ends an approval.
    assert refused(asked(), yes("ada"), said("CodeAgent", end)) == ""


BY_POLICY = {"approval_id": None, "approved_by": "policy"}


@pytest.mark.parametrize(
    ("conversation", "changed", "rule"),
    [
        ([dry_run()], {}, ""),
        ([dry_run()], {"rule": ""}, "grant.policy"),
        ([dry_run()], {"policy": ""}, "grant.policy"),
        ([dry_run()], {"approved_by": "ada"}, "grant.approval"),
        ([dry_run()], {"approvers": ["ada"]}, "grant.approval"),
        ([], {}, "grant.dry_run"),
        ([dry_run(digest="e" * 64)], {}, "grant.dry_run"),
        ([dry_run(code_sha256="e" * 64)], {}, "grant.dry_run"),
        # Governance cannot go round people by forgetting that they were asked.
        ([dry_run(), asked()], {}, "grant.approval"),
    ],
)
def test_a_policy_that_allows_says_which_rule_of_which_policy(
    conversation: list[Message], changed: dict[str, Any], rule: str
) -> None:
    assert refused(*conversation, **(BY_POLICY | changed)) == rule


def test_a_person_called_policy_is_a_person() -> None:
    assert refused(asked(), dry_run(), approved_by="policy") == "grant.approval"
    assert refused(asked(), dry_run(), yes("policy"), approved_by="policy") == ""

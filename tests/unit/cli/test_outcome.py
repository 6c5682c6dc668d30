"""What a conversation came to, wherever it stands."""

from __future__ import annotations

import json

import pytest

from apps.cli.outcome import outcome_of
from schemas.envelope import Message

FIELDS = ["correlation_id", "status", "answer", "code", "result", "sources", "refusal", "timings_ms", "hops"]


def before(rows: list[Message], kind: str) -> list[Message]:
    """The rows up to the commit that holds this kind."""
    at = next(m.log_version for m in rows if m.kind == kind)
    return [m for m in rows if m.log_version < at]


def test_the_document_has_exactly_the_promised_fields(recorded: list[Message]) -> None:
    document = outcome_of(recorded).document()
    assert list(document) == FIELDS
    assert list(document["result"]) == ["columns", "rows", "truncated", "table"]
    assert list(document["timings_ms"]) == ["queued", "handled", "total"]
    assert (document["status"], document["result"]["table"]) == ("answered", "results.best")


@pytest.mark.parametrize(
    ("until", "status", "says"),
    [
        ("GenerateCode", "timed_out", "OrchestratorAgent"),
        ("DryRunCode", "timed_out", "GovernanceAgent"),
        ("ApprovalDecided", "pending_approval", "apr-"),
        ("CodeRun", "timed_out", "ExecutionAgent"),
    ],
)
def test_on_the_way_it_says_what_is_waited_for(recorded: list[Message], until: str, status: str, says: str) -> None:
    outcome = outcome_of(before(recorded, until))
    assert outcome.status == status
    assert says in outcome.answer
    assert (outcome.approval is not None) == (status == "pending_approval")


def test_a_conversation_that_died_says_of_what(recorded: list[Message]) -> None:
    rows = before(recorded, "GenerateCode")
    asked = rows[0]
    dead = asked.model_copy(
        update={
            "message_id": "r",
            "message_type": "receipt",
            "kind": "Receipt",
            "from_agent": "OrchestratorAgent",
            "to_agent": "",
            "causation_id": asked.message_id,
            "content": json.dumps({"outcome": "dead", "reason": "ValueError: no"}),
            "log_version": asked.log_version + 1,
        }
    )
    outcome = outcome_of([*rows, dead])
    assert outcome.status == "failed"
    assert outcome.refusal == {"rule": "message.dead", "reason": "OrchestratorAgent: ValueError: no"}


@pytest.mark.parametrize(("kind", "status"), [("Refused", "refused"), ("Failed", "failed")])
def test_a_question_that_could_not_be_handled_is_answered_too(recorded: list[Message], kind: str, status: str) -> None:
    content = json.dumps({"rule": "message.malformed", "reason": "no"})
    rows = [m.model_copy(update={"kind": kind, "content": content}) if m.kind == "Answered" else m for m in recorded]
    outcome = outcome_of(rows)
    assert (outcome.status, outcome.refusal) == (status, {"rule": "message.malformed", "reason": "no"})


def test_other_agents_answer_in_their_own_words(recorded: list[Message]) -> None:
    rows = [
        m.model_copy(update={"kind": "Weather", "content": "sunny"}) if m.kind == "Answered" else m for m in recorded
    ]
    assert (outcome_of(rows).status, outcome_of(rows).answer) == ("answered", "sunny")


def test_an_answer_to_somebody_else_is_not_ours(recorded: list[Message]) -> None:
    rows = [m.model_copy(update={"to_agent": "user:ana"}) if m.kind == "Answered" else m for m in recorded]
    assert outcome_of(rows).final is None

"""A whole conversation by commands, against agents that run beside: ask, approve, wait, trace, look around."""

from __future__ import annotations

import pytest

from jobs.bootstrap import System
from tests.unit.cli.conftest import EXECUTE, Run

FIELDS = ["correlation_id", "status", "answer", "code", "result", "sources", "refusal", "timings_ms", "hops"]


def test_a_question_is_answered_with_sources(run: Run, live: System) -> None:
    said = run("ask", "What does sold mean?", "--as", "ana", "--json", "--timeout", "20")
    assert said.code == 0
    assert list(said.json) == FIELDS
    assert said.json["status"] == "answered"
    assert said.json["sources"][0]["document"] == "sales"
    assert (said.json["hops"], said.json["refusal"], said.json["code"]) == (3, None, None)
    assert "separates nobody" in said.err


def test_the_same_for_a_person(run: Run, live: System) -> None:
    said = run("ask", "What does sold mean?", "--as", "ana", "--timeout", "20")
    assert said.code == 0
    assert "✓ answered in" in said.out
    assert "matches sales" in said.out
    assert "tailrace trace " in said.err


@pytest.mark.parametrize(
    ("user", "question", "code", "rule"),
    [
        ("ana", EXECUTE, 3, "rbac.sql.execute"),
        ("ana", "", 3, "question.empty"),
        ("ana", "x" * 100_000, 3, "question.too_long"),
        ("eli", "Generate SQL for unicorn customers", 1, "code.could_not_map"),
    ],
)
def test_what_is_refused_or_fails_has_its_rule_and_code(
    run: Run, live: System, user: str, question: str, code: int, rule: str
) -> None:
    said = run("ask", question, "--as", user, "--json", "--timeout", "20")
    assert said.code == code
    assert said.json["status"] == {3: "refused", 1: "failed"}[code]
    assert said.json["refusal"]["rule"] == rule
    shown = run("ask", question, "--as", user, "--timeout", "20")
    assert shown.code == code
    assert f"rule {rule}" in shown.out


def test_an_execution_from_question_to_audit(run: Run, live: System) -> None:
    pending = run("ask", EXECUTE, "--as", "eli", "--no-wait-approval", "--timeout", "20", "--json")
    assert pending.code == 0
    assert pending.json["status"] == "pending_approval"
    conversation = pending.json["correlation_id"]

    (approval,) = [one for one in run("approvals", "list", "--json").json if one["correlation_id"] == conversation]
    approval_id = approval["approval_id"]
    assert (approval["status"], approval["requester"], approval["target"]) == ("pending", "eli", "results.best")
    assert approval_id in run("approvals", "list").out
    shown = run("approvals", "show", approval_id[:10])
    assert shown.code == 0
    assert "FROM tpch.customer" in shown.out
    assert f"tailrace approvals approve {approval_id} --as ada" in shown.out

    own = run("approvals", "approve", approval_id, "--as", "eli")
    assert own.code == 3
    assert "approval.own_request" in own.out
    assert run("approvals", "approve", approval_id, "--as", "ana", "--json").json["rule"] == "rbac.execution.approve"

    yes = run("approvals", "approve", approval_id, "--as", "ada", "--reason", "fine", "--json")
    assert yes.code == 0
    assert (yes.json["accepted"], yes.json["user"]) == (True, "ada")
    assert run("approvals", "reject", approval_id, "--as", "ada", "--json").json["rule"] == "approval.decided"

    answered = run("wait", conversation, "--timeout", "20", "--json")
    assert answered.code == 0
    assert answered.json["status"] == "answered"
    assert answered.json["result"] == {
        "columns": ["c_name"],
        "rows": [["Customer#1"]],
        "truncated": False,
        "table": "results.best",
    }
    assert "results.best" in run("wait", conversation).out

    traced = run("trace", conversation[:8], "--json").json
    assert traced["status"] == "answered"
    kinds = [message["kind"] for message in traced["messages"]]
    assert kinds[0] == "Ask"
    assert kinds.index("RunCode") < kinds.index("CodeRun") < kinds.index("Answered")
    assert run("trace", "last", "--json").json["correlation_id"] == conversation
    drawn = run("trace", conversation)
    assert "ada → Governance  Decide  approve" in drawn.out
    assert f"{conversation}" in drawn.out

    (effect,) = run("executions", "--json").json
    assert (effect["step"], effect["approved_by"], effect["target"]) == ("done", "ada", "results.best")
    assert "results.best" in run("executions").out


def test_an_approval_that_nobody_gives_is_a_time_out(run: Run, live: System) -> None:
    said = run("ask", EXECUTE, "--as", "eli", "--timeout", "1", "--json")
    assert said.code == 4
    assert said.json["status"] == "pending_approval"
    assert "tailrace approvals approve" in said.err
    assert f"tailrace wait {said.json['correlation_id']}" in said.err


def test_rejecting_refuses_the_request(run: Run, live: System) -> None:
    conversation = run("ask", EXECUTE, "--as", "eli", "--no-wait-approval", "--json").json["correlation_id"]
    (approval,) = [one for one in run("approvals", "list", "--json").json if one["correlation_id"] == conversation]
    said = run("approvals", "reject", approval["approval_id"], "--as", "ada", "--reason", "too broad")
    assert said.code == 0
    assert "rejected by ada" in said.out
    refused = run("wait", conversation, "--json")
    assert refused.code == 3
    assert "too broad" in refused.json["refusal"]["reason"]


def test_a_message_waits_for_its_response(run: Run, live: System) -> None:
    content = '{"question": "What does sold mean?", "role": "admin"}'
    said = run(
        "send",
        "--to",
        "RAGAgent",
        "--kind",
        "RetrieveKnowledge",
        "--content",
        content,
        "--as",
        "ana",
        "--wait",
        "20",
        "--json",
    )
    assert said.code == 0
    assert said.json["response"]["kind"] == "Failed"
    assert said.json["response"]["content"]["rule"] == "knowledge.sender"


def test_a_kind_the_agent_does_not_know_ends_among_the_dead(run: Run, live: System) -> None:
    sent = run(
        "send", "--to", "RAGAgent", "--kind", "Dance", "--content", "{}", "--as", "ana", "--wait", "20", "--json"
    )
    assert sent.json["response"]["content"]["rule"] == "message.unknown_kind"
    (lost,) = [one for one in run("dead", "list", "--json").json if one["kind"] == "Dance"]
    assert lost["outcome"] == "rejected"
    assert "Dance" in run("dead", "list").out
    shown = run("dead", "show", lost["message_id"])
    assert "message.unknown_kind" in shown.out


def test_agents_shows_who_runs_and_what_waits_for_strangers(run: Run, live: System) -> None:
    run("send", "--to", "Weatherman", "--kind", "Forecast", "--content", '{"day": 1}', "--as", "ana")
    found = {one["agent"]: one for one in run("agents", "--json").json}
    assert found["RAGAgent"]["state"] == "ready"
    (instance,) = found["RAGAgent"]["instances"]
    assert instance["instance"].startswith("RAGAgent-")
    assert (instance["state"], instance["lease"], instance["share"]) == ("ready", "alone", 1.0)
    assert (found["Weatherman"]["state"], found["Weatherman"]["waiting"]) == ("unknown", 1)
    shown = run("agents", "--kinds")
    assert "Weatherman, which nobody runs here" in shown.out
    assert "RetrieveKnowledge" in shown.out


def test_the_audit_trail_of_all_this_holds(run: Run, live: System) -> None:
    said = run("audit", "verify", "--json")
    assert said.json["problems"] == []
    assert said.code == 0
    assert said.json["checked"]["signatures"] > 10
    assert "the audit trail holds" in run("audit", "verify").out

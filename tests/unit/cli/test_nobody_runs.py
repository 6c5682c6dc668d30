"""Commands in a home where no agent runs: they say so, and never hang."""

from __future__ import annotations

import pytest

from apps.cli.approving import every_approval
from bus.log import rows as codec
from jobs.bootstrap import System
from schemas.envelope import Message
from schemas.payloads import ApprovalRequested, Ask, Code
from tests.unit.cli.conftest import Run, Said


def ask(run: Run, *more: str) -> Said:
    return run("ask", "How are sales defined?", "--as", "ana", "--no-start", *more)


def test_a_question_stays_in_the_log(run: Run, home: System) -> None:
    said = ask(run, "--timeout", "60", "--json")
    assert said.code == 4
    assert said.json["status"] == "timed_out"
    assert "OrchestratorAgent runs nowhere" in said.err
    again = run("wait", said.json["correlation_id"], "--no-start", "--json")
    assert (again.code, again.json["status"]) == (4, "timed_out")
    (orchestrator,) = [one for one in run("agents", "--json").json if one["agent"] == "OrchestratorAgent"]
    assert (orchestrator["waiting"], orchestrator["state"]) == (1, "stopped")


def test_no_time_means_no_waiting(run: Run, home: System) -> None:
    assert ask(run, "--timeout", "0").code == 4


def test_a_decision_is_kept_for_governance(run: Run, home: System) -> None:
    request_approval(home)
    said = run("approvals", "approve", "apr-1", "--as", "ada", "--json")
    assert said.code == 0
    assert said.json["accepted"] is None
    assert "tailrace up" in said.err
    decision = run("trace", said.json["correlation_id"], "--json").json["messages"][-1]
    assert (decision["kind"], decision["from"]) == ("Decide", "user:ada")
    shown = run("approvals", "approve", "apr-1", "--as", "ada")
    assert "in the log, signed" in shown.out


def test_an_approval_that_governance_did_not_sign_is_not_shown(run: Run, home: System) -> None:
    request_approval(home, signed=False)
    assert every_approval(home) == []
    assert run("approvals", "list", "--json").json == []
    assert "nothing waits" in run("approvals", "list").out
    assert run("approvals", "approve", "apr-1", "--as", "ada").code == 2


def test_rows_of_strangers_are_counted_not_shown(run: Run, home: System) -> None:
    request_approval(home, signed=False)
    said = run("trace", "conversation-1", "--json")
    assert said.code == 0
    assert "1 rows of this conversation are not signed" in said.err
    assert [message["kind"] for message in said.json["messages"]] == ["Ask"]


def test_an_empty_home_has_nothing_to_show(run: Run, home: System) -> None:
    assert "nothing was executed yet" in run("executions").out
    assert run("executions", "--json").json == []
    assert "handled well" in run("dead", "list").out
    assert run("audit", "verify").code == 0


def test_other_people_s_messages_are_sent_as_they_are(run: Run, home: System) -> None:
    content = '{"day":  1}'
    sent = run(
        "send", "--to", "Weatherman", "--kind", "Forecast", "--content", "-", "--as", "ana", "--json", stdin=content
    )
    assert sent.code == 0
    (message,) = run("trace", sent.json["correlation_id"], "--json").json["messages"]
    assert (message["kind"], message["to"], message["content"]) == ("Forecast", "Weatherman", {"day": 1})


def test_a_response_that_does_not_come_is_a_time_out(run: Run, home: System) -> None:
    words = ("send", "--to", "X", "--kind", "K", "--content", "{}", "--as", "ana", "--wait", "0.2")
    said = run(*words)
    assert said.code == 4
    assert "in the log: K to X" in said.out
    assert "no response from X within 0.2 s" in said.err
    said = run(*words, "--json")
    assert (said.code, said.json["error"]["exit_code"], said.json["response"]) == (4, 4, None)
    assert said.json["error"]["remedy"] == f"tailrace wait {said.json['correlation_id']}"
    (message,) = run("trace", said.json["correlation_id"], "--json").json["messages"]
    assert message["message_id"] == said.json["message_id"]
    (again,) = [run(*words, "--correlation", said.json["correlation_id"], "--json").json]
    assert again["error"]["remedy"] == f"tailrace trace {said.json['correlation_id']}"


def test_an_id_that_fits_several_is_asked_back(run: Run, home: System) -> None:
    with home.client("ana") as client:
        for number in (1, 2):
            client.send("RAGAgent", Ask(question="x"), correlation_id=f"same-{number}")
    said = run("trace", "same", "--json")
    assert said.code == 2
    assert "same-1, same-2" in said.json["error"]["cause"]


@pytest.mark.parametrize("named", ["abc", "", "zzzzzzzz"])
def test_an_id_that_fits_nothing_is_misuse(run: Run, home: System, named: str) -> None:
    assert run("trace", named).code == 2


def request_approval(home: System, signed: bool = True) -> None:
    """What governance would have left in the log, and a question before it; unsigned: written by a stranger."""
    with home.client("eli") as client:
        client.send("OrchestratorAgent", Ask(question="run it"), correlation_id="conversation-1")
    wanted = ApprovalRequested(
        approval_id="apr-1",
        requester="eli",
        question="run it",
        code=Code(language="sql", text="SELECT 1"),
        target=None,
        digest="d",
        plan="Scan",
        rule="execution.four_eyes",
        expires_at=4_000_000_000_000_000,
    )
    row = Message(
        message_id="approval-row",
        correlation_id="conversation-1",
        from_agent="GovernanceAgent",
        to_agent="*",
        message_type="event",
        kind="ApprovalRequested",
        content=wanted.model_dump_json(),
        timestamp=home.clock.now().timestamp().__int__() * 1_000_000,
        principal="eli",
    )
    if not signed:
        table = home.log("agent_messages")
        version = table.head() + 1
        assert table.put(version, codec.to_arrow([row], version)).won
        return
    from jobs.agents import agents_of

    bus = home.bus(agents_of("governance"))
    bus.submit([row]).result(10)
    bus.close()

"""What the views for auditors say of a recorded history is what the fold says of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
from deltalake import DeltaTable

from bus import views
from bus.fold import valid_rows
from bus.log import rows as codec
from schemas.envelope import Message
from schemas.tables import AGENT_MESSAGES
from tests.unit.audit.recorded import open_home


@pytest.fixture(scope="module")
def duck(recorded_home: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register(
            "agent_messages", DeltaTable(str(recorded_home / "tables/agent_messages")).to_pyarrow_table()
        )
        for statement in views.statements("duckdb", names=(*views.NAMES, *views.AUDIT_NAMES)):
            connection.execute(statement)
        yield connection


@pytest.fixture(scope="module")
def valid(recorded_home: Path) -> list[Message]:
    return valid_rows(codec.from_arrow(open_home(recorded_home).log(AGENT_MESSAGES.name).scan()[0]))


def ask(duck: duckdb.DuckDBPyConnection, query: str) -> list[dict[str, Any]]:
    return duck.sql(query).to_arrow_table().to_pylist()


def said(message: Message) -> dict[str, Any]:
    return json.loads(message.content)


def one(valid: list[Message], kind: str, number: int = 0) -> Message:
    return [m for m in valid if m.kind == kind][number]


def test_audit_facts_are_those_of_the_fold(duck: duckdb.DuckDBPyConnection, valid: list[Message]) -> None:
    facts = [m for m in valid if m.kind == "AuditRecorded"]
    found = ask(duck, "SELECT * FROM audit_facts ORDER BY log_version, seq")
    assert [(r["log_version"], r["seq"], r["writer"], r["sequence"], r["action"], r["rule"]) for r in found] == [
        (*m.position, *(said(m)[name] for name in ("writer", "sequence", "action", "rule"))) for m in facts
    ]
    refused = ask(duck, "SELECT log_version, seq FROM refusals ORDER BY log_version, seq")
    assert [(r["log_version"], r["seq"]) for r in refused] == [
        m.position for m in facts if said(m)["decision"] == "refused"
    ]
    assert refused


def test_the_approval_trail_says_who_asked_and_who_said_what(
    duck: duckdb.DuckDBPyConnection, valid: list[Message]
) -> None:
    approval = said(one(valid, "ApprovalRequested"))
    found = ask(duck, f"SELECT * FROM approval_trail WHERE approval_id = '{approval['approval_id']}' ORDER BY place")
    assert [(r["step"], r["actor"]) for r in found] == [
        ("requested", "eli"),
        ("signed_approve", "ada"),
        ("approved", "ada"),
    ]
    assert (found[0]["code"], found[0]["digest"]) == (approval["code"]["text"], approval["digest"])
    assert json.loads(found[0]["table_versions"]) == approval["table_versions"]
    assert found[1]["key_id"] == "user-ada"
    steps = ask(duck, "SELECT step, count(*) AS n FROM approval_trail GROUP BY step ORDER BY step")
    assert {r["step"]: r["n"] for r in steps} == {
        "requested": 2,
        "signed_approve": 1,
        "approved": 1,
        "signed_reject": 1,
        "rejected": 1,
    }


def test_an_execution_says_who_asked_who_approved_what_ran_and_what_changed(
    duck: duckdb.DuckDBPyConnection, valid: list[Message]
) -> None:
    (found,) = ask(duck, "SELECT * FROM governed_executions")
    run, claim, settled = (one(valid, kind) for kind in ("RunCode", "ExecutionClaimed", "ExecutionSettled"))
    grant = said(run)["grant"]
    for name in ("grant_id", "requester", "approved_by", "rule", "target", "code_sha256"):
        assert found[name] == grant[name], name
    assert json.loads(found["read_versions"]) == grant["table_versions"]
    assert (found["code"], found["status"], found["row_count"], found["table_version"]) == (
        said(claim)["code"],
        said(settled)["step"],
        said(settled)["row_count"],
        said(settled)["table_version"],
    )
    assert (found["decided_version"], found["claimed_version"], found["settled_version"]) == (
        run.log_version,
        claim.log_version,
        settled.log_version,
    )
    (changed,) = ask(duck, "SELECT * FROM table_changes")
    assert (changed["table_name"], changed["grant_id"]) == (grant["target"], grant["grant_id"])


def test_the_state_of_a_decision_is_the_log_below_it(duck: duckdb.DuckDBPyConnection, valid: list[Message]) -> None:
    """What governance knew when it granted: the approval and ada's yes, and not yet the claim."""
    known = ask(
        duck,
        "SELECT m.kind FROM grants g JOIN valid_messages m ON m.correlation_id = g.correlation_id "
        "WHERE m.log_version < g.decided_version AND m.kind IN ('ApprovalRequested', 'Decide', 'ExecutionClaimed') "
        "ORDER BY m.place",
    )
    assert [row["kind"] for row in known] == ["ApprovalRequested", "Decide"]


def test_every_key_that_signed_is_listed(duck: duckdb.DuckDBPyConnection, valid: list[Message]) -> None:
    found = {(r["key_id"], r["from_agent"]): r["row_count"] for r in ask(duck, "SELECT * FROM key_uses")}
    counted: dict[tuple[str | None, str], int] = {}
    for message in valid:
        counted[message.key_id, message.from_agent] = counted.get((message.key_id, message.from_agent), 0) + 1
    assert found == counted

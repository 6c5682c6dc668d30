"""The demonstration, end to end on Structured Streaming, and what it leaves behind."""

from __future__ import annotations

import duckdb
import pytest
from deltalake import DeltaTable

from tests.acceptance.conftest import Said, Shell

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def shown(shell: Shell) -> Said:
    return shell("demo", "--json")


def test_each_request_ends_as_it_should(shown: Said) -> None:
    assert shown.code == 0, shown.err
    assert shown.json["engine"] == "streaming"
    assert [(one["as"], one["status"]) for one in shown.json["requests"]] == [
        ("ana", "answered"),
        ("eli", "answered"),
        ("eli", "answered"),
        ("ana", "answered"),
        ("ana", "refused"),
    ]
    knowledge, code, executed, published, refused = shown.json["requests"]
    assert knowledge["sources"]
    assert code["code"]["language"] == "sql"
    assert executed["result"]["table"] == "results.top_customers"
    assert published["result"]["rows"] == executed["result"]["rows"]
    assert refused["refusal"]["rule"] == "rbac.sql.execute"


def test_it_verifies_the_audit_trail(shown: Said) -> None:
    assert shown.json["audit"]["ok"] is True
    assert shown.json["audit"]["checked"]["grants"] == 1


def test_the_result_is_an_ordinary_delta_table(shell: Shell, shown: Said) -> None:
    table = DeltaTable(str(shell.home / "warehouse" / "results" / "top_customers")).to_pyarrow_table()
    assert table.num_rows == 10
    sales = table.column("sales").to_pylist()
    assert sales == sorted(sales, reverse=True)


def test_auditors_query_it_with_plain_sql(shell: Shell, shown: Said) -> None:
    audit_log = DeltaTable(str(shell.home / "tables" / "audit_log")).to_pyarrow_table()
    messages = DeltaTable(str(shell.home / "tables" / "agent_messages")).to_pyarrow_table()
    with duckdb.connect() as database:
        database.register("audit_log", audit_log)
        database.register("agent_messages", messages)
        query = "SELECT action, principal FROM audit_log WHERE decision = 'refused'"
        assert database.execute(query).fetchall() == [("request.refused", "ana")]
        grants = "SELECT count(*) FROM agent_messages WHERE kind = 'RunCode' AND from_agent = 'GovernanceAgent'"
        assert database.execute(grants).fetchall() == [(1,)]


def test_nothing_is_left_running(shell: Shell, shown: Said) -> None:
    assert {one["state"] for one in shell("agents", "--json").json} == {"stopped"}

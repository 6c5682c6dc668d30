"""The views say what the fold says: here by DuckDB, on histories full of races; Spark has tests of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import Phase, given, settings

from bus import views
from bus.fold import State, valid_rows
from bus.log import rows as codec
from schemas.envelope import Message
from schemas.payloads import Receipt
from schemas.tables import AGENT_MESSAGES
from tests.unit.bus.histories import histories
from tests.unit.bus.logs import message


def table(commits: Sequence[Sequence[Message]]) -> pa.Table:
    """As a reader of agent_messages gets it."""
    parts = [codec.to_arrow(commit, commit[0].log_version) for commit in commits if commit]
    rows = pa.concat_tables(parts)
    return rows.append_column("date", pa.nulls(rows.num_rows, pa.date32())).cast(AGENT_MESSAGES.arrow)


@pytest.fixture(scope="module")
def duck() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("SET threads = 1")
        connection.register("agent_messages", AGENT_MESSAGES.arrow.empty_table())
        for statement in views.statements("duckdb"):
            connection.execute(statement)
        yield connection


def ask(duck: duckdb.DuckDBPyConnection, commits: Sequence[Sequence[Message]], query: str) -> list[tuple[Any, ...]]:
    duck.register("agent_messages", table(commits))
    return duck.execute(query).fetchall()


def rows_of(commits: Sequence[Sequence[Message]]) -> list[Message]:
    return [m for commit in commits for m in commit]


def folded(commits: Sequence[Sequence[Message]]) -> State:
    state = State()
    state.load(rows_of(commits))
    return state


# Without shrinking: a history that fails is read as it is, and minutes of shrinking tell little more.
@given(commits=histories(60))
@settings(max_examples=8, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
def test_the_views_say_what_the_fold_says(duck: duckdb.DuckDBPyConnection, commits: list[list[Message]]) -> None:
    if not commits:
        return
    valid = valid_rows(rows_of(commits))
    assert ask(duck, commits, "SELECT log_version, seq FROM valid_messages ORDER BY place") == [
        m.position for m in valid
    ]
    waiting = duck.execute("SELECT message_id, agent FROM open_messages").fetchall()
    assert sorted(waiting) == sorted(folded(commits).open)


def history(*commits: list[Message]) -> list[list[Message]]:
    return [
        [m.model_copy(update={"log_version": version, "seq": seq}) for seq, m in enumerate(commit)]
        for version, commit in enumerate(commits, 1)
    ]


def settled(message_id: str, agent: str = "A", *, after_s: float, **said: Any) -> Message:
    return message(
        f"h-{message_id}",
        causation_id=message_id,
        from_agent=agent,
        to_agent="",
        message_type="receipt",
        kind="Receipt",
        content=Receipt(**{"outcome": "handled", **said}).model_dump_json(),
        timestamp=START + round(after_s * 1_000_000),
        handling_id=f"h-{message_id}",
    )


START = 1_767_225_600_000_000


def test_a_conversation_says_who_began_it_and_what_is_open_in_it(duck: duckdb.DuckDBPyConnection) -> None:
    told = history(
        [message("m1", correlation_id="c1", content='{"n":1}'), message("m2", correlation_id="c2", principal="ada")],
        [
            settled("m1", after_s=2, handled_ms=5.0).model_copy(update={"correlation_id": "c1"}),
            message(
                "m3", correlation_id="c1", from_agent="A", to_agent="B", handling_id="h-m1", timestamp=START + 2_000_000
            ),
        ],
    )
    columns = "principal, question, elapsed_ms, handled_ms, message_count, receipt_count, open_count, dead_count"
    found = ask(duck, told, f"SELECT correlation_id, {columns} FROM conversations ORDER BY 1")  # columns of this module
    assert found == [("c1", "eli", '{"n":1}', 2000.0, 5.0, 2, 1, 1, 0), ("c2", "ada", "{}", 0.0, None, 1, 0, 1, 0)]


def test_a_message_that_was_given_up_says_why(duck: duckdb.DuckDBPyConnection) -> None:
    told = history(
        [message("m1", content='{"n":1}'), message("m2")],
        [settled("m1", after_s=1, outcome="dead", reason="ValueError: no", attempts=3), settled("m2", after_s=1)],
    )
    found = ask(duck, told, "SELECT message_id, agent, attempts, reason, content, from_agent FROM dead_messages")
    assert found == [("m1", "A", 3, "ValueError: no", '{"n":1}', "user:eli")]


def test_handling_times_are_those_of_the_receipts_that_count(duck: duckdb.DuckDBPyConnection) -> None:
    told = history(
        [message(f"m{n}") for n in range(1, 6)],
        *([settled(f"m{n}", after_s=n, handled_ms=n * 10.0)] for n in range(1, 6)),
        [
            settled("m1", after_s=900, handled_ms=9000.0).model_copy(
                update={"message_id": "late", "handling_id": "late"}
            )
        ],
        [settled("m2", "Stranger", after_s=900, handled_ms=9000.0).model_copy(update={"message_id": "x"})],
    )
    columns = "agent, kind, receipt_count, dead_count, handled_ms_p50, handled_ms_p95, elapsed_ms_p50, elapsed_ms_p95"
    found = ask(duck, told, f"SELECT {columns} FROM handling_times")  # columns of this module
    assert found == [("A", "Ping", 5, 0, 30.0, 48.0, 3000.0, 4800.0)]


def test_the_rate_counts_rows_by_minute(duck: duckdb.DuckDBPyConnection) -> None:
    told = history(
        [message("m1", timestamp=START + 59_999_999), message("m1", timestamp=START)],
        [message("m2", timestamp=START + 60_000_000)],
        [settled("m1", after_s=61)],
    )
    found = ask(
        duck, told, "SELECT epoch_us(minute), row_count, receipt_count, commit_count FROM message_rate ORDER BY 1"
    )
    assert found == [(START, 1, 0, 1), (START + 60_000_000, 2, 1, 2)]


def test_content_that_is_no_json_stops_no_query(duck: duckdb.DuckDBPyConnection) -> None:
    garbage = [
        message("m1", content="no json", kind="ExecutionClaimed", message_type="event", to_agent="*"),
        message("m2", content="no json", kind="InstanceChanged", message_type="event", to_agent="*"),
        message("m3", content="", to_agent="A"),
        settled("m3", after_s=1).model_copy(update={"content": "{"}),
    ]
    told = history(*([one] for one in garbage))
    assert ask(duck, told, "SELECT message_id FROM valid_messages ORDER BY place") == [
        (m.message_id,) for m in valid_rows(rows_of(told))
    ]
    for name in views.NAMES:
        duck.sql(f"SELECT * FROM {name}").to_arrow_table()  # names of ours


def test_views_can_be_kept_in_a_schema() -> None:
    kept = list(views.statements("duckdb", schema="main"))
    assert [statement.split()[4] for statement in kept] == [f"main.{name}" for name in views.NAMES]
    with duckdb.connect() as connection:
        connection.execute(f"CREATE TABLE agent_messages ({AGENT_MESSAGES.spark_ddl})")
        for statement in kept:
            connection.execute(statement)
        tables = {
            row[0] for row in connection.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall()
        }
    assert tables == set(views.NAMES)

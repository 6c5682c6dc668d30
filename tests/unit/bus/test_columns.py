"""A bulk append writes what messages would have written: the same rows, the same signatures, the same refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from hypothesis import given, settings
from hypothesis import strategies as st

from bus.audit import AuditChain
from bus.errors import Closed, ContentTooLarge, NotAMessage
from bus.keys import Keyring, Signer, create_keys
from bus.log import rows as codec
from bus.log.bus import LogBus
from bus.log.columns import Columns
from bus.log.seal import SigningSeal
from bus.log.table import DeltaLog
from schemas.envelope import MAX_CONTENT, Message
from schemas.tables import AGENT_MESSAGES

COMMON = {"from_agent": "user:eli", "message_type": "request", "principal": "eli"}

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
kinds = texts.map(lambda text: f"K{text}")  # none of those that a bulk must not hold
numbers = st.integers(-(2**62), 2**62)
times = st.integers(-(2**55), 2**55)  # in years that a calendar has


@st.composite
def bulks(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Rows that all have the same columns, with nulls where they may be."""
    optional: dict[str, st.SearchStrategy[Any]] = {
        "causation_id": st.none() | texts,
        "priority": st.integers(1, 10),
        "not_before": st.none() | numbers,
        "expires_at": numbers,
        "traceparent": st.none() | texts,
        "schema_version": st.integers(1, 9),
    }
    there = draw(st.sets(st.sampled_from(sorted(optional))))
    columns = {"message_id": texts, "correlation_id": texts, "to_agent": texts, "kind": kinds, "content": texts}
    columns |= {"timestamp": times} | {name: optional[name] for name in there}
    rows = draw(st.lists(st.fixed_dictionaries(columns), min_size=1, max_size=8))
    alike = draw(st.sets(st.sampled_from(sorted(columns))))
    return [row | {name: rows[0][name] for name in alike} for row in rows]


@given(bulks())
@settings(max_examples=60, deadline=None)
def test_the_signed_bytes_of_a_bulk_are_those_of_its_messages(rows: list[dict[str, Any]]) -> None:
    messages = [Message(**{**COMMON, **row}) for row in rows]
    assert Columns(rows, COMMON).signed_bytes("t", "e", "k") == [m.signed_bytes("t", "e", "k") for m in messages]


@given(bulks())
@settings(max_examples=30, deadline=None)
def test_the_file_of_a_bulk_is_that_of_its_messages(rows: list[dict[str, Any]]) -> None:
    messages = [Message(**{**COMMON, **row}) for row in rows]
    columns, expected = Columns(rows, COMMON), codec.to_arrow(messages, 7)
    assert columns.table(7, None).equals(expected)
    stored = columns.encoded(7, None)
    assert pq.read_table(pa.BufferReader(stored.data)).equals(expected)
    assert (stored.rows, stored.stats) == (len(rows), codec.row_stats(messages, 7))


def row(number: int, **changed: Any) -> dict[str, Any]:
    return {
        "message_id": f"m{number}",
        "correlation_id": f"c{number}",
        "to_agent": "A",
        "kind": "Ping",
        "content": f'{{"n":{number}}}',
        "timestamp": number,
        **changed,
    }


@pytest.fixture
def world(tmp_path: Path) -> tuple[DeltaLog, Signer, Keyring]:
    create_keys(tmp_path / "keys", {"user-eli": ["user:eli"]}, -10)
    table = DeltaLog(tmp_path / "agent_messages", AGENT_MESSAGES)
    table.create()
    signer = Signer.load(tmp_path / "keys", ["user:eli"], table.check(), "dev")
    return table, signer, Keyring.load(tmp_path / "keys")


@pytest.mark.parametrize("follow_only", [False, True])
def test_a_bulk_is_one_signed_commit_that_every_reader_sees(
    world: tuple[DeltaLog, Signer, Keyring], follow_only: bool
) -> None:
    table, signer, keyring = world
    seal = SigningSeal(signer, AuditChain("w"))
    bus = LogBus(table, seal=seal, follow_only=follow_only)
    other = LogBus(DeltaLog(table.path, AGENT_MESSAGES))
    version = bus.submit_rows([row(n) for n in range(2000)], COMMON).result(timeout=30)
    other.catch_up()
    waiting = other.state.open_for("A")
    assert [m.message_id for m in waiting] == [f"m{n}" for n in range(2000)]
    assert all(keyring.accepts(m, signer.table_id, "dev") for m in waiting[::97])
    if not follow_only:
        assert [m.position for m in bus.state.open_for("A")] == [m.position for m in waiting]
    found = DeltaTable(str(table.path)).to_pyarrow_table()
    assert found.num_rows == 2000
    assert set(found["log_version"].to_pylist()) == {version}
    one = DeltaTable(str(table.path)).to_pyarrow_table(filters=[("message_id", "=", "m1234")])
    assert one["content"].to_pylist() == ['{"n":1234}']
    other.close()
    bus.close()
    assert isinstance(bus.submit_rows([row(1)], COMMON).exception(), Closed)


@pytest.mark.parametrize(
    ("rows", "error", "words"),
    [
        ([row(1), row(2, message_id=None)], NotAMessage, "message_id is null"),
        ([row(1, to_agent=None), row(2, to_agent=None)], NotAMessage, "null in 2 of 2"),
        ([row(1, kind="")], NotAMessage, "kind must have"),
        ([row(1), row(2, kind=""), row(3)], NotAMessage, "kind must have"),
        ([row(1, message_id="x" * 101)], NotAMessage, "message_id must have"),
        ([row(1, priority=11)], NotAMessage, "priority must be 1 to 10"),
        ([row(1, priority=3), row(2, priority=11)], NotAMessage, "priority must be 1 to 10"),
        ([row(1, priority=None)], NotAMessage, "priority must be 1 to 10"),
        ([row(1, content=5)], NotAMessage, "content"),
        ([row(1), row(2, content=5), row(3)], NotAMessage, "content"),
        ([row(1, content="x"), row(2, content=["x"]), row(3, content="x")], NotAMessage, "content"),
        ([row(1, timestamp="now")], NotAMessage, "timestamp"),
        ([row(1, log_version=3)], NotAMessage, "log_version"),
        ([row(1), {"message_id": "m"}], NotAMessage, "missing in another"),
        ([row(1, message_type="receipt")], NotAMessage, "receipt"),
        ([row(1, kind="ExecutionClaimed", message_type="event")], NotAMessage, "ExecutionClaimed"),
        ([row(1, content="x" * (MAX_CONTENT + 1))], ContentTooLarge, "limit"),
        ([row(1), row(2, content="x" * (MAX_CONTENT + 1))], ContentTooLarge, "limit"),
    ],
)
def test_a_bulk_with_one_bad_row_is_refused_whole(
    world: tuple[DeltaLog, Signer, Keyring], rows: list[dict[str, Any]], error: type[Exception], words: str
) -> None:
    table = world[0]
    bus = LogBus(table)
    with pytest.raises(error, match=words):
        bus.submit_rows(rows, COMMON).result(timeout=30)
    assert table.head() == 0
    bus.close()

"""The hand-written parquet of bulk appends: independent readers find in it what the rows said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, QueryBuilder

from bus.log.bus import LogBus
from bus.log.columns import Columns, Signatures
from bus.log.table import DeltaLog
from schemas.tables import AGENT_MESSAGES

COMMON = {"from_agent": "user:eli", "message_type": "request", "principal": None}


def row(number: int, **changed: Any) -> dict[str, Any]:
    return {
        "message_id": f"m{number}",
        "correlation_id": f"c{number:05}",
        "causation_id": None if number % 3 else f"m{number}",
        "to_agent": "",
        "kind": "Ping",
        "content": "é" * (number % 50),
        "timestamp": 1_767_225_600_000_000 + number,
        "not_before": None if number % 7 else number,
        "expires_at": None,
        "priority": 1 + number % 10,
        **changed,
    }


@pytest.mark.parametrize("count", [1, 2, 255, 256, 5_000, 9_001])
@pytest.mark.parametrize("width", [1, 8, 32])
def test_a_signature_is_found_at_each_row_of_its_group(count: int, width: int) -> None:
    texts = [f"signature {place}" for place in range((count + width - 1) // width)]
    signatures = Signatures("user-eli", texts, width)
    columns = Columns([row(number) for number in range(count)], COMMON)
    found = pq.read_table(pa.BufferReader(columns.encoded(3, signatures).data))
    expected = columns.table(3, signatures)
    assert found.column("signature").to_pylist() == [texts[place // width] for place in range(count)]
    rest = [name for name in found.column_names if name != "signature"]
    assert found.select(rest).equals(expected.select(rest))
    assert set(found.column("key_id").to_pylist()) == {"user-eli"}


def test_delta_readers_and_duckdb_find_every_value(tmp_path: Path) -> None:
    table = DeltaLog(tmp_path / "agent_messages", AGENT_MESSAGES)
    table.create()
    bus = LogBus(table, follow_only=True)
    rows = [row(number) for number in range(3_000)]
    bus.submit_rows(rows[:2_999], COMMON).result(timeout=30)
    bus.submit_rows(rows[2_999:], COMMON).result(timeout=30)  # one row, nothing of it varies
    bus.close()
    names = list(rows[0])
    wanted = [tuple(one[name] for name in names) for one in rows]
    delta = DeltaTable(str(table.path))
    found = delta.to_pyarrow_table(columns=names)
    times = [field.name for field in found.schema if pa.types.is_timestamp(field.type)]
    for name in times:
        found = found.set_column(names.index(name), name, found.column(name).cast(pa.int64()))
    by_arrow = sorted(zip(*(found.column(name).to_pylist() for name in names), strict=True), key=lambda r: r[1])
    assert by_arrow == wanted
    counts = "count(*), count(causation_id), count(not_before), count(expires_at), count(principal), count(DISTINCT to_agent)"
    by_rust = pa.table(QueryBuilder().register("m", delta).execute(f"SELECT {counts} FROM m").read_all())
    assert list(by_rust.to_pylist()[0].values()) == [3_000, 1_000, 429, 0, 0, 1]
    shown = ", ".join(f"epoch_us({name})" if name in times else name for name in names)
    by_duck = duckdb.sql(f"SELECT {shown} FROM read_parquet('{table.path}/*/*.parquet') ORDER BY correlation_id")
    assert by_duck.fetchall() == wanted


def test_rows_too_long_for_one_page_are_written_in_several() -> None:
    rows = [row(number, content=f"{number}" + "x" * 20_000) for number in range(500)]
    stored = Columns(rows, COMMON).encoded(3, None)
    found = pq.read_table(pa.BufferReader(stored.data))
    assert found.column("content").to_pylist() == [one["content"] for one in rows]

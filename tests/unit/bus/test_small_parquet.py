"""The hand-written parquet of small commits: every reader finds in it what the general writer would have written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable
from hypothesis import given, settings
from hypothesis import strategies as st

from bus.log import rows as codec
from bus.log.bus import LogBus
from bus.log.parquet import SmallParquet
from bus.log.table import DeltaLog
from schemas.envelope import Message
from schemas.tables import AGENT_MESSAGES

WRITER = SmallParquet(AGENT_MESSAGES)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)
longs = st.integers(-(2**63), 2**63 - 1)

messages = st.builds(
    Message,
    message_id=names,
    correlation_id=names,
    causation_id=st.none() | texts,
    from_agent=names,
    to_agent=texts.map(lambda text: text[:200]),
    message_type=st.sampled_from(["request", "response", "event", "receipt"]),
    kind=names,
    schema_version=st.integers(-(2**31), 2**31 - 1),
    content=texts,
    priority=st.integers(1, 10),
    timestamp=longs,
    not_before=st.none() | longs,
    expires_at=st.none() | longs,
    attempt=st.integers(1, 2**31 - 1),
    principal=st.none() | texts,
    traceparent=st.none() | texts,
    key_id=st.none() | texts,
    signature=st.none() | texts,
    handling_id=st.none() | texts,
)


def raws(rows: list[Message], version: int) -> list[dict[str, Any]]:
    return [{**m.__dict__, "log_version": version, "seq": place} for place, m in enumerate(rows)]


@given(st.lists(messages, min_size=1, max_size=6), st.integers(0, 2**62))
@settings(max_examples=80, deadline=None)
def test_pyarrow_reads_the_very_table_it_would_have_written(rows: list[Message], version: int) -> None:
    read = pq.read_table(pa.BufferReader(WRITER.encode(raws(rows, version))))
    assert read.equals(codec.to_arrow(rows, version))


def test_no_rows_are_a_table_all_the_same() -> None:
    assert codec.to_arrow([], 7).equals(codec.to_arrow([row(1)], 7).slice(0, 0))


def row(number: int, **changed: Any) -> Message:
    return Message(
        **{
            "message_id": f"m{number}",
            "correlation_id": f"c{number}",
            "from_agent": "user:eli",
            "to_agent": "A",
            "message_type": "request",
            "kind": "Ping",
            "content": f'{{"n":{number},"text":"{"é" * (number * 50)}"}}',
            "timestamp": 1_767_225_600_000_000 + number,
            "principal": None if number % 3 else "eli",
            **changed,
        }
    )


def test_more_columns_and_longer_values_than_one_byte_counts(tmp_path: Path) -> None:
    rows = [row(number) for number in range(140)]
    file = tmp_path / "small.parquet"
    file.write_bytes(WRITER.encode(raws(rows, 300)))
    assert pq.read_table(file).equals(codec.to_arrow(rows, 300))
    found = duckdb.sql(
        f"SELECT message_id, content, epoch_us(timestamp), principal, seq FROM '{file}' ORDER BY seq"
    ).fetchall()
    assert [(f[0], f[1], f[3], f[4]) for f in found] == [
        (m.message_id, m.content, m.principal, place) for place, m in enumerate(rows)
    ]
    assert [f[2] for f in found] == [m.timestamp for m in rows]


def test_an_entry_says_the_same_as_its_file_and_delta_readers_see_it(tmp_path: Path) -> None:
    table = DeltaLog(tmp_path / "agent_messages", AGENT_MESSAGES)
    table.create()
    bus = LogBus(table)
    commits = [[row(1), row(2)], [row(number) for number in range(3, 60)], [row(100, content="x" * 20_000)]]
    commits.append([row(number) for number in range(200, 400)])
    for commit in commits:
        version = bus.submit(commit).result(timeout=30)
        entry = table.entry(version)
        assert entry is not None
        assert codec.of_entry(table, entry) == codec.from_arrow(table.read(entry), version)
        assert bool(entry.inline) == (len(commit) <= 100 and sum(len(m.content) for m in commit) <= 16_384)
    bus.close()
    found = DeltaTable(str(table.path)).to_pyarrow_table()
    assert sorted(found["message_id"].to_pylist()) == sorted(m.message_id for commit in commits for m in commit)
    one = DeltaTable(str(table.path)).to_pyarrow_table(filters=[("correlation_id", "=", "c7")])
    assert one["message_id"].to_pylist() == ["m7"]


def test_rows_in_an_entry_that_do_not_fit_its_files_are_not_believed(tmp_path: Path) -> None:
    table = DeltaLog(tmp_path / "agent_messages", AGENT_MESSAGES)
    table.create()
    bus = LogBus(table)
    version = bus.submit([row(1), row(2)]).result(timeout=30)
    bus.close()
    path = table.path / f"_delta_log/{version:020d}.json"
    told = path.read_text()
    for lie in ('"rows":[]', '"rows":[1,2]', '"rows":[{}]', '"rows":"no"', '"rows":null'):
        start = told.index('"rows":[')
        path.write_text(told[:start] + lie + told[told.index("]", told.index('"m2"')) + 1 :])
        entry = table.entry(version)
        assert entry is not None
        assert [m.message_id for m in codec.of_entry(table, entry)] == ["m1", "m2"]

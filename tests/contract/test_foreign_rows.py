"""Rows of somebody who knows the columns and none of the rules: refused with a receipt, and nobody else notices."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pyarrow as pa
import pytest

from schemas.payloads import Payload
from tests.contract.harness import Listener, Ping, Pinger, eventually, message, result
from workers.runtime.base import Context, Outgoing, Received, Worker


class GovernanceAgent(Worker):
    """Whom rows without an addressee go to."""

    handles = (Ping,)

    async def handle(self, message: Received, context: Context) -> list[Outgoing]:
        raise AssertionError("nothing here can be handled")


def proper(payload: Payload, **changed: Any) -> dict[str, Any]:
    return message(payload).model_dump() | {"log_version": None, "seq": None} | changed


MALFORMED_ROWS: dict[str, dict[str, Any]] = {
    "all null": {},
    "no id": {"message_id": None},
    "empty id": {"message_id": ""},
    "long id": {"message_id": "x" * 101},
    "no conversation": {"correlation_id": None},
    "no sender": {"from_agent": None},
    "no addressee": {"to_agent": None},
    "no kind": {"kind": None},
    "no content": {"content": None},
    "no time": {"timestamp": None},
    "no attempt": {"attempt": None},
    "priority 0": {"priority": 0},
    "priority 11": {"priority": 11},
    "priority null": {"priority": None},
    "strange type": {"message_type": "shout"},
    "no json": {"content": "no json"},
    "for everybody": {"to_agent": "*", "priority": 0},
    "for a person": {"to_agent": "user:ada", "kind": None},
}


@pytest.mark.parametrize("name", MALFORMED_ROWS)
async def test_a_malformed_row_gets_one_rejected_receipt(name: str, log_world: Any) -> None:
    changed = MALFORMED_ROWS[name]
    worker = Pinger()
    host = await log_world.host(worker, GovernanceAgent())
    row = {} if name == "all null" else proper(Ping(n=1), **changed)
    await asyncio.to_thread(log_world.foreign, row)
    result(log_world.bus().submit([message(Ping(n=2))]))
    await eventually(lambda: worker.ended == [2])
    receipts = await eventually(lambda: len(found := rejected(log_world)) == 1 and found)
    facts = [json.loads(r["content"]) for r in log_world.of_kind("AuditRecorded")]
    assert [(f["action"], f["rule"]) for f in facts] == [("message.rejected", "message.malformed")]
    assert receipts[0]["from_agent"] in ("Pinger", "GovernanceAgent")
    # Whoever comes later agrees that it is settled.
    await log_world.stop(host)
    await log_world.host(Pinger(), GovernanceAgent())
    result(log_world.bus().submit([message(Ping(n=3))]))
    await eventually(lambda: len(log_world.of_kind("Pong")) == 2)
    assert len(rejected(log_world)) == 1


def rejected(world: Any) -> list[dict[str, Any]]:
    return [r for r in world.receipts() if json.loads(r["content"])["outcome"] == "rejected"]


async def test_odd_rows_are_settled_and_the_rest_is_handled(table_world: Any) -> None:
    worker = Pinger()
    host = await table_world.host(worker, GovernanceAgent(), Listener())
    rows = [{} if name == "all null" else proper(Ping(n=1), **changed) for name, changed in MALFORMED_ROWS.items()]
    await asyncio.to_thread(table_world.foreign, *rows, proper(Ping(n=5)), proper(Ping(n=6), log_version=1, seq=0))
    await eventually(lambda: sorted(worker.ended) == [5, 6], table_world.patience)
    await eventually(lambda: len(rejected(table_world)) == len(rows), table_world.patience)
    await eventually(lambda: len(table_world.receipts()) == len(rows) + 2, table_world.patience)
    await table_world.stop(host)
    again = Pinger()
    await table_world.host(again, GovernanceAgent(), Listener())
    result(table_world.bus().submit([message(Ping(n=7))]))
    await eventually(lambda: len(table_world.receipts()) == len(rows) + 3, table_world.patience)
    assert again.ended == [7]


async def test_a_row_that_lies_about_its_place_stands_where_it_was_committed(table_world: Any) -> None:
    first = message(Ping(n=1), conversation="same")
    result(table_world.bus().submit([first]))
    await asyncio.to_thread(
        table_world.foreign,
        proper(Ping(n=2), correlation_id="same", log_version=0, seq=0),
        proper(Ping(n=3), log_version=0),
    )
    known = table_world.bus()
    assert [json.loads(m.content)["n"] for m in known.conversation("same")] == [1, 2]
    assert [m.position for m in known.conversation("same")] == [(1, 0), (2, 0)]
    worker = Pinger()
    await table_world.host(worker)
    await eventually(lambda: len(table_world.receipts()) == 3, table_world.patience)
    assert [n for n in worker.began if n != 3] == [1, 2]


async def test_a_copy_of_a_message_id_with_other_content_changes_nothing(table_world: Any) -> None:
    gate = asyncio.Event()
    worker = Pinger(gate)
    host = await table_world.host(worker, inbox_capacity=1)
    outside = table_world.bus()
    real = message(Ping(n=2))
    result(outside.submit([message(Ping(n=1))]))
    await eventually(lambda: worker.began == [1], table_world.patience)
    result(outside.submit([real]))
    await asyncio.to_thread(table_world.foreign, proper(Ping(n=666), message_id=real.message_id))
    result(outside.submit([message(Ping(n=3))]))
    await eventually(lambda: host._bus.state.version >= 5, table_world.patience)
    gate.set()
    await eventually(lambda: len(table_world.receipts()) == 3, table_world.patience)
    assert sorted(worker.ended) == [1, 2, 3]


async def test_a_data_file_without_some_columns_reads_as_null_there(table_world: Any) -> None:
    """Delta allows it: what a file does not have is null."""
    worker = Pinger()
    await table_world.host(worker)
    row = proper(Ping(n=1))
    named = [
        "message_id",
        "correlation_id",
        "from_agent",
        "to_agent",
        "message_type",
        "kind",
        "content",
        "schema_version",
    ]
    columns = {name: [row[name]] for name in named}
    table = pa.table(columns | {"priority": pa.array([5], pa.int32()), "attempt": pa.array([1], pa.int32())})
    table = table.append_column("timestamp", pa.array([1], pa.timestamp("us", "UTC")))
    table = table.set_column(
        table.schema.get_field_index("schema_version"), "schema_version", table["schema_version"].cast(pa.int32())
    )
    await asyncio.to_thread(table_world.table.append, table)
    await eventually(lambda: worker.ended == [1], table_world.patience)

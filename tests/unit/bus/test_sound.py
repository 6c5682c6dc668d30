"""Rows that are checked column by column are the messages that checking each of them gives."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bus.log import rows as codec
from schemas.envelope import MALFORMED, Message
from schemas.tables import AGENT_MESSAGES

SCHEMA = AGENT_MESSAGES.file_schema
VERSION = 7
#: One way each in which a row is no message.
SPOILT: list[tuple[str, Any]] = [
    ("message_id", None),
    ("message_id", ""),
    ("message_id", "x" * 101),
    ("correlation_id", "ä" * 101),
    ("from_agent", ""),
    ("from_agent", "x" * 201),
    ("to_agent", None),
    ("to_agent", "x" * 201),
    ("message_type", None),
    ("message_type", "Request"),
    ("kind", ""),
    ("kind", "x" * 101),
    ("schema_version", None),
    ("content", None),
    ("priority", 0),
    ("priority", 11),
    ("priority", None),
    ("timestamp", None),
    ("attempt", 0),
]
#: What is unusual, and a message all the same.
UNUSUAL: list[tuple[str, Any]] = [
    ("message_id", "ä" * 100),
    ("to_agent", ""),
    ("content", ""),
    ("priority", 10),
    ("not_before", -5),
    ("causation_id", ""),
    ("message_type", "event"),
    ("attempt", 2**31 - 1),
]


def plain(place: int) -> dict[str, Any]:
    made = Message(
        message_id=f"m{place}",
        correlation_id=f"c{place}",
        causation_id=f"k{place}",
        from_agent="user:eli",
        to_agent="A",
        message_type="request",
        kind="Ping",
        content=f"{{{place}}}",
        timestamp=1_000_000 + place,
        traceparent=f"t{place}",
        signature=f"s{place}",
        log_version=VERSION,
        seq=place,
        handling_id=f"h{place}",
    )
    return dict(made.__dict__)


def table(rows: list[dict[str, Any]]) -> pa.Table:
    columns = [pa.array([row[field.name] for row in rows], type=field.type) for field in SCHEMA]
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def one_by_one(rows: list[dict[str, Any]]) -> list[Message]:
    return [message for row in rows for message in codec.from_arrow(table([row]))]


@pytest.mark.parametrize(("name", "value"), SPOILT)
def test_one_row_that_is_no_message_is_found_among_many(name: str, value: Any) -> None:
    rows = [plain(place) for place in range(codec.MANY)]
    rows[3][name] = value
    found = codec.from_arrow(table(rows), VERSION)
    assert [message.kind == MALFORMED for message in found] == [place == 3 for place in range(codec.MANY)]
    assert found == one_by_one(rows)


@given(st.dictionaries(st.integers(0, codec.MANY - 1), st.sampled_from(SPOILT + UNUSUAL), max_size=3))
@settings(max_examples=40, deadline=None)
def test_many_rows_are_what_each_of_them_is(changes: dict[int, tuple[str, Any]]) -> None:
    rows = [plain(place) for place in range(codec.MANY)]
    for place, (name, value) in changes.items():
        rows[place][name] = value
    found = codec.from_arrow(table(rows), VERSION)
    assert found == one_by_one(rows)
    assert [message.position for message in found] == [(VERSION, place) for place in range(codec.MANY)]


@pytest.mark.parametrize("seqs", [[None] * codec.MANY, [0] * codec.MANY, list(range(1, codec.MANY + 1))])
def test_of_one_entry_only_the_rows_order_says_where_they_stand_unless_they_say_it_well(seqs: list[Any]) -> None:
    rows = [plain(place) | {"seq": seq, "log_version": 3} for place, seq in enumerate(seqs)]
    found = codec.from_arrow(table(rows), VERSION)
    assert [(m.message_id, m.position) for m in found] == [(f"m{n}", (VERSION, n)) for n in range(codec.MANY)]
    backwards = [plain(place) | {"seq": codec.MANY - 1 - place} for place in range(codec.MANY)]
    assert [m.message_id for m in codec.from_arrow(table(backwards), VERSION)] == [
        f"m{n}" for n in reversed(range(codec.MANY))
    ]


def test_a_message_made_of_sound_columns_can_be_changed_like_any_other() -> None:
    (first, *_) = codec.from_arrow(table([plain(place) for place in range(codec.MANY)]), VERSION)
    assert first == Message(**plain(0))
    changed = first.model_copy(update={"kind": "Pong"})
    assert (changed.kind, first.kind) == ("Pong", "Ping")
    assert Message.model_validate_json(changed.model_dump_json()) == changed

"""Messages as Arrow rows and back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import pyarrow as pa
from pydantic import ValidationError

from bus.log.entry import Entry
from bus.log.parquet import SmallParquet
from bus.log.sound import sound
from bus.log.table import VARIED, DeltaLog, Encoded, parquet
from schemas.envelope import EVERYONE, MALFORMED, Message, is_user
from schemas.tables import AGENT_MESSAGES

_SCHEMA = AGENT_MESSAGES.file_schema
_NAMES = _SCHEMA.names
_validated = Message.__pydantic_validator__.validate_python  # what `model_validate` comes to, for rows by the thousand
_NULLS = dict.fromkeys(_NAMES)
_TYPES = dict(zip(_NAMES, _SCHEMA.types, strict=True))
#: In the table's order, in which `_sound_rows` takes them apart.
_VARIED = [name for name in _NAMES if name in VARIED]
_ALIKE = [name for name in _NAMES if name not in VARIED]
_SMALL = SmallParquet(AGENT_MESSAGES, VARIED | {"log_version"})

#: Rows that are written without pyarrow.
BY_HAND = 250
#: Rows, and characters of content, that an entry carries itself.
FEW = 100
INLINE = 16_384
#: Rows from which on they are checked column by column.
MANY = 50

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

#: Who rejects a row that names no addressee.
QUARANTINE = "GovernanceAgent"


def to_arrow(messages: Sequence[Message], version: int, *, shared: bool = False) -> pa.Table:
    """Rows of the commit that tries to be `version`, in their order. `shared`: signatures as a dictionary, for a file."""
    if not messages:
        return _SCHEMA.empty_table()
    columns: list[pa.Array] = []
    rows = [message.__dict__ for message in messages]
    for name, type_ in _TYPES.items():
        values: Sequence[Any]
        given = [row[name] for row in rows]
        if name == "log_version":
            values = [version]
        elif name == "seq":
            values = range(len(messages))
        elif given.count(given[0]) == len(given):  # as in most columns of a commit: one value, instead of a list of it
            values = given[:1]
        elif shared and name == "signature":
            columns.append(_shared(given))
            continue
        else:
            values = given
        column = pa.array(values, type=type_)
        columns.append(column if len(column) == len(messages) else pa.repeat(column[0], len(messages)))
    return pa.Table.from_arrays(columns, names=_NAMES) if shared else pa.Table.from_arrays(columns, schema=_SCHEMA)


def _shared(texts: Sequence[str | None]) -> pa.Array:
    """Signatures as they come: the rows of a group have one long text between them, which is stored once."""
    kept: list[str | None] = []
    places: list[int] = []
    last: object = kept  # is no text
    for text in texts:
        if text is not last:
            kept.append(text)
            last = text
        places.append(len(kept) - 1)
    return pa.DictionaryArray.from_arrays(pa.array(places, pa.int32()), pa.array(kept, pa.string()))


def encode(messages: Sequence[Message], version: int, decided: Sequence[str]) -> Encoded:
    """The commit that tries to be `version`, as it is stored."""
    if len(messages) > BY_HAND:
        return Encoded(
            parquet(to_arrow(messages, version, shared=True)), len(messages), row_stats(messages, version), decided
        )
    raws = [{**message.__dict__, "log_version": version, "seq": place} for place, message in enumerate(messages)]
    inline: list[dict[str, Any]] = []
    if len(messages) <= FEW and sum(len(message.content) for message in messages) <= INLINE:
        inline = [{name: value for name, value in m.__dict__.items() if value is not None} for m in messages]
    return Encoded(_SMALL.encode(raws), len(messages), row_stats(messages, version), decided, inline)


def of_entry(table: DeltaLog, entry: Entry) -> list[Message]:
    """The rows of one entry in their order, from the entry itself when it has them."""
    if not entry.inline:
        # One text is the signature of a whole group of rows, and longer than the rest of a row.
        return from_arrow(table.read(entry, shared=["signature"]), entry.version)
    # Where a row stands is what the entry says by its version and its order, whatever the row says.
    return [_message({**_NULLS, **raw, "seq": None}, entry.version, place) for place, raw in enumerate(entry.inline)]


def dated(rows: pa.Table) -> pa.Table:
    """Rows of a file with the partition column that a reader would add."""
    return rows.append_column("date", pa.nulls(rows.num_rows, pa.date32()))


def from_arrow(table: pa.Table, version: int | None = None) -> list[Message]:
    """Messages in log order. Of one entry (`version`), a foreign writer's rows get the entry's version and their place."""
    # Times as the integers they are stored as. Column by column: a commit is a few rows, and a table costs more than they do.
    columns = [table.column(name) for name in _NAMES]
    columns = [c.cast(pa.int64()) if pa.types.is_timestamp(c.type) else c for c in columns]
    if table.num_rows >= MANY and sound(dict(zip(_NAMES, columns, strict=True))):
        found = _sound_rows({name: _values(c) for name, c in zip(_NAMES, columns, strict=True)}, version)
    else:
        raws = [dict(zip(_NAMES, row, strict=True)) for row in zip(*map(_values, columns), strict=True)]
        if version is not None and not _is_order([_or_nothing(raw["seq"]) for raw in raws]):
            raws = [raw | {"seq": None} for raw in raws]
        found = [_message(raw, version, place) for place, raw in enumerate(raws)]
    found.sort(key=lambda row: row.position)
    return found


def _values(column: pa.ChunkedArray) -> list[Any]:
    """As Python's own; what is stored once stays one object."""
    if not pa.types.is_dictionary(column.type):
        found: list[Any] = column.to_pylist()
        return found
    found = []
    for chunk in column.chunks:
        texts = chunk.dictionary.to_pylist()
        found += [None if place is None else texts[place] for place in chunk.indices.to_pylist()]
    return found


def _sound_rows(values: dict[str, list[Any]], version: int | None) -> list[Message]:
    """Messages of columns that `sound` has looked at: one look at a column costs less than one at each row."""
    count = len(values["seq"])
    if version is not None:
        values["log_version"] = [version] * count
        if not _is_order(values["seq"]):
            values["seq"] = list(range(count))
    if all(values[name].count(values[name][0]) == count for name in _ALIKE):  # as in nearly every commit
        alike = {name: column[0] for name, column in values.items()}
        return [
            # A copy with some other values costs a third of a dictionary made of all of them.
            Message.of_sound(
                {
                    **alike,
                    "message_id": message_id,
                    "correlation_id": correlation_id,
                    "causation_id": causation_id,
                    "content": content,
                    "timestamp": timestamp,
                    "traceparent": traceparent,
                    "signature": signature,
                    "seq": seq,
                    "handling_id": handling_id,
                }
            )
            for message_id, correlation_id, causation_id, content, timestamp, traceparent, signature, seq, handling_id in zip(
                *(values[name] for name in _VARIED), strict=True
            )
        ]
    return [Message.of_sound(dict(zip(_NAMES, row, strict=True))) for row in zip(*values.values(), strict=True)]


def _is_order(seqs: Sequence[int]) -> bool:
    """Whether these are the places of the rows of one commit."""
    return sorted(seqs) == list(range(len(seqs)))


def well_placed(rows: Sequence[Message], head: int) -> bool:
    """Whether every row stands where this writer would have put it: else only the entries know the order."""
    commits: dict[int, list[int]] = {}
    for row in rows:
        commits.setdefault(row.log_version, []).append(row.seq)
    return all(0 < version <= head and sorted(seqs) == list(range(len(seqs))) for version, seqs in commits.items())


def _message(raw: dict[str, Any], version: int | None, place: int) -> Message:
    log_version = version if version is not None else _or_nothing(raw["log_version"])
    position = {"log_version": log_version, "seq": place if raw["seq"] is None else raw["seq"]}
    raw.update(position)
    try:
        return _validated(raw)
    except ValidationError as error:
        first = error.errors()[0]
        return _quarantined(raw, position, f"{'.'.join(str(p) for p in first['loc'])}: {first['msg']}")


def _or_nothing(number: int | None) -> int:
    return -1 if number is None else number


def _quarantined(raw: dict[str, Any], position: dict[str, int], reason: str) -> Message:
    """A stand-in for a row that is no message: it is rejected with a receipt, never crashes a worker, never vanishes.

    Its id is made of what the row says, not of where it stands: a stream and a scan do not know the place.
    """
    said = {name: raw[name] for name in _NAMES if name not in ("log_version", "seq")}
    digest = hashlib.sha256(json.dumps(said, default=str).encode()).hexdigest()[:32]
    message_id = f"malformed:{digest}"
    addressee = _words(raw.get("to_agent") or QUARANTINE)[:200]
    time = raw.get("timestamp")
    return Message(
        message_id=message_id,
        correlation_id=_words(raw.get("correlation_id") or message_id)[:100],
        from_agent=_words(raw.get("from_agent") or "unknown")[:200],
        # People and subscribers owe no receipt for it.
        to_agent=QUARANTINE if addressee == EVERYONE or is_user(addressee) else addressee,
        message_type="request",
        kind=MALFORMED,
        content=json.dumps(
            {"reason": reason, "message_id": str(raw.get("message_id"))[:100], "kind": str(raw.get("kind"))[:100]}
        ),
        timestamp=time if type(time) is int and -(2**63) <= time < 2**63 else 0,
        **position,
    )


def _words(value: Any) -> str:
    """Any value as text that can be written: JSON may hold half a character."""
    return str(value).encode(errors="replace").decode()


def row_stats(messages: Sequence[Message], version: int) -> dict[str, Any]:
    """Min and max of the ids, the timestamp and the version, so that readers can skip files."""
    ids = [message.message_id for message in messages]
    conversations = [message.correlation_id for message in messages]
    times = [message.timestamp for message in messages]

    def values(pick: Any) -> dict[str, Any]:
        return {
            "message_id": pick(ids),
            "correlation_id": pick(conversations),
            "timestamp": iso(pick(times)),
            "log_version": version,
        }

    least = values(min)
    return {
        "minValues": least,
        "maxValues": least if len(messages) == 1 else values(max),
        "nullCount": {"message_id": 0, "correlation_id": 0, "timestamp": 0, "log_version": 0},
    }


def iso(micros: int) -> str:
    seconds, rest = divmod(micros, 1_000_000)
    return f"{_second(seconds)}.{rest:06d}Z"


@lru_cache(maxsize=100)
def _second(seconds: int) -> str:
    return (_EPOCH + timedelta(seconds=seconds)).isoformat()[:19]

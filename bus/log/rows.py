"""Messages as Arrow rows and back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
from pydantic import ValidationError

from schemas.envelope import MALFORMED, Message
from schemas.tables import AGENT_MESSAGES

_SCHEMA = AGENT_MESSAGES.file_schema
_NAMES = _SCHEMA.names
_TIMES = [field.name for field in _SCHEMA if pa.types.is_timestamp(field.type)]


#: Who rejects a row that names no addressee.
QUARANTINE = "GovernanceAgent"


def to_arrow(messages: Sequence[Message], version: int) -> pa.Table:
    """Rows of the commit that tries to be `version`, in their order."""
    columns: list[pa.Array] = []
    for field in _SCHEMA:
        if field.name == "log_version":
            values: Any = [version] * len(messages)
        elif field.name == "seq":
            values = range(len(messages))
        else:
            values = [getattr(message, field.name) for message in messages]
        columns.append(pa.array(values, type=field.type))
    return pa.Table.from_arrays(columns, schema=_SCHEMA)


def from_arrow(table: pa.Table, version: int | None = None) -> list[Message]:
    """Messages in log order. A foreign writer's row without position gets the version of its entry."""
    table = table.select(_NAMES)
    for name in _TIMES:
        index = table.schema.get_field_index(name)
        table = table.set_column(index, name, table.column(index).cast(pa.int64()))
    found: list[Message] = []
    for place, raw in enumerate(table.to_pylist()):
        if raw["log_version"] is None or (version is not None and raw["log_version"] != version):
            raw["log_version"] = version if version is not None else -1
        if raw["seq"] is None:
            raw["seq"] = place
        try:
            found.append(Message.model_validate(raw))
        except ValidationError as error:
            first = error.errors()[0]
            found.append(_quarantined(raw, f"{'.'.join(str(p) for p in first['loc'])}: {first['msg']}"))
    found.sort(key=lambda row: row.position)
    return found


def _quarantined(raw: dict[str, Any], reason: str) -> Message:
    """A stand-in for a row that is no message: it is rejected with a receipt, never crashes a worker, never vanishes."""
    place = f"malformed:{raw['log_version']}:{raw['seq']}"
    claimed = str(raw.get("message_id"))[:100]
    return Message(
        message_id=place,
        correlation_id=str(raw.get("correlation_id") or place)[:100],
        from_agent=str(raw.get("from_agent") or "unknown")[:200],
        to_agent=str(raw.get("to_agent") or QUARANTINE)[:200],
        message_type="request",
        kind=MALFORMED,
        content=json.dumps({"reason": reason, "message_id": claimed, "kind": str(raw.get("kind"))[:100]}),
        timestamp=raw.get("timestamp") or 0,
        log_version=raw["log_version"],
        seq=raw["seq"],
    )


def row_stats(messages: Sequence[Message]) -> dict[str, Any]:
    """Min and max of the ids and the timestamp, so that readers can skip files."""
    ids = [message.message_id for message in messages]
    conversations = [message.correlation_id for message in messages]
    times = [message.timestamp for message in messages]

    def values(pick: Any) -> dict[str, Any]:
        return {
            "message_id": pick(ids),
            "correlation_id": pick(conversations),
            "timestamp": _iso(pick(times)),
        }

    return {
        "minValues": values(min),
        "maxValues": values(max),
        "nullCount": {"message_id": 0, "correlation_id": 0, "timestamp": 0},
    }


def _iso(micros: int) -> str:
    return pa.scalar(micros, pa.timestamp("us", tz="UTC")).as_py().isoformat(timespec="microseconds").replace("+00:00", "Z")

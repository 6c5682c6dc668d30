"""Whether columns hold nothing but messages: what the envelope asks of each row, asked of whole columns at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

import pyarrow as pa
import pyarrow.compute as pc

from schemas.envelope import Message, MessageType

_TYPES = pa.array(get_args(MessageType))


def _limits(least: str, most: str) -> dict[str, tuple[int | None, int | None]]:
    """Fields of the envelope that have such limits."""
    found: dict[str, tuple[int | None, int | None]] = {}
    for name, field in Message.model_fields.items():
        said = {key: getattr(one, key) for one in field.metadata for key in (least, most) if hasattr(one, key)}
        if said:
            found[name] = (said.get(least), said.get(most))
    return found


_LENGTHS = _limits("min_length", "max_length")
_NUMBERS = _limits("ge", "le")
_NEEDED = [name for name, field in Message.model_fields.items() if type(None) not in get_args(field.annotation)]


def sound(columns: Mapping[str, Any]) -> bool:
    """False when any of these rows, at least one, is no message, or might be none: then each is to be looked at."""
    return (
        not any(columns[name].null_count for name in _NEEDED)
        and all(_within(pc.utf8_length(columns[name]), *limits) for name, limits in _LENGTHS.items())
        and all(_within(columns[name], *limits) for name, limits in _NUMBERS.items())
        and pc.all(pc.is_in(columns["message_type"], _TYPES)).as_py()
    )


def _within(column: Any, least: int | None, most: int | None) -> bool:
    found = pc.min_max(column).as_py()
    if found["min"] is None:
        return True  # no value breaks no limit
    return (least is None or least <= found["min"]) and (most is None or found["max"] <= most)

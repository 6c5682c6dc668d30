"""What the engine and its child say to each other: one JSON document a line, errors by name, cells as JSON values."""

from __future__ import annotations

import base64
import json
import math
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from workers.ports import PortError, StatementFailed, StatementRefused

#: Bytes of one line. A result is bounded by its row limit; this bounds what a wide one may cost the parent.
LONGEST_LINE = 64 * 1024 * 1024


def encode(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def error_document(error: Exception) -> dict[str, Any]:
    if isinstance(error, StatementRefused):
        return {"error": "refused", "rule": error.rule, "reason": error.reason}
    return {"error": "failed", "reason": str(error)}


def error_from(document: dict[str, Any]) -> PortError:
    if document["error"] == "refused":
        return StatementRefused(document["rule"], document["reason"])
    return StatementFailed(document["reason"])


def cell(value: Any) -> Any:
    """A value of Spark as JSON: decimals as strings (a float would round money), times in ISO 8601."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, date | datetime | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bytes | bytearray):
        return base64.b64encode(value).decode()
    if hasattr(value, "asDict"):
        return {name: cell(inner) for name, inner in value.asDict().items()}
    if isinstance(value, dict):
        return {str(name): cell(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [cell(inner) for inner in value]
    return str(value)

"""How much execution does at once, how long it may take, and how much of a result goes into a message."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_core import PydanticSerializationError, to_json

from schemas.envelope import MAX_CONTENT
from schemas.payloads import EffectPreview
from workers.ports import Rows

#: Bytes of code: it stands in the claim and in every outcome as well.
CODE = 256 * 1024
#: Bytes that an outcome says besides question, code and rows: reasons, names, what was printed.
ROOM = 48 * 1024
#: Characters of a plan, of a reason, and of what code printed.
PLAN, REASON, OUTPUT = 100_000, 2_000, 4_000
#: Bytes of a preview.
PREVIEW = 128 * 1024


@dataclass(frozen=True)
class Limits:
    """`run_s`: seconds a run may take, whatever its engine allows. `at_once`: runs under way in this process, and
    `per_principal`: of one person. `rows`, `bytes`: of a result that is sent; a larger one is kept by reference.
    """

    run_s: float = 1800.0
    at_once: int = 4
    per_principal: int = 2
    rows: int = 1000
    bytes: int = 256 * 1024


def room_for_rows(limits: Limits, asked: str) -> int:
    """Bytes that rows may take beside what was asked; negative when not even the outcome would fit into a message.

    It is looked at before the effect: an outcome that the log refuses would leave it in doubt for no reason.
    """
    return min(limits.bytes, MAX_CONTENT - len(asked.encode()) - ROOM)


def bounded(result: Rows, limit: int) -> Rows:
    """As many of the rows as fit into so many bytes; a value that JSON cannot hold is shown as text."""
    columns = _fitting(result.columns)
    left = limit - len(to_json(columns))
    if left < 0:
        return Rows((), (), True)
    kept: list[tuple[Any, ...]] = []
    for row in result.rows:
        row = _fitting(row)
        left -= len(to_json(row)) + 1
        if left < 0:
            return Rows(columns, tuple(kept), True)
        kept.append(row)
    return Rows(columns, tuple(kept), result.truncated)


def _fitting(values: Sequence[Any]) -> tuple[Any, ...]:
    try:
        to_json(values)
        return tuple(values)
    except (PydanticSerializationError, ValueError, RecursionError):
        return tuple(storable(str(value)) for value in values)


def bounded_preview(effect: EffectPreview | None) -> EffectPreview | None:
    """Without its samples when they are too much for a message: the counts matter more."""
    if effect is None or len(effect.model_dump_json()) <= PREVIEW:
        return effect
    note = f"{effect.note} (the sample is too large to be shown)".strip()
    return effect.model_copy(update={"sample_added": None, "sample_removed": None, "note": note})


def storable(text: str, limit: int = REASON) -> str:
    """Of any text, what the log can hold."""
    text = text.encode(errors="replace").decode()
    return text if len(text) <= limit else f"{text[: limit - 1]}…"

"""A result as a table: numbers right-aligned and readable, long texts cut, the number of rows below."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from apps.cli.views.safe import safe

#: Rows shown; `--json` has them all.
SHOWN = 50
_NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?")
_DECIMAL = re.compile(r"(-?)(\d+)\.(\d+)")


def plain_table(*headings: str, right: Sequence[str] = ()) -> Table:
    """The look of all tables: no frame, a line under quiet headings."""
    table = Table(box=box.SIMPLE_HEAD, header_style="quiet", border_style="quiet", pad_edge=False, show_edge=False)
    for heading in headings:
        table.add_column(heading, justify="right" if heading in right else "left", overflow="fold")
    return table


def result_rows(
    columns: Sequence[str], rows: Sequence[Sequence[Any]], truncated: bool, limit: int = SHOWN
) -> RenderableType:
    numeric = {name for place, name in enumerate(columns) if _is_numeric([row[place] for row in rows])}
    table = plain_table(*map(safe, columns), right=[safe(name) for name in columns if name in numeric])
    shown = rows[:limit]
    places = [_places([row[at] for row in shown]) if name in numeric else None for at, name in enumerate(columns)]
    for row in shown:
        table.add_row(*(_cell(value, decimals) for value, decimals in zip(row, places, strict=True)))
    below = _below(len(rows), min(len(rows), limit), truncated)
    return Group(table, below) if below else table


def _below(count: int, shown: int, truncated: bool) -> Text | None:
    if count == 0:
        return Text("no rows", style="quiet")
    if shown < count or truncated:
        more = " (and the result holds more)" if truncated else ""
        return Text(f"{shown:,} of {count:,} rows shown{more}", style="quiet")
    return None


def _is_numeric(values: Sequence[Any]) -> bool:
    said = [value for value in values if value is not None]
    return bool(said) and all(
        (isinstance(v, int | float) and not isinstance(v, bool))
        or (isinstance(v, str) and _NUMBER.fullmatch(v) is not None)
        for v in said
    )


def _places(values: Sequence[Any]) -> int:
    """Decimal places a column of numbers needs, so that its points stand below each other."""
    return max((len(found.group(3).rstrip("0")) for v in values if (found := _DECIMAL.fullmatch(_text(v)))), default=0)


def _cell(value: Any, decimals: int | None) -> Text:
    """`decimals` None: not a number."""
    if value is None:
        return Text("null", style="quiet")
    return Text(safe(value if decimals is None else number(value, decimals)))


def number(value: Any, decimals: int = 2) -> str:
    """Decimals with separators and no useless zeros; whole numbers as they are, since years and ids are such."""
    match = _DECIMAL.fullmatch(_text(value))
    if match is None:
        return _text(value)
    sign, whole, fraction = match.groups()
    fraction = fraction.rstrip("0").ljust(max(decimals, 2), "0")
    return f"{sign}{int(whole):,}.{fraction}"


def _text(value: Any) -> str:
    return repr(value) if isinstance(value, float) else str(value)

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
    for row in rows[:limit]:
        table.add_row(*(_cell(value, name in numeric) for name, value in zip(columns, row, strict=True)))
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


def _cell(value: Any, numeric: bool) -> Text:
    if value is None:
        return Text("null", style="quiet")
    return Text(safe(number(value) if numeric else value))


def number(value: Any) -> str:
    """Decimals with separators and no useless zeros; whole numbers as they are, since years and ids are such."""
    text = repr(value) if isinstance(value, float) else str(value)
    match = _DECIMAL.fullmatch(text)
    if match is None:
        return text
    sign, whole, fraction = match.groups()
    fraction = fraction.rstrip("0").ljust(2, "0")
    return f"{sign}{int(whole):,}.{fraction}"

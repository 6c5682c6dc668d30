"""Measurements as a table: distributions in milliseconds, then ratios with their goals."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import RenderableType
from rich.text import Text

from apps.cli.views.rows import plain_table
from jobs.bench.table import Row


def measurements(rows: Sequence[Row]) -> RenderableType:
    # What a message costs is a column of its own only where it was measured.
    costs = any(row.per_second is not None for row in rows)
    numbers = ["p50 ms", "p95 ms", "p99 ms", "n", *(["a second", "CPU ms"] if costs else []), "value"]
    table = plain_table("what", *numbers, "goal", "", right=numbers)
    for row in rows:
        table.add_row(
            row.what,
            *(_ms(value) for value in (row.p50, row.p95, row.p99)),
            str(row.count or ""),
            *((_whole(row.per_second), _ms(row.cpu_ms)) if costs else ()),
            row.value,
            row.target,
            _met(row.met),
        )
    return table


def _whole(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"


def _ms(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}" if value < 10 else f"{value:.1f}"


def _met(met: bool | None) -> Text:
    if met is None:
        return Text("")
    return Text("✓", style="good") if met else Text("✗", style="bad")

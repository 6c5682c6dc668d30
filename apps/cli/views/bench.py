"""Measurements as a table: distributions in milliseconds, then ratios with their goals."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import RenderableType
from rich.text import Text

from apps.cli.views.rows import plain_table
from jobs.bench.table import Row


def measurements(rows: Sequence[Row]) -> RenderableType:
    table = plain_table(
        "what",
        "p50 ms",
        "p95 ms",
        "p99 ms",
        "n",
        "value",
        "goal",
        "",
        right=["p50 ms", "p95 ms", "p99 ms", "n", "value"],
    )
    for row in rows:
        table.add_row(
            row.what,
            _ms(row.p50),
            _ms(row.p95),
            _ms(row.p99),
            str(row.count or ""),
            row.value,
            row.target,
            _met(row.met),
        )
    return table


def _ms(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}" if value < 10 else f"{value:.1f}"


def _met(met: bool | None) -> Text:
    if met is None:
        return Text("")
    return Text("✓", style="good") if met else Text("✗", style="bad")

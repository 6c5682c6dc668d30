"""A measurement and the table of them."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Row:
    """One thing measured. Times in milliseconds. `target` and `met` when a goal was set for it.

    `per_second`: messages handled, receipts included. `cpu_ms`: processor time of a message, all processes together.
    """

    what: str
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None
    count: int | None = None
    value: str = ""
    target: str = ""
    met: bool | None = None
    per_second: float | None = None
    cpu_ms: float | None = None


@dataclass
class Measurements:
    rows: list[Row] = field(default_factory=list)

    def times(
        self,
        what: str,
        milliseconds: Sequence[float],
        per_second: float | None = None,
        cpu_ms: float | None = None,
    ) -> float:
        """Add a distribution; returns its median."""
        ordered = sorted(milliseconds)
        median = statistics.median(ordered)
        tail = (quantile(ordered, 0.95), quantile(ordered, 0.99))
        self.rows.append(Row(what, median, *tail, len(ordered), per_second=per_second, cpu_ms=cpu_ms))
        return median

    def ratio(self, what: str, value: float, target: str, met: bool) -> None:
        self.rows.append(Row(what, value=f"{value:.{2 if value < 10 else 0}f} x", target=target, met=met))

    def figure(self, what: str, value: str, target: str = "", met: bool | None = None) -> None:
        self.rows.append(Row(what, value=value, target=target, met=met))

    def document(self) -> list[dict[str, Any]]:
        return [asdict(row) for row in self.rows]


def quantile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]

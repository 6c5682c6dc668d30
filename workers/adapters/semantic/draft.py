"""The draft: what has been understood of a question so far, with a way back when a try fails."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, field
from typing import Any

from workers.adapters.semantic.meaning import (
    GroupAsk,
    MeasureAsk,
    PeriodAsk,
    RankAsk,
    RowLimitAsk,
    TotalLimitAsk,
    ValueAsk,
)


@dataclass
class Draft:
    """What has been understood so far; `scope` is the noun the next value is said of."""

    measures: list[MeasureAsk] = field(default_factory=list)
    entity: GroupAsk | None = None
    groups: list[GroupAsk] = field(default_factory=list)
    each: list[GroupAsk] = field(default_factory=list)
    values: list[ValueAsk] = field(default_factory=list)
    periods: list[PeriodAsk] = field(default_factory=list)
    row_limits: list[RowLimitAsk] = field(default_factory=list)
    total_limits: list[TotalLimitAsk] = field(default_factory=list)
    rank: RankAsk | None = None
    rank_measure: MeasureAsk | None = None
    needs: list[tuple[str, str]] = field(default_factory=list)
    mentioned: set[str] = field(default_factory=set)
    scope: str | None = None
    last_noun: GroupAsk | None = None
    compare: bool = False
    predicate_at: tuple[int, int] | None = None
    trend: bool = False
    shipped_alone: str | None = None
    loose: list[str] = field(default_factory=list)
    counted: bool = False
    size: int | None = None
    listing: str = ""
    descending: bool = False
    doer: bool = False
    share: bool = False
    growth: str | None = None
    how_many: bool = False
    size_word: str | None = None
    praise: str | None = None
    values_before_groups: int | None = None

    def snapshot(self) -> dict[str, Any]:
        return {name: copy(value) for name, value in vars(self).items()}

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Take back everything a failed try has put in."""
        vars(self).update({name: copy(value) for name, value in snapshot.items()})

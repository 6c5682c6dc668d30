"""What a question means, before anything is decided about tables: the value the grammar makes and the planner reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal


@dataclass(frozen=True)
class MeasureAsk:
    """A number that was asked for; several names mean that the words alone do not decide. A ratio has two."""

    names: tuple[str, ...]
    text: str
    ratio: str | None = None


@dataclass(frozen=True)
class GroupAsk:
    """Rows per what: one of `dimensions` (in order of preference), or a `grain` of time."""

    text: str
    dimensions: tuple[str, ...] = ()
    grain: str | None = None
    date: str | None = None
    plural: bool = False
    owner: str | None = None


@dataclass(frozen=True)
class ValueAsk:
    """Rows whose dimension has, or when `negated` has not, one of the values. `owner` is the noun it was said of."""

    text: str
    dimensions: tuple[str, ...]
    values: tuple[str, ...]
    negated: bool = False
    conjunction: str | None = None
    owner: str | None = None


@dataclass(frozen=True)
class Span:
    """Days from `start` up to, not including, `end`; None is open."""

    start: date | None
    end: date | None
    label: str
    grain: str = "year"


@dataclass(frozen=True)
class PeriodAsk:
    text: str
    spans: tuple[Span, ...]
    date: str | None = None
    conjunction: str | None = None
    note: str = ""


@dataclass(frozen=True)
class Limit:
    """A comparison with one number, or with two for 'between'."""

    sign: str
    numbers: tuple[Decimal, ...]
    percent: bool = False
    text: str = ""
    years: bool = False


@dataclass(frozen=True)
class RowLimitAsk:
    """Rows whose attribute passes a limit."""

    text: str
    attributes: tuple[str, ...]
    limit: Limit


@dataclass(frozen=True)
class TotalLimitAsk:
    """Groups whose measure passes a limit."""

    text: str
    measure: MeasureAsk
    limit: Limit


@dataclass(frozen=True)
class RankAsk:
    size: int | None
    descending: bool


@dataclass(frozen=True)
class Meaning:
    """Everything a question said. `shape` is table, share, part (one value's share), growth, count or list."""

    shape: str
    measures: tuple[MeasureAsk, ...] = ()
    entity: GroupAsk | None = None
    groups: tuple[GroupAsk, ...] = ()
    values: tuple[ValueAsk, ...] = ()
    periods: tuple[PeriodAsk, ...] = ()
    row_limits: tuple[RowLimitAsk, ...] = ()
    total_limits: tuple[TotalLimitAsk, ...] = ()
    rank: RankAsk | None = None
    numerator: ValueAsk | PeriodAsk | None = None
    growth: str | None = None
    needs: tuple[tuple[str, str], ...] = ()
    mentioned: frozenset[str] = frozenset()
    notes: tuple[str, ...] = field(default=())

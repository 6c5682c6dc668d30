"""The conclusion: a whole draft becomes one meaning, or is refused because its parts do not go together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from workers.adapters.semantic.draft import Draft
from workers.adapters.semantic.meaning import GroupAsk, Meaning, MeasureAsk, PeriodAsk, RankAsk, Span, ValueAsk
from workers.adapters.semantic.model import Model
from workers.ports import CouldNotMap


def _years(span: Span) -> int:
    """How many years lie between the ends; 0 when one end is open."""
    return span.end.year - span.start.year if span.start and span.end else 0


class Conclusion:
    """Decides the shape of the answer. `entities` are the dimensions that are things, not properties of one."""

    def __init__(self, draft: Draft, model: Model, entities: set[str]) -> None:
        self.draft = draft
        self.model = model
        self.entities = entities

    def meaning(self) -> Meaning:
        draft = self.draft
        notes: list[str] = []
        groups = list(draft.groups)
        shape = "table"
        rank = draft.rank
        numerator = None
        if draft.shipped_alone and any(p.date is None for p in draft.periods):
            raise CouldNotMap(
                [draft.shipped_alone],
                "Say which date the period is about, for instance 'ordered in 1995' or 'shipped in 1995'.",
            )
        if draft.trend and not any(g.grain for g in groups + draft.each):
            groups.append(GroupAsk("over time", grain=self.model.defaults.over_time))
            notes.append(f"over time means by {self.model.defaults.over_time}")
        draft.compare |= any(ask.conjunction == "versus" for ask in (*draft.values, *draft.periods))
        if draft.size and rank is None:
            raise CouldNotMap([str(draft.size)], "Say which ones, for instance 'top 10 customers by sales'.")
        if rank is not None:
            if draft.how_many:
                raise CouldNotMap(
                    [draft.rank_measure.text if draft.rank_measure else "how many"],
                    "Either count or rank; for instance 'top 10 customers by number of orders'.",
                )
            return self._finish_rank(rank, groups, notes)
        if draft.descending and any(g.grain for g in groups + draft.each):
            raise CouldNotMap(["descending"], "Rows over time are in the order of time.")
        if draft.doer:
            raise CouldNotMap(["did"], "I miss what was done; say 'how many orders did French customers place'.")
        if draft.how_many and not draft.total_limits:
            draft.entity = None
        groups += draft.each
        if draft.compare:
            groups += self._compared()
        if draft.growth:
            return self._finish_growth(groups, notes)
        if draft.share:
            if draft.total_limits or draft.entity or draft.compare or (groups and draft.row_limits):
                raise CouldNotMap([draft.measures[0].text], "A share with that limit is more than I can do safely.")
            if groups and draft.values_before_groups:
                raise CouldNotMap(
                    [draft.values[0].text],
                    "A share of that, or its share per row? Put it last: 'share of sales by nation in Europe'.",
                )
            if groups and draft.predicate_at is None:
                if len(groups) > 1:
                    raise CouldNotMap(
                        [groups[-1].text], "A share by two things at once has no single total; ask by one."
                    )
                shape = "share"
            elif not groups:
                shape, numerator = "part", self._numerator()
            else:
                raise CouldNotMap([groups[0].text], "Ask either for one part's share, or for shares by something.")
        elif draft.total_limits:
            return self._finish_limits(groups, notes)
        elif draft.entity is not None:
            counts = self._counts_of(draft.entity)
            if draft.rank_measure:
                if groups:
                    raise CouldNotMap(
                        [groups[0].text], "Name the measure first, for instance 'sales by nation and year'."
                    )
                groups, draft.measures, draft.entity = [draft.entity], [draft.rank_measure], None
                self._refuse_loose()
                return self._meaning("table", groups, notes)
            if groups:
                thing = not any(self.model.dimensions[n].amount for n in draft.entity.dimensions)
                if draft.listing and (thing or draft.listing not in ("show", "what", "give", "get", "display")):
                    raise CouldNotMap(
                        [draft.entity.text],
                        f"Say 'number of {draft.entity.text} by ...', or 'list {draft.entity.text}'.",
                    )
                if not counts or not draft.entity.plural or not set(draft.entity.dimensions) & self.entities:
                    raise CouldNotMap([draft.entity.text], "Name a measure, for instance 'sales'.")
                draft.measures.append(MeasureAsk(counts, draft.entity.text))
                draft.entity = None
            elif (draft.listing or draft.row_limits) and draft.entity.grain is None:
                shape = "list"
            else:
                raise CouldNotMap(
                    [draft.entity.text],
                    f"Say 'how many {draft.entity.text}', 'list {draft.entity.text}' or name a measure.",
                )
        return self._meaning(shape, groups, notes, numerator=numerator)

    def _counts_of(self, noun: GroupAsk) -> tuple[str, ...]:
        return tuple(c for n in noun.dimensions if (c := self.model.dimensions[n].count))

    def _finish_rank(self, rank: RankAsk, groups: list[GroupAsk], notes: list[str]) -> Meaning:
        draft = self.draft
        entity = draft.entity
        assert entity is not None
        if groups:
            raise CouldNotMap(
                [groups[0].text],
                f"Say 'in each {groups[0].text}' for the best of each, or 'by <measure>' for what to rank by.",
            )
        if draft.share or draft.growth or draft.compare:
            raise CouldNotMap([entity.text], "A ranking of shares or growth is more than I can do safely.")
        if rank.size is None:
            size = self.model.defaults.rank_size if entity.plural else 1
            if entity.plural:
                notes.append(f"no number was given, so {size} are shown")
            rank = replace(rank, size=size)
        measure = draft.rank_measure
        if measure is None:
            own = self.model.dimensions[entity.dimensions[0]].rank_by if entity.dimensions else None
            if own is None and draft.size_word:
                raise CouldNotMap([draft.size_word], "Say by which measure, for instance 'by sales'.")
            name = own or self.model.defaults.rank_by
            measure = MeasureAsk((name,), self.model.measures[name].words[0])
            notes.append(f"no measure was named, so they are ranked by {measure.text}")
        draft.measures = [measure]
        if draft.praise and not all(self.model.measures[name].more_is_better for name in measure.names):
            raise CouldNotMap([draft.praise], "Is more of that good or bad? Say 'highest' or 'lowest'.")
        self._refuse_loose()
        return self._meaning("table", draft.each, notes, rank=rank)

    def _refuse_loose(self) -> None:
        """'customers with urgent orders' in a ranking: is the measure over those orders only, or over all?"""
        if self.draft.loose:
            raise CouldNotMap(
                [self.draft.loose[0]],
                "In a ranking I cannot tell whether that limits the rows that are summed; say 'of ...' or 'in ...'.",
            )

    def _finish_limits(self, groups: list[GroupAsk], notes: list[str]) -> Meaning:
        draft = self.draft
        if draft.measures and not draft.how_many:
            raise CouldNotMap(
                [draft.total_limits[0].text], "Name the noun first, for instance 'nations with sales above 1 million'."
            )
        if (draft.how_many and len(draft.measures) > 1) or draft.rank_measure:
            raise CouldNotMap([draft.total_limits[0].text], "Ask for one thing at a time.")
        if groups:
            raise CouldNotMap([groups[0].text], "A limit on totals together with 'by' is more than I can do safely.")
        if draft.share or draft.compare:
            raise CouldNotMap([draft.total_limits[0].text], "Ask this in a simpler sentence.")
        self._refuse_loose()
        for limit in draft.total_limits:
            low = limit.limit.numbers[0]
            if limit.limit.sign in ("<", "<=") or (limit.limit.sign in ("=", "between", ">=") and low <= 0):
                raise CouldNotMap(
                    [limit.limit.text],
                    "Those that have none would be missing; set a lower limit, for instance 'between 1 and 5'.",
                )
        shape = "count" if draft.how_many else "table"
        draft.measures = [limit.measure for limit in draft.total_limits]
        return self._meaning(shape, [], notes)

    def _finish_growth(self, groups: list[GroupAsk], notes: list[str]) -> Meaning:
        draft = self.draft
        times = [g for g in groups if g.grain]
        grain = draft.growth
        ranges = [span for period in draft.periods for span in period.spans if span.start and span.end]
        if grain == "asked" and not times and len(ranges) == 1 and ranges[0].grain == "year":
            # 'growth from 1994 to 1995' has only one year to grow from.
            grain = "year" if _years(ranges[0]) == 2 else grain
        if grain == "asked":
            if len(times) != 1 or times[0].grain != "year":
                raise CouldNotMap(["growth"], "Say 'year over year', 'month over month', or 'growth by year'.")
            grain = "year"
        if any(t.grain != grain for t in times) or len(times) > 1:
            raise CouldNotMap([times[-1].text], f"That growth is from {grain} to {grain}.")
        for period in draft.periods:
            for span in period.spans:
                if len(period.spans) > 1 or (grain == "year" and 0 < _years(span) < 2):
                    raise CouldNotMap(
                        [period.text],
                        "Growth needs the period before; ask for a range, for instance 'between 1994 and 1996'.",
                    )
                if grain == "year" and any(d and (d.month, d.day) != (1, 1) for d in (span.start, span.end)):
                    raise CouldNotMap([period.text], "Yearly growth needs whole years.")
                if grain != "year" and span.grain not in ("year", "years"):
                    raise CouldNotMap([period.text], "Growth needs the period before; ask for whole years.")
        if len(draft.measures) != 1 or draft.compare or draft.total_limits or draft.entity:
            raise CouldNotMap(["growth"], "Growth of one measure at a time.")
        long = [p for p in draft.periods if p.text.startswith("from") and _years(p.spans[0]) > 2]
        if long and not times:
            raise CouldNotMap([long[0].text], "Say 'year over year growth between ... and ...'.")
        others = [g for g in groups if not g.grain]
        date = times[0].date if times else None
        return self._meaning("growth", others, notes, growth=grain, entity=GroupAsk("growth", grain=grain, date=date))

    def _compared(self) -> list[GroupAsk]:
        """One row for each of the values or periods that are compared."""
        draft = self.draft
        found: list[GroupAsk] = []
        for value in draft.values:
            if len(value.values) > 1 and not value.negated:
                found.append(GroupAsk(value.text, dimensions=value.dimensions))
        for period in draft.periods:
            grain = period.spans[0].grain
            if len(period.spans) > 1:
                if grain not in ("year", "quarter", "month"):
                    raise CouldNotMap([period.text], "I compare whole years, quarters or months.")
                found.append(GroupAsk(period.text, grain=grain, date=period.date))
            elif grain == "year" and _years(period.spans[0]) > 1:
                if _years(period.spans[0]) != 2:
                    raise CouldNotMap([period.text], "Say '1994 and 1996', or 'by year between 1994 and 1996'.")
                found.append(GroupAsk(period.text, grain="year", date=period.date))
        if not found and not draft.groups and not draft.each:
            raise CouldNotMap(["compare"], "Name two values or two periods, for instance '1995 and 1996'.")
        return found

    def _numerator(self) -> ValueAsk | PeriodAsk:
        draft = self.draft
        values_at, periods_at = draft.predicate_at or (0, 0)
        values = draft.values[values_at:]
        if len(values) == 1 and (draft.predicate_at or not values[0].negated):
            draft.values = draft.values[:values_at]
            return values[0]
        if not values and draft.predicate_at and len(draft.periods) - periods_at == 1:
            return draft.periods.pop()
        raise CouldNotMap(
            [draft.measures[0].text],
            "The share of which part? Say 'what percentage of sales comes from Europe' or 'share of sales by region'.",
        )

    def _meaning(self, shape: str, groups: Sequence[GroupAsk], notes: list[str], **more: Any) -> Meaning:
        draft = self.draft
        return Meaning(
            shape=shape,
            measures=tuple(draft.measures),
            entity=more.pop("entity", draft.entity),
            groups=tuple(groups),
            values=tuple(draft.values),
            periods=tuple(draft.periods),
            row_limits=tuple(draft.row_limits),
            total_limits=tuple(draft.total_limits),
            needs=tuple(draft.needs),
            mentioned=frozenset(draft.mentioned),
            notes=tuple(notes),
            **more,
        )

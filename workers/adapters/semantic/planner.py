"""The planner: decides from which table a meaning is computed, so that no join multiplies rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

from workers.adapters.semantic.meaning import GroupAsk, Meaning, MeasureAsk, PeriodAsk, RowLimitAsk, ValueAsk
from workers.adapters.semantic.model import Model
from workers.ports import CouldNotMap


@dataclass(frozen=True)
class Column:
    """A resolved thing to group by: a dimension, or a grain of a date."""

    dimension: str | None = None
    grain: str | None = None
    date: str | None = None


@dataclass(frozen=True)
class Filter:
    """A resolved condition: values of a dimension, spans of a date, or a limit of an attribute."""

    ask: ValueAsk | PeriodAsk | RowLimitAsk
    target: str


@dataclass(frozen=True)
class Plan:
    """A meaning with every choice made. `measures` pair a name with the ratio's divisor, or None."""

    meaning: Meaning
    base: str
    measures: tuple[tuple[str, str | None], ...]
    limits: tuple[tuple[str, str | None], ...]
    entity: Column | None
    groups: tuple[Column, ...]
    filters: tuple[Filter, ...]
    numerator: Filter | None
    notes: tuple[str, ...]


class Planner:
    def __init__(self, model: Model) -> None:
        self.model = model

    def plan(self, meaning: Meaning) -> Plan:
        meaning = self._with_owners(meaning)
        asks = self._asks(meaning)
        found: dict[tuple[str, ...], str] = {}
        for names in product(*(ask.names for ask in asks)):
            base = next((b for b in self._bases(meaning) if self._fits(meaning, asks, names, b)), None)
            if base:
                found[names] = base
        if len(found) > 1:
            about = {
                names: base
                for names, base in found.items()
                if all(
                    len(a.names) == 1 or self.model.measures[n].about in meaning.mentioned
                    for a, n in zip(asks, names, strict=True)
                )
            }
            found = about or found
        if not found:
            raise self._misfit(meaning, asks)
        if len(found) > 1:
            unclear = next(ask for ask in asks if len(ask.names) > 1)
            raise CouldNotMap(
                [unclear.text],
                "It may be " + " or ".join(f"'{self.model.measures[n].words[0]}'" for n in unclear.names) + ".",
            )
        names, base = next(iter(found.items()))
        self._refuse_other_meaning(meaning, asks, names, base)
        self._refuse_mixed_dates(meaning, names)
        plan = self._resolve(meaning, asks, names, base)
        self._refuse_unsound(plan)
        return plan

    # -- choosing the base ----------------------------------------------------------------------------------------

    def _asks(self, meaning: Meaning) -> tuple[MeasureAsk, ...]:
        asks = list(meaning.measures)
        asks += [limit.measure for limit in meaning.total_limits if limit.measure not in asks]
        return tuple(asks)

    def _with_owners(self, meaning: Meaning) -> Meaning:
        """A role named outright ('supplier nation Germany') counts as a mention of its owner."""
        named = {self.model.owners.get(v.dimensions[0]) for v in meaning.values if len(v.dimensions) == 1}
        named |= {
            self.model.owners.get(g.dimensions[0])
            for g in (*meaning.groups, *filter(None, [meaning.entity]))
            if len(g.dimensions) == 1
        }
        return replace(meaning, mentioned=meaning.mentioned | {name for name in named if name})

    def _bases(self, meaning: Meaning) -> Iterator[str]:
        if not meaning.measures and meaning.entity:
            yield from dict.fromkeys(self.model.dimensions[name].node for name in reversed(meaning.entity.dimensions))
        yield from self.model.bases

    def _fits(self, meaning: Meaning, asks: tuple[MeasureAsk, ...], names: tuple[str, ...], base: str) -> bool:
        measures = self.model.measures
        for ask, name in zip(asks, names, strict=True):
            if base not in measures[name].at or (ask.ratio and base not in measures[ask.ratio].at):
                return False
        return all(self._reaches(base, thing, meaning) for thing in self._things(meaning))

    def _things(self, meaning: Meaning):
        if meaning.entity:
            yield meaning.entity
        yield from (*meaning.groups, *meaning.values, *meaning.periods, *meaning.row_limits)
        if meaning.numerator:
            yield meaning.numerator
        yield from (GroupAsk(text, dimensions=(name,)) for name, text in meaning.needs)

    def _reaches(self, base: str, thing, meaning: Meaning) -> bool:
        reach = self.model.reach(base)
        if isinstance(thing, RowLimitAsk):
            return any(self.model.attributes[name].node in reach for name in thing.attributes)
        if isinstance(thing, PeriodAsk) or (isinstance(thing, GroupAsk) and thing.grain):
            return self.model.dates[thing.date or self._date_of(meaning)].node in reach
        return bool(self._candidates(base, thing))

    def _candidates(self, base: str, thing: ValueAsk | GroupAsk) -> list[str]:
        reach = self.model.reach(base)
        found = [name for name in thing.dimensions if self.model.dimensions[name].node in reach]
        owner = getattr(thing, "owner", None)
        if owner and len(thing.dimensions) > 1:
            found = [name for name in found if self.model.owners.get(name) in (owner, None)]
        return found

    def _date_of(self, meaning: Meaning) -> str:
        """The one date a question speaks of: a period or grain that names one decides for those that name none."""
        return next((thing.date for thing in self._times(meaning) if thing.date), self.model.default_date)

    def _times(self, meaning: Meaning) -> list[PeriodAsk | GroupAsk]:
        things = [*meaning.periods, *(g for g in (*meaning.groups, meaning.entity) if g and g.grain)]
        return [*things, meaning.numerator] if isinstance(meaning.numerator, PeriodAsk) else things

    def _refuse_mixed_dates(self, meaning: Meaning, names: tuple[str, ...]) -> None:
        """'sales in 1995 by ship month': is 1995 the year of the order, or of the shipment?"""
        unnamed = [thing for thing in self._times(meaning) if thing.date is None]
        named = {thing.date for thing in self._times(meaning)} - {None, self.model.default_date}
        if unnamed and named:
            raise CouldNotMap(
                [unnamed[0].text],
                f"Say the date for it as well, for instance '{self.model.dates[named.pop()].words[0]}'.",
            )
        if unnamed and any(self.model.measures[name].unclear_date for name in names):
            raise CouldNotMap(
                [unnamed[0].text],
                "Say which date is meant, for instance 'ordered in 1995', 'shipped in 1995' or 'by ship year'.",
            )

    def _misfit(self, meaning: Meaning, asks: tuple[MeasureAsk, ...]) -> CouldNotMap:
        """Name the smallest thing that does not go with the measure."""
        spoken = asks[0].text if asks else (meaning.entity.text if meaning.entity else "this")
        for ask in asks[1:]:
            if not any(
                self._fits(Meaning("table"), (asks[0], ask), pair, b)
                for pair in product(asks[0].names, ask.names)
                for b in self.model.bases
            ):
                return CouldNotMap(
                    [ask.text],
                    f"Beside '{spoken}' it would count rows twice; ask for each by itself.",
                )
        for thing in self._things(meaning):
            one = Meaning("table", mentioned=meaning.mentioned)
            fits = any(
                self._fits(one, asks, names, base) and self._reaches(base, thing, meaning)
                for names in product(*(ask.names for ask in asks))
                for base in self._bases(meaning)
            )
            if not fits:
                return CouldNotMap(
                    [thing.text], f"'{spoken}' cannot be asked by or limited to it without counting rows twice."
                )
        return CouldNotMap([spoken], "These things cannot be combined without counting rows twice.")

    def _refuse_other_meaning(
        self, meaning: Meaning, asks: tuple[MeasureAsk, ...], names: tuple[str, ...], base: str
    ) -> None:
        """'number of customers' beside 'sales' would silently become customers who ordered."""
        if len(asks) < 2:
            return
        for ask, name in zip(asks, names, strict=True):
            if self.model.measures[name].through:
                alone = next((b for b in self.model.bases if self._fits(meaning, (ask,), (name,), b)), base)
                if alone != base:
                    raise CouldNotMap(
                        [ask.text],
                        "Beside the other measure it would count only some; ask for it by itself.",
                    )

    # -- making every choice --------------------------------------------------------------------------------------

    def _resolve(self, meaning: Meaning, asks: tuple[MeasureAsk, ...], names: tuple[str, ...], base: str) -> Plan:
        notes = list(meaning.notes)
        chosen = {id(ask): (name, ask.ratio) for ask, name in zip(asks, names, strict=True)}

        def pair(ask: MeasureAsk) -> tuple[str, str | None]:
            return chosen.get(id(ask)) or next((name, a.ratio) for a, name in zip(asks, names, strict=True) if a == ask)

        def column(thing: GroupAsk) -> Column:
            if thing.grain:
                return Column(grain=thing.grain, date=thing.date or self._date_of(meaning))
            return Column(dimension=self._choose(base, thing, meaning, notes))

        def condition(ask: ValueAsk | PeriodAsk | RowLimitAsk) -> Filter:
            if isinstance(ask, PeriodAsk):
                return Filter(ask, ask.date or self._date_of(meaning))
            if isinstance(ask, RowLimitAsk):
                return Filter(
                    ask, next(n for n in ask.attributes if self.model.attributes[n].node in self.model.reach(base))
                )
            return Filter(ask, self._choose(base, ask, meaning, notes))

        for measure in (self.model.measures[name] for name in names):
            native = self.model.dimensions[measure.counts].node if measure.counts else base
            if measure.through and native != base and measure.through not in notes:
                notes.append(measure.through)
        last = self.model.dates[self.model.default_date].last
        recent = any(
            span.end and span.end > last and "last" in span.label for ask in meaning.periods for span in ask.spans
        )
        if recent or meaning.growth or (meaning.rank and meaning.entity and meaning.entity.grain):
            notes.append(f"the data ends on {last}, so its last period is not whole")
        filters = tuple(condition(ask) for ask in (*meaning.values, *meaning.periods, *meaning.row_limits))
        return Plan(
            meaning=meaning,
            base=base,
            measures=tuple(dict.fromkeys(pair(ask) for ask in meaning.measures)),
            limits=tuple(pair(limit.measure) for limit in meaning.total_limits),
            entity=column(meaning.entity) if meaning.entity else None,
            groups=tuple(column(group) for group in meaning.groups),
            filters=filters,
            numerator=condition(meaning.numerator) if meaning.numerator else None,
            notes=tuple(dict.fromkeys(notes)),
        )

    def _choose(self, base: str, thing: ValueAsk | GroupAsk, meaning: Meaning, notes: list[str]) -> str:
        candidates = self._candidates(base, thing)
        owner = getattr(thing, "owner", None)
        if len(candidates) > 1:
            mine = self.model.owners.get(candidates[0])
            others = {self.model.owners.get(name) for name in candidates[1:]} & set(meaning.mentioned)
            if others and not owner:
                raise CouldNotMap(
                    [thing.text],
                    "It may be the "
                    + "'s or the ".join(filter(None, [mine, *others]))
                    + "'s; say which, for instance 'supplier nation'.",
                )
            family = next((f for f in self.model.families.values() if candidates[0] in f.members), None)
            if family and family.note not in notes:
                notes.append(family.note)
        return candidates[0]

    # -- what would be wrong --------------------------------------------------------------------------------------

    def _refuse_unsound(self, plan: Plan) -> None:
        meaning = plan.meaning
        columns = [c for c in (plan.entity, *plan.groups) if c]
        if len(set(columns)) < len(columns):
            raise CouldNotMap([(meaning.groups or (meaning.entity,))[-1].text], "It is there twice.")
        for group, column in zip(meaning.groups, plan.groups, strict=True):
            dimension = self.model.dimensions.get(column.dimension or "")
            if dimension and (not dimension.group or dimension.amount):
                raise CouldNotMap(
                    [group.text],
                    "That would be one row for each of them; ask for a ranking, for instance 'top 10 orders'.",
                )
        self._refuse_repeated(plan)
        self._refuse_outside(plan)
        self._refuse_sets(plan)
        for name, _ in plan.measures:
            measure = self.model.measures[name]
            native = self.model.dimensions[measure.counts].node if measure.counts else plan.base
            if meaning.shape == "share" and (not measure.additive or native != plan.base):
                raise CouldNotMap(
                    [meaning.measures[0].text], "Its parts do not add up to a total, so it has no shares."
                )
            if meaning.shape == "part" and not measure.additive:
                raise CouldNotMap(
                    [meaning.measures[0].text], "Its parts do not add up to a total, so it has no shares."
                )

    def _refuse_repeated(self, plan: Plan) -> None:
        seen: dict[str, str] = {}
        for condition in (*plan.filters, *([plan.numerator] if plan.numerator else [])):
            if isinstance(condition.ask, ValueAsk) and condition.ask.negated:
                continue
            if condition.target in seen and condition is not plan.numerator:
                raise CouldNotMap([condition.ask.text], f"'{seen[condition.target]}' already limits the same thing.")
            seen[condition.target] = condition.ask.text
        places: dict[str, str] = {}
        for condition in plan.filters:
            owner, text = self.model.owners.get(condition.target), condition.ask.text
            if isinstance(condition.ask, ValueAsk) and condition.ask.negated:
                continue
            if owner in places:
                # 'sales of Chinese suppliers in Europe': suppliers that are in both places, or customers in one?
                raise CouldNotMap([text], f"'{places[owner]}' already says where; say whose nation or region is meant.")
            if owner:
                places[owner] = text
        excluded = [f for f in plan.filters if isinstance(f.ask, ValueAsk) and f.ask.negated]
        for condition in excluded:
            if condition.target in seen:
                raise CouldNotMap([condition.ask.text], f"'{seen[condition.target]}' already limits the same thing.")
        for condition in plan.filters:
            ask = condition.ask
            if isinstance(ask, RowLimitAsk):
                fraction = self.model.attributes[condition.target].fraction
                if fraction != ask.limit.percent and not (fraction and max(ask.limit.numbers) < 1):
                    raise CouldNotMap([ask.text], "Say a rate in percent, for instance '5%', and an amount without.")
        for limit in plan.meaning.total_limits:
            if limit.limit.percent:
                raise CouldNotMap([limit.text], "A percentage of what? Give an amount.")

    def _refuse_outside(self, plan: Plan) -> None:
        for condition in (*plan.filters, *([plan.numerator] if plan.numerator else [])):
            if not isinstance(condition.ask, PeriodAsk):
                continue
            role = self.model.dates[condition.target]
            for span in condition.ask.spans:
                if (span.start and span.start > role.last) or (span.end and span.end <= role.first):
                    raise CouldNotMap([condition.ask.text], f"The data covers {role.first} to {role.last}.")

    def _refuse_sets(self, plan: Plan) -> None:
        """'customers who bought A and B', 'orders not shipped by AIR': every row, or at least one?"""
        counted: list[str] = [
            c for name, _ in (*plan.measures, *plan.limits) if (c := self.model.measures[name].counts)
        ]
        counted += [r for _, by in (*plan.measures, *plan.limits) if by and (r := self.model.measures[by].counts)]
        if plan.meaning.shape in ("list", "count") and plan.entity and plan.entity.dimension:
            counted.append(plan.entity.dimension)
        grouped = {c.dimension or c.date for c in plan.groups}
        for name in counted:
            own = self.model.reach(self.model.dimensions[name].node)
            for condition in (*plan.filters, *([plan.numerator] if plan.numerator else [])):
                ask = condition.ask
                if isinstance(ask, RowLimitAsk) or condition.target in grouped:
                    continue
                node = (
                    self.model.dates[condition.target].node
                    if isinstance(ask, PeriodAsk)
                    else self.model.dimensions[condition.target].node
                )
                if node in own:
                    continue
                if ask.conjunction == "and" or (isinstance(ask, ValueAsk) and ask.negated):
                    raise CouldNotMap(
                        [ask.text],
                        "At least one, or all of them? Say 'or' between values, and do not leave any out.",
                    )

"""The grammar: how a whole question is put together, from its first word to its last, with nothing left over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal

from workers.adapters.semantic.clauses import TOP, Clauses, Draft
from workers.adapters.semantic.lexicon import GRAINS, Term
from workers.adapters.semantic.meaning import GroupAsk, Meaning, MeasureAsk, RankAsk
from workers.adapters.semantic.model import Model
from workers.adapters.semantic.period import read_period
from workers.adapters.semantic.reader import Reader
from workers.adapters.semantic.words import LISTING, OPENERS, Token
from workers.ports import CouldNotMap

_TOP = ("top", "best", "highest", "largest", "biggest", "greatest", "leading")
_BOTTOM = ("bottom", "worst", "lowest", "smallest")
_SIZES = ("highest", "largest", "biggest", "greatest", "lowest", "smallest")
_GROWTH = (
    "year over year",
    "year on year",
    "yoy",
    "month over month",
    "month on month",
    "mom",
    "quarter over quarter",
    "quarter on quarter",
    "qoq",
    "annual",
)
_LARGEST_RANK = 100_000


class Question:
    """One question being understood."""

    def __init__(self, terms: Sequence[Term], model: Model) -> None:
        self.reader = Reader(terms, model)
        self.model = model
        self.draft = Draft()
        self.clauses = Clauses(self.reader, self.draft)
        self.listing = False
        self.share = False
        self.growth: str | None = None
        self.how_many = False
        self.counted_noun: GroupAsk | None = None
        self.size_word: str | None = None

    def read(self) -> Meaning:
        if self.reader.done:
            raise CouldNotMap(["an empty question"], "Ask for a measure, for instance 'sales by region'.")
        self._read_openers()
        if self.reader.done:
            raise self.reader.stuck("Ask for a measure, for instance 'sales by region'.")
        self._read_core()
        self.clauses.read_all()
        return self._finish()

    # -- the beginning --------------------------------------------------------------------------------------------

    def _read_openers(self) -> None:
        """Command words, and periods, values or 'for each ...' put in front of the core."""
        reader = self.reader
        while not reader.done:
            at = reader.pos
            if self._core_begins():
                return
            if self._read_leading():
                continue
            reader.pos = at
            word = reader.word()
            if word == "," or word in OPENERS or word == "'s":
                self.listing = self.listing or word in LISTING
                reader.pos += 1
                continue
            return

    def _core_begins(self) -> bool:
        return self.reader.word() in ("how", "compare", "rank", "sort") or self.reader.sense("measure") is not None

    def _read_leading(self) -> bool:
        reader = self.reader
        start = reader.pos
        if reader.word() in ("in", "for", "during", "between", "from", "since", "before", "after", "over", "within"):
            period = read_period(reader)
            if period and (
                reader.word() == "," or reader.word() in OPENERS or self._core_begins() or reader.word() in TOP
            ):
                self.draft.periods.append(period)
                return True
            reader.pos = start
            if reader.word() in ("in", "for", "within") and reader.word(1) in ("each", "every"):
                return self.clauses._read_groups()
            if reader.take("in", "for") and (value := reader.read_values()) and reader.word() == ",":
                self.draft.values.append(value)
                return True
        reader.pos = start
        return False

    # -- the core -------------------------------------------------------------------------------------------------

    def _read_core(self) -> None:
        reader = self.reader
        start = reader.pos
        before = self.draft.snapshot()
        for read in (
            self._read_compare,
            self._read_share,
            self._read_growth,
            self._read_sorted,
            self._read_ranking,
            self._read_how_many,
            self._read_measures,
            self._read_nouns,
        ):
            if read():
                return
            reader.pos = start
            self.draft.restore(before)
        raise reader.stuck("I need a measure or a noun to start from, for instance 'sales' or 'top 10 customers'.")

    def _read_compare(self) -> bool:
        reader = self.reader
        reader.articles()
        if not reader.take("compare", "comparison of"):
            return False
        self.draft.compare = True
        reader.articles()
        return self._read_growth() or self._read_measures()

    def _read_share(self) -> bool:
        reader = self.reader
        start = reader.pos
        reader.articles()
        if reader.take("share of", "percentage of", "percent of", "proportion of"):
            reader.articles()
            measure = self.clauses.read_measure(counts=True)
            if measure is None:
                raise reader.stuck("A share of what?")
            self.draft.measures.append(measure)
            self.share = self.draft.counted = True
            return True
        measure = self.clauses.read_measure()
        if measure and reader.take("share", "percentage", "proportion"):
            self.draft.measures.append(measure)
            self.share = True
            return True
        reader.pos = start
        return False

    def _read_growth(self) -> bool:
        reader = self.reader
        start = reader.pos
        reader.articles()
        said = reader.take(*_GROWTH)
        head = (
            reader.take("growth of", "growth in", "growth rate of", "change in")
            if said or reader.word() == "growth"
            else None
        )
        measure = self.clauses.read_measure(counts=head is not None)
        if measure is None:
            reader.pos = start
            return False
        if head is None:
            said = reader.take(*_GROWTH) or said
            head = reader.take("growth rate", "growth", "change" if said else "growth")
        said = said or (reader.take(*_GROWTH) if head else None)
        if head is None:
            reader.pos = start
            return False
        self.draft.measures.append(measure)
        self.growth = {"m": "month", "q": "quarter"}.get(said[0], "year") if said else "asked"
        return True

    def _read_sorted(self) -> bool:
        """'rank nations by sales': every row, in order."""
        reader = self.reader
        if not reader.take("rank", "sort", "ranking of", "order"):
            return False
        noun = self.clauses.read_entity()
        if noun is None or not reader.take("by", "in terms of", "based on", "according to"):
            return False
        measure = self.clauses.read_measure(counts=True)
        if measure is None:
            return False
        self.draft.measures.append(measure)
        self.draft.groups.append(noun)
        return True

    def _read_ranking(self) -> bool:
        """'top 10 customers', 'the 5 worst nations', 'best brand'."""
        reader = self.reader
        reader.articles()
        number = reader.read_number()
        word = reader.take(*_TOP, *_BOTTOM)
        if word is None:
            return False
        if number is None:
            number = reader.read_number()
        if number is not None and number.percent:
            raise CouldNotMap([number.text], "I need a whole number of rows.")
        entity = self._read_ranked()
        if entity is None:
            raise reader.stuck(
                "Top of what? Name a noun, for instance 'top 10 customers by sales'.",
                min(reader.pos, len(reader.terms) - 1),
            )
        size = self._size(number, entity) if number else None if entity.plural else 1
        self.draft.entity = entity
        self.draft.rank = RankAsk(size, word in _TOP)
        self.size_word = word if word in _SIZES else None
        return True

    def _read_ranked(self) -> GroupAsk | None:
        reader = self.reader
        grain = GRAINS.get(reader.word())
        if grain:
            text = reader.word()
            reader.pos += 1
            return GroupAsk(text, grain=grain, plural=text.endswith("s"))
        return self.clauses.read_entity()

    def _read_how_many(self) -> bool:
        reader = self.reader
        if reader.take("how much"):
            reader.articles()
            return self._read_measures()
        if not (
            reader.take(
                "how many",
                "count the",
                "count all",
                "count of",
                "count",
                "number of",
                "the number of",
                "total number of",
                "the total number of",
            )
        ):
            return False
        sense = reader.sense("measure")
        if sense:
            return self._read_measures()
        measure = self.clauses.read_count()
        if measure is None:
            raise reader.stuck("I cannot count these.")
        self.draft.measures.append(measure)
        self.how_many = True
        self.draft.entity = self.counted_noun = self.draft.last_noun
        self._more_measures()
        return True

    def _read_measures(self) -> bool:
        reader = self.reader
        start = reader.pos
        before = len(self.draft.values), len(self.draft.periods), len(self.draft.groups)
        reader.articles()
        while True:
            at = reader.pos
            grain = {"annual": "year", "monthly": "month", "quarterly": "quarter"}.get(reader.word())
            if grain:
                reader.pos += 1
                self.draft.groups.append(GroupAsk(reader.text(at), grain=grain))
                continue
            if reader.term() and (
                reader.term().number
                or reader.term().tokens[0].kind == "date"
                or reader.word() in ("q1", "q2", "q3", "q4")
            ):  # type: ignore[union-attr]
                period = read_period(reader)
                if period:
                    self.draft.periods.append(period)
                    continue
            value = reader.read_values()
            if value:
                reader.take("'s")
                self.draft.values.append(value)
                continue
            break
        measure = self.clauses.read_measure()
        if measure is None:
            reader.pos = start
            del self.draft.values[before[0] :], self.draft.periods[before[1] :], self.draft.groups[before[2] :]
            return False
        self.draft.measures.append(measure)
        self._more_measures()
        return True

    def _more_measures(self) -> None:
        reader = self.reader
        while True:
            at = reader.pos
            reader.take(",")
            reader.take("and")
            if reader.pos == at:
                return
            measure = self.clauses.read_measure()
            if measure is None:
                reader.pos = at
                return
            self.draft.measures.append(measure)

    def _read_nouns(self) -> bool:
        """'customers with more than 20 orders', 'which nation has the highest sales', 'orders by year'."""
        self.reader.articles()
        self.reader.take("all")
        number = self.reader.read_number()
        entity = self._read_ranked()
        if entity is None:
            return False
        self.draft.entity = entity
        if number:
            self.draft.size = self._size(number, entity)
        return True

    def _size(self, number: Token, entity: GroupAsk) -> int:
        value = number.number or Decimal(0)
        if number.percent or number.money or value != int(value) or not 1 <= value <= _LARGEST_RANK:
            raise CouldNotMap([number.text], "I need a whole number of rows.")
        if value > 1 and not entity.plural:
            raise CouldNotMap([entity.text], "I expect a plural after a number.")
        return int(value)

    # -- the whole ------------------------------------------------------------------------------------------------

    def _finish(self) -> Meaning:
        draft, reader = self.draft, self.reader
        notes: list[str] = []
        groups = list(draft.groups)
        shape = "table"
        rank = draft.rank
        numerator = None
        if draft.shipped_alone and any(p.date is None for p in draft.periods):
            raise CouldNotMap(
                [draft.shipped_alone],
                "Say 'ordered in ...' or 'shipped in ...' for the period, and 'with ship mode ...' for the way.",
            )
        if draft.trend and not any(g.grain for g in groups + draft.each):
            groups.append(GroupAsk("over time", grain=self.model.defaults.over_time))
            notes.append(f"over time means by {self.model.defaults.over_time}")
        draft.compare |= any(ask.conjunction == "versus" for ask in (*draft.values, *draft.periods))
        if draft.size and rank is None:
            raise CouldNotMap([str(draft.size)], "Say which ones, for instance 'top 10 customers by sales'.")
        if rank is not None:
            if self.how_many:
                raise CouldNotMap(
                    [draft.rank_measure.text if draft.rank_measure else "how many"],
                    "Either count or rank; for instance 'top 10 customers by number of orders'.",
                )
            return self._finish_rank(rank, groups, notes)
        if self.how_many and not draft.total_limits:
            draft.entity = None
        groups += draft.each
        if draft.compare:
            groups += self._compared()
        if self.growth:
            return self._finish_growth(groups, notes)
        if self.share:
            if draft.total_limits or draft.entity or (groups and draft.row_limits):
                raise CouldNotMap([draft.measures[0].text], "A share with that limit is more than I can do safely.")
            if groups and draft.values_before_groups:
                raise CouldNotMap(
                    [draft.values[0].text],
                    "Is it a share of that, or its share in each row? Put the limit after 'by', for instance 'share of sales by nation in Europe'.",
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
            if groups:
                if not counts or not draft.entity.plural:
                    raise CouldNotMap([draft.entity.text], "Name a measure, for instance 'sales'.")
                draft.measures.append(MeasureAsk(counts, draft.entity.text))
                draft.entity = None
            elif (self.listing or draft.row_limits) and draft.entity.grain is None:
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
        if self.share or self.growth or draft.compare:
            raise CouldNotMap([entity.text], "A ranking of shares or growth is more than I can do safely.")
        if rank.size is None:
            size = self.model.defaults.rank_size if entity.plural else 1
            if entity.plural:
                notes.append(f"no number was given, so {size} are shown")
            rank = replace(rank, size=size)
        measure = draft.rank_measure
        if measure is None:
            own = self.model.dimensions[entity.dimensions[0]].rank_by if entity.dimensions else None
            if own is None and self.size_word:
                raise CouldNotMap([self.size_word], "Say by which measure, for instance 'by sales'.")
            name = own or self.model.defaults.rank_by
            measure = MeasureAsk((name,), self.model.measures[name].words[0])
            notes.append(f"no measure was named, so they are ranked by {measure.text}")
        draft.measures = [measure]
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
        if draft.measures and not self.how_many:
            raise CouldNotMap(
                [draft.total_limits[0].text], "Name the noun first, for instance 'nations with sales above 1 million'."
            )
        if groups:
            raise CouldNotMap([groups[0].text], "A limit on totals together with 'by' is more than I can do safely.")
        if self.share or draft.compare:
            raise CouldNotMap([draft.total_limits[0].text], "Ask this in a simpler sentence.")
        self._refuse_loose()
        for limit in draft.total_limits:
            low = limit.limit.numbers[0]
            if limit.limit.sign in ("<", "<=") or (limit.limit.sign in ("=", "between", ">=") and low <= 0):
                raise CouldNotMap(
                    [limit.limit.text],
                    "Those that have none at all would be missing; give a lower limit above zero, for instance 'between 1 and 5'.",
                )
        if self.how_many:
            draft.entity = self.counted_noun
        shape = "count" if self.how_many else "table"
        draft.measures = [limit.measure for limit in draft.total_limits]
        return self._meaning(shape, [], notes)

    def _finish_growth(self, groups: list[GroupAsk], notes: list[str]) -> Meaning:
        draft = self.draft
        times = [g for g in groups if g.grain]
        grain = self.growth
        ranges = [span for period in draft.periods for span in period.spans if span.start and span.end]
        if grain == "asked" and not times and len(ranges) == 1 and ranges[0].grain == "year":
            # 'growth from 1994 to 1995' has only one year to grow from.
            grain = "year" if ranges[0].end.year - ranges[0].start.year == 2 else grain
        if grain == "asked":
            if len(times) != 1 or times[0].grain != "year":
                raise CouldNotMap(["growth"], "Say 'year over year', 'month over month', or 'growth by year'.")
            grain = "year"
        if any(t.grain != grain for t in times) or len(times) > 1:
            raise CouldNotMap([times[-1].text], f"That growth is from {grain} to {grain}.")
        for period in draft.periods:
            for span in period.spans:
                if len(period.spans) > 1 or (
                    span.start and span.end and grain == "year" and span.end.year - span.start.year < 2
                ):
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
        if (
            draft.periods
            and any(
                p.text.split()[0] == "from" and p.spans[0].end and p.spans[0].end.year - p.spans[0].start.year > 2
                for p in draft.periods
            )
            and not times
        ):  # type: ignore[union-attr]
            raise CouldNotMap([draft.periods[0].text], "Say 'year over year growth between ... and ...'.")
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
            elif (
                grain == "year" and (span := period.spans[0]).start and span.end and span.end.year - span.start.year > 1
            ):
                if span.end.year - span.start.year != 2:
                    raise CouldNotMap([period.text], "Say '1994 and 1996', or 'by year between 1994 and 1996'.")
                found.append(GroupAsk(period.text, grain="year", date=period.date))
        if not found and not draft.groups and not draft.each:
            raise CouldNotMap(["compare"], "Name two values or two periods, for instance '1995 and 1996'.")
        return found

    def _numerator(self):
        draft = self.draft
        values_at, periods_at = draft.predicate_at or (0, 0)
        values = draft.values[values_at:]
        if len(values) == 1:
            draft.values = draft.values[:values_at]
            return values[0]
        if not values and draft.predicate_at and len(draft.periods) - periods_at == 1:
            return draft.periods.pop()
        raise CouldNotMap(
            [draft.measures[0].text],
            "Say which one part the share is of, for instance 'what percentage of sales comes from Europe', or 'share of sales by region'.",
        )

    def _meaning(self, shape: str, groups: Sequence[GroupAsk], notes: list[str], **more) -> Meaning:
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

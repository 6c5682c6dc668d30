"""The grammar: how a whole question is put together, from its first word to its last, with nothing left over."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from workers.adapters.semantic.clauses import TOP, Clauses
from workers.adapters.semantic.conclusion import Conclusion
from workers.adapters.semantic.draft import Draft
from workers.adapters.semantic.lexicon import GRAINS, Term
from workers.adapters.semantic.meaning import GroupAsk, Meaning, RankAsk
from workers.adapters.semantic.model import Model
from workers.adapters.semantic.period import read_period
from workers.adapters.semantic.reader import Reader
from workers.adapters.semantic.words import LISTING, OPENERS, Token
from workers.ports import CouldNotMap

_TOP = ("top", "best", "highest", "largest", "biggest", "greatest", "leading")
_BOTTOM = ("bottom", "worst", "lowest", "smallest")
_SIZES = ("highest", "largest", "biggest", "greatest", "lowest", "smallest")
_GROWTH = (
    "year over year", "year on year", "yoy", "month over month", "month on month", "mom", "quarter over quarter",
    "quarter on quarter", "qoq", "annual",
)  # fmt: skip
_LARGEST_RANK = 100_000


class Question:
    """One question being understood."""

    def __init__(self, terms: Sequence[Term], model: Model) -> None:
        self.reader = Reader(terms, model)
        self.model = model
        self.draft = Draft()
        self.clauses = Clauses(self.reader, self.draft)

    def read(self) -> Meaning:
        if self.reader.done:
            raise CouldNotMap(["an empty question"], "Ask for a measure, for instance 'sales by region'.")
        self._read_openers()
        if self.reader.done:
            raise self.reader.stuck("Ask for a measure, for instance 'sales by region'.")
        self._read_core()
        self._refuse_definition()
        self.clauses.read_all()
        return Conclusion(self.draft, self.model, self.clauses.entities()).meaning()

    def _refuse_definition(self) -> None:
        """'what is revenue' asks what the word means, not for a number."""
        reader, draft = self.reader, self.draft
        asked = reader.word(-2) in ("is", "are", "'s") and reader.pos >= 2
        if (
            reader.done
            and asked
            and len(draft.measures) == 1
            and not draft.measures[0].text.lower().startswith("total")
        ):
            raise reader.stuck(
                "For a number say 'total ...' or 'the ...'; a definition is in the knowledge base.", reader.pos - 1
            )

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
                self.draft.listing = self.draft.listing or (word if word in LISTING else "")
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
            self.draft.share = self.draft.counted = True
            return True
        measure = self.clauses.read_measure()
        if measure and reader.take("share", "percentage", "proportion"):
            self.draft.measures.append(measure)
            self.draft.share = True
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
        self.draft.growth = {"m": "month", "q": "quarter"}.get(said[0], "year") if said else "asked"
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
        self.draft.praise = word if word in ("best", "worst") else None
        self.draft.size_word = word if word in _SIZES else None
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
            known = self.model.measures[sense.names[0]]
            if not (known.counts or known.countable):
                raise reader.stuck("How many, or how much? Say 'number of orders' or 'total sales'.", reader.pos)
            return self._read_measures()
        measure = self.clauses.read_count()
        if measure is None:
            raise reader.stuck("I cannot count these.")
        self.draft.measures.append(measure)
        self.draft.how_many = True
        self.draft.entity = self.draft.last_noun
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
            ):
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

"""Clauses of a question: what may follow its core, in any order, each read whole or not at all."""

from __future__ import annotations

from dataclasses import replace

from workers.adapters.semantic.draft import Draft
from workers.adapters.semantic.lexicon import GRAINS
from workers.adapters.semantic.meaning import (
    GroupAsk,
    Limit,
    MeasureAsk,
    RankAsk,
    RowLimitAsk,
    TotalLimitAsk,
    ValueAsk,
)
from workers.adapters.semantic.nouns import Nouns
from workers.adapters.semantic.period import read_period
from workers.adapters.semantic.reader import Reader
from workers.ports import CouldNotMap

TOP = ("highest", "most", "largest", "biggest", "greatest", "top", "best", "maximum")
BOTTOM = ("lowest", "least", "fewest", "smallest", "bottom", "worst", "minimum")
_WHO = ("who", "that", "which")
_HAVE = (
    "with", "having", "have placed", "has placed", "had placed", "have made", "has made", "have", "has", "had",
    "whose", "where", "placed", "made", "generated", "achieved", "recorded",
)  # fmt: skip
_GROUP_BY = ("broken down by", "split by", "grouped by", "group by", "by", "across", "by each")
_EACH = (
    "per", "for each", "for every", "in each", "in every", "within each", "of each", "of every", "from each",
    "from every", "each", "every", "by each", "per each",
)  # fmt: skip
_EXCEPT = (
    "excluding", "except for", "except", "other than", "outside of", "outside", "not in", "not from", "not for",
    "not by", "not to", "not via", "not",
)  # fmt: skip
_PLACES = ("in", "for", "from", "of", "to", "via", "by", "on", "with", "within", "using", "at", "across", "through")
_FILLERS = (
    "are there", "were there", "there are", "there were", "do we have", "did we have", "have we had", "we have",
    "exist", "in total", "overall", "please", "thanks", "thank you", "for me", "in the data", "in our data",
    "are available", "available", "were made", "were placed", "was made", "placed", "made", "were recorded",
    "recorded", "did we make", "did we generate", "did we achieve", "did we record", "was generated", "generated",
    "did we get", "did we receive", "is there", "altogether", "all together",
)  # fmt: skip


class Clauses(Nouns):
    """Reads clauses into a draft. Each `_read_*` returns whether it consumed anything."""

    def __init__(self, reader: Reader, draft: Draft) -> None:
        super().__init__(reader, draft)
        self.joined = False
        self.last_read = ""

    def read_all(self) -> None:
        reader = self.reader
        while not reader.done:
            if not self.read_one():
                raise reader.stuck()

    def read_one(self) -> bool:
        reader = self.reader
        start = reader.furthest = reader.pos
        reader.take(", and", "and", ", but", "but", ",")
        at = reader.pos
        self.joined = at > start
        before = self.draft.snapshot()
        for read in (
            self._read_verb,
            self._read_did,
            self._read_superlative,
            self._read_limits,
            self._read_period,
            self._read_predicate,
            self._read_except,
            self._read_rank_measure,
            self._read_groups,
            self._read_mention,
            self._read_value,
            self._read_sort,
            self._read_filler,
        ):
            if read():
                self.last_read = read.__name__
                return True
            reader.pos = at
            self.draft.restore(before)
        reader.pos = start
        return False

    def _read_verb(self) -> bool:
        """'who spent the most', 'who spent more than 1 million': a verb that stands for a measure."""
        reader, draft = self.reader, self.draft
        start = reader.pos
        reader.take(*_WHO)
        reader.take("have", "has", "had")
        sense = reader.sense("verb")
        if sense is None or draft.entity is None or draft.rank_measure or draft.total_limits:
            return False
        doer = reader.model.dimensions[str(reader.model.measures[sense.names[0]].about)].node
        nodes = [reader.model.dimensions[name].node for name in draft.entity.dimensions[:1]]
        if not nodes or nodes[0] not in reader.model.reach(doer):
            # Customers spend; suppliers and brands do not.
            return False
        reader.pos += 1
        measure = MeasureAsk(sense.names, reader.terms[reader.pos - 1].text)
        word = reader.take("the most", "most", "the least", "least")
        if word:
            draft.rank = draft.rank or RankAsk(draft.size, word.endswith("most"))
            draft.rank_measure = measure
            return draft.rank.descending == word.endswith("most")
        limit = reader.read_limit()
        if limit is None:
            return False
        draft.total_limits.append(TotalLimitAsk(reader.text(start), measure, limit))
        return True

    def _read_did(self) -> bool:
        """'how many orders did French customers place': the doer of the question's verb."""
        reader, draft = self.reader, self.draft
        if not reader.take("did", "do", "does"):
            return False
        each = reader.take("each", "every")
        if each:
            group = self._read_group()
            if group is None or group.plural:
                return False
            draft.each.append(group)
        else:
            entity = self.read_entity()
            value = None if entity else reader.read_values()
            if value:
                draft.values.append(replace(value, owner=None))
            elif entity is None or not set(entity.dimensions) & self.entities():
                return False
        draft.doer = True
        return True

    def _read_superlative(self) -> bool:
        """'with the highest sales', 'that placed the most orders': turns a noun into a ranking."""
        reader, draft = self.reader, self.draft
        reader.take(*_WHO)
        if not reader.take(*_HAVE, "by", "in terms of", "generates", "generate"):
            return False
        reader.articles()
        word = reader.take(*TOP, *BOTTOM)
        if not word:
            return False
        if draft.entity is None or draft.rank_measure or draft.total_limits:
            return False
        measure = self.read_measure(counts=True)
        if measure is None:
            return False
        descending = word in TOP
        if draft.rank:
            if draft.rank.descending != descending:
                raise reader.stuck("Top and lowest contradict each other.", reader.pos - 1)
        else:
            draft.rank = RankAsk(draft.size, descending)
        draft.rank_measure = measure
        draft.praise = draft.praise or (word if word in ("best", "worst") else None)
        return True

    def _read_limits(self) -> bool:
        return self._read_total_limit() or self._read_row_limit()

    def _read_total_limit(self) -> bool:
        """'with more than 20 orders', 'with sales above 1 million', 'between 5 and 10 orders'."""
        reader, draft = self.reader, self.draft
        start = reader.pos
        reader.take(*_WHO)
        have = reader.take(*_HAVE, "of")
        reader.articles()
        row = self._row_limit_at(have)
        if row:
            draft.row_limits.append(row)
            return True
        limit = reader.read_limit()
        if limit:
            reader.take("in", "of", "units of")
            measure = self.read_measure(counts=True)
            if measure and have and have != "of" and draft.entity:
                draft.total_limits.append(TotalLimitAsk(reader.text(start), measure, limit))
                return True
        elif have and draft.entity:
            measure = self.read_measure()
            if measure:
                reader.take("of", "is", "are", "was", "were", "that is", "which is", "that are")
                limit = reader.read_limit()
                if limit and measure.text.lower() in reader.model.measures[measure.names[0]].per_row_words:
                    said = measure.text.lower()
                    raise CouldNotMap([said], f"Of each {said}, or of their sum? Say 'total {said}' for the sum.")
                if limit:
                    draft.total_limits.append(TotalLimitAsk(reader.text(start), measure, limit))
                    return True
        reader.pos = start
        return False

    def _row_limit_at(self, have: str | None) -> RowLimitAsk | None:
        """'account balance over 5000' where the attribute is of the noun just said."""
        reader = self.reader
        start = reader.pos
        noun = self.draft.last_noun
        sense = reader.sense("attribute")
        if sense and noun and set(noun.dimensions) & self.entities():
            # Of a clerk or a segment it would be a total, not a property.
            owner = {reader.model.dimensions[name].node for name in noun.dimensions}
            names = tuple(n for n in sense.names if reader.model.attributes[n].node in owner)
            if len(names) == 1:
                reader.pos += 1
                equals = reader.take("of", "is", "are", "was", "were", "=", "equal to")
                limit = reader.read_limit()
                if limit is None and (equals or have) and (number := reader.read_number()):
                    limit = Limit("=", (number.number,), number.percent, number.text)
                if limit:
                    return RowLimitAsk(reader.text(start), names, limit)
        reader.pos = start
        return None

    def _read_row_limit(self) -> bool:
        """'orders over 100000': a noun whose amount is understood."""
        reader, draft = self.reader, self.draft
        start = reader.pos
        reader.take(*_WHO)
        reader.take("are", "is", "were", "was")
        reader.take("worth", "of", "with")
        noun = draft.last_noun
        amounts = [a for n in (noun.dimensions if noun else ()) if (a := reader.model.dimensions[n].amount)]
        limit = reader.read_limit() if amounts else None
        if limit is None or limit.percent or limit.years:
            # "orders between 1994 and 1996" is about time.
            reader.pos = start
            return False
        reader.take("in value", "in total")
        draft.row_limits.append(RowLimitAsk(reader.text(start), tuple(amounts), limit))
        return True

    def _read_period(self) -> bool:
        period = read_period(self.reader)
        if period is None:
            return False
        self.draft.periods.append(period)
        if period.conjunction == "versus":
            self.draft.compare = True
        return True

    def _read_predicate(self) -> bool:
        """'comes from', 'are': in a share question, what follows is the part that is asked about."""
        reader, draft = self.reader, self.draft
        if draft.predicate_at is not None or not draft.counted:
            return False
        if reader.take("comes", "come", "came", "is", "are", "was", "were") is None:
            return False
        if draft.row_limits or draft.groups or draft.each:
            return False
        draft.predicate_at = (len(draft.values), len(draft.periods))
        draft.scope = None
        return True

    def _read_except(self) -> bool:
        reader, draft = self.reader, self.draft
        reader.take(*_WHO)
        reader.take("are", "is", "were", "was")
        said = reader.take(*_EXCEPT)
        if not said:
            return False
        start = reader.pos
        reader.take("from", "in", "those in", "the")
        value = reader.read_values()
        if value is None or value.negated:
            reader.pos = start
            return False
        if value.conjunction == "versus":
            return False
        before = reader.pos
        noun = reader.read_noun()
        if noun and not set(noun.dimensions) & self.entities():
            reader.pos = before
            noun = None
        owner = self.scope_of(noun) if noun else draft.scope
        draft.values.append(replace(value, negated=True, owner=owner, conjunction=None, text=f"{said} {value.text}"))
        return True

    def _read_rank_measure(self) -> bool:
        """'by sales' after 'top 10 customers'."""
        reader, draft = self.reader, self.draft
        if draft.rank is None or draft.rank_measure or draft.entity is None:
            return False
        if not reader.take(
            "by", "in terms of", "based on", "according to", "ranked by", "sorted by", "ordered by", "in", "for"
        ):
            return False
        measure = self.read_measure(counts=True) if reader.word(-1) not in ("in", "for") else self.read_measure()
        if measure is None:
            return False
        draft.rank_measure = measure
        return True

    def _read_groups(self) -> bool:
        reader, draft = self.reader, self.draft
        start = reader.pos
        adverb = {"annually": "year", "monthly": "month", "quarterly": "quarter", "annual": "year"}.get(reader.word())
        if adverb:
            reader.pos += 1
            draft.groups.append(GroupAsk(reader.text(start), grain=adverb))
            return True
        if reader.take("over time"):
            draft.trend = True
            return True
        if reader.take("trend", "trends"):
            draft.trend = True
            return True
        said = reader.take(*_EACH, *_GROUP_BY)
        if said is None:
            return False
        target = draft.each if said in _EACH else draft.groups
        if draft.values_before_groups is None:
            draft.values_before_groups = len(draft.values)
        scope = draft.scope if draft.rank and target is draft.each else None
        group = self._read_group()
        if group is None:
            return False
        if len(group.dimensions) > 1:
            # 'top supplier in each nation': the nation of the supplier just named.
            group = replace(group, owner=scope)
        if target is draft.each and draft.loose:
            # 'customers with orders in every year' is about the same customer in all of them.
            return False
        if (
            group.plural
            and said == "by"
            and group.dimensions
            and reader.model.dimensions[group.dimensions[0]].count
            and self._value_follows()
        ):
            raise reader.stuck("Say 'by customer' for one row each, or 'of customers in ...' for a filter.", start)
        target.append(group)
        while True:
            before = reader.pos
            reader.take(",")
            again = reader.take("and", "then", "by", "per", "and by", "and per", "then by", "and for each", "for each")
            if reader.pos == before:
                break
            more = self._read_group()
            if more is None:
                reader.pos = before
                break
            if again in ("per", "and per", "for each") and target is draft.groups:
                target = draft.each
            target.append(more)
        draft.scope = None
        draft.last_noun = None
        return True

    def _value_follows(self) -> bool:
        reader = self.reader
        return reader.word() in _PLACES and any(reader.sense("value", k) for k in (1, 2))

    def _read_group(self) -> GroupAsk | None:
        reader = self.reader
        start = reader.pos
        reader.articles()
        sense = reader.sense("grain")
        if sense:
            reader.pos += 1
            return GroupAsk(reader.text(start), grain=sense.names[0], date=sense.names[1])
        if reader.word() in GRAINS:
            grain = GRAINS[reader.word()]
            reader.pos += 1
            return GroupAsk(reader.text(start), grain=grain)
        noun = reader.read_noun()
        if noun is None:
            reader.pos = start
            return None
        scope = self.scope_of(noun)
        if scope:
            self.draft.mentioned.add(scope)
        return noun

    def _read_mention(self) -> bool:
        """'of German customers', 'who placed orders', 'with returned items': a noun that must be there."""
        reader, draft = self.reader, self.draft
        who = reader.take(*_WHO)
        reader.take("have", "had") if reader.word(1) in ("placed", "ordered", "bought", "purchased", "made") else None
        verb = reader.take(
            "placed by",
            "made by",
            "ordered by",
            "bought by",
            "purchased by",
            "supplied by",
            "placed",
            "made",
            "ordered",
            "bought",
            "purchased",
            "have",
            "has",
            "had",
            "with",
            *_PLACES,
        )
        if verb is None:
            return False
        if verb in ("placed", "made", "ordered", "bought", "purchased", "have", "has", "had") and not (
            who or draft.entity or draft.counted
        ):
            return False
        rank_before = len(draft.values)
        start = reader.pos
        one = reader.take("at least one", "any", "an", "a")
        noun = self.read_entity()
        if noun is None:
            if (
                verb in ("ordered", "bought", "purchased")
                and (draft.entity or draft.counted)
                and "customer" in draft.mentioned
            ):
                draft.needs.append(("order" if verb == "ordered" else "line_item", verb))
                draft.scope = None
                draft.loose.append(verb)
                return True
            return False
        adjectives = draft.values[rank_before:]
        if not adjectives and not ((noun.plural or one) and noun.dimensions[0] in self.entities()):
            return False
        if verb in ("have", "has", "had", "with", "placed", "made", "ordered", "bought", "purchased"):
            draft.loose.append(reader.text(start))
        draft.needs.append((noun.dimensions[0], noun.text))
        return True

    def _same_place(self, one: ValueAsk, other: ValueAsk) -> bool:
        """'in Europe and in Japan': two kinds of places, joined by 'and', are not meant as one inside the other."""
        owners = self.reader.model.owners
        if len(one.dimensions) == len(other.dimensions) == 1 and owners.get(one.dimensions[0]) != owners.get(
            other.dimensions[0]
        ):
            return False
        places = {name for family in self.reader.model.families.values() for name in family.members}
        return one.dimensions[0] in places and other.dimensions[0] in places

    def _read_value(self) -> bool:
        reader, draft = self.reader, self.draft
        start = reader.pos
        who = reader.take(*_WHO)
        be = reader.take("are", "is", "were", "was", "be", "being")
        verb = reader.take("shipped", "delivered")
        place = (
            reader.take("shipped by", *_PLACES, "where", "whose", "between")
            if not verb
            else reader.take("by", "via", "using", "on", "through")
        )
        if verb and not place:
            return False
        if not place and reader.take("located in", "based in", "came from", "come from", "coming from"):
            place = "from"
        named = place or reader.sense("dimension")
        value = reader.read_values()
        if value is None:
            return False
        if self.joined and self.last_read == "_read_value" and (not named or self._same_place(value, draft.values[-1])):
            raise reader.stuck("I cannot tell whether both must hold or one of them.", start)
        if place == "between" and value.conjunction != "and":
            return False
        if place == "between":
            value = replace(value, conjunction="versus")
        if (who or be) and value.conjunction == "versus":
            return False
        if verb or reader.model.dimensions[value.dimensions[0]].event:
            draft.shipped_alone = verb or value.text
        if value.conjunction == "versus":
            draft.compare = True
        draft.values.append(replace(value, owner=draft.scope, text=reader.text(start)))
        return True

    def _read_sort(self) -> bool:
        """'nations ranked by sales', 'list nations by sales': every row, highest first."""
        reader, draft = self.reader, self.draft
        if reader.take("in descending order", "descending", "desc"):
            draft.descending = True
            return True
        said = reader.take(
            "ranked by", "sorted by", "ordered by", "in order of", "by" if draft.listing else "ranked by"
        )
        if said is None or draft.rank or draft.rank_measure or draft.total_limits:
            return False
        measure = self.read_measure(counts=True)
        if measure is None:
            return False
        if draft.entity and not draft.measures:
            draft.rank_measure = measure
            return True
        return (
            bool(draft.measures) and measure.names == draft.measures[0].names and not any(g.grain for g in draft.groups)
        )

    def _read_filler(self) -> bool:
        if self.draft.doer and self.reader.take("place", "make", "have", "get", "generate"):
            self.draft.doer = False
            return True
        return self.reader.take(*_FILLERS) is not None

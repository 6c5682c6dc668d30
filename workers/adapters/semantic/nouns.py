"""Nouns and measures: the phrases clauses and cores share, read into a draft."""

from __future__ import annotations

from dataclasses import replace

from workers.adapters.semantic.draft import Draft
from workers.adapters.semantic.meaning import GroupAsk, MeasureAsk, ValueAsk
from workers.adapters.semantic.reader import Reader


class Nouns:
    """Reads nouns with their adjectives, and measures; remembers which noun the next value is said of."""

    def __init__(self, reader: Reader, draft: Draft) -> None:
        self.reader = reader
        self.draft = draft

    def scope_of(self, noun: GroupAsk) -> str | None:
        owners = self.reader.model.owners
        if len(noun.dimensions) != 1:
            return None
        name = noun.dimensions[0]
        return name if name in owners.values() else owners.get(name)

    def note_noun(self, noun: GroupAsk) -> None:
        self.draft.scope = self.scope_of(noun)
        self.draft.last_noun = noun
        if self.draft.scope:
            self.draft.mentioned.add(self.draft.scope)

    def read_adjectives(self) -> list[ValueAsk]:
        """Values in front of a noun: 'urgent', 'German and French'. They belong to the noun that follows."""
        reader = self.reader
        found: list[ValueAsk] = []
        while True:
            reader.articles()
            value = reader.read_values(named=False)
            if value is None:
                return found
            found.append(value)

    def read_entity(self) -> GroupAsk | None:
        """A noun with its adjectives; the adjectives become filters said of it."""
        reader = self.reader
        start = reader.pos
        reader.articles()
        reader.take("distinct", "different", "unique")
        adjectives = self.read_adjectives()
        noun = reader.read_noun()
        if noun is None:
            reader.pos = start
            return None
        self.note_noun(noun)
        self.draft.values += [replace(value, owner=self.draft.scope) for value in adjectives]
        return noun

    def read_count(self) -> MeasureAsk | None:
        """'number of German customers', 'orders' after a comparison: the count measure of a noun."""
        start = self.reader.pos
        noun = self.read_entity()
        if noun is None:
            return None
        counts = [self.reader.model.dimensions[name].count for name in noun.dimensions]
        names = tuple(name for name in counts if name)
        if not names:
            raise self.reader.stuck("I cannot count these.", start)
        return MeasureAsk(names, self.reader.text(start))

    def read_measure(self, counts: bool = False) -> MeasureAsk | None:
        """A measure by name, 'number of ...', or 'average ... per ...'; with `counts` a bare plural noun too."""
        reader = self.reader
        start = reader.pos
        reader.articles()
        ratio = reader.sense("ratio")
        if ratio:
            reader.pos += 1
            self.draft.scope = self.draft.last_noun = None
            per = next(r.per for r in reader.model.ratios.values() if (r.over, r.by) == ratio.names)
            if per in reader.model.owners.values():
                self.draft.mentioned.add(per)
            return MeasureAsk((ratio.names[0],), reader.text(start), ratio.names[1])
        if reader.word() == "average":
            raise reader.stuck(f"An average of that is not defined; I know {self._ratios()}.")
        total = reader.take("total", "overall", "combined", "sum of", "the sum of")
        reader.articles()
        sense = reader.sense("measure")
        if sense:
            text = reader.terms[reader.pos].text
            if total and not all(reader.model.measures[name].additive for name in sense.names):
                raise reader.stuck("A total of this measure has no meaning.")
            reader.pos += 1
            ask = MeasureAsk(sense.names, text)
            counted = reader.model.measures[sense.names[0]].counts
            if counted:
                # 'number of orders' has said the noun: what follows may be said of it.
                self.note_noun(GroupAsk(text, (counted,), plural=True))
            else:
                self.draft.scope = self.draft.last_noun = None
            return self._maybe_of(ask)
        if (
            reader.take("number of", "count of", "a count of")
            or (counts and (noun := reader.sense("dimension")) and noun.plural)
            or (counts and reader.sense("value"))
        ):
            ask_count = self.read_count()
            if ask_count:
                return ask_count
        reader.pos = start
        return None

    def _maybe_of(self, ask: MeasureAsk) -> MeasureAsk:
        """'account balance of suppliers' says which account balance is meant."""
        if len(ask.names) == 1:
            return ask
        reader = self.reader
        start = reader.pos
        if reader.take("of", "for"):
            reader.articles()
            noun = reader.read_noun()
            if noun:
                named = tuple(n for n in ask.names if reader.model.measures[n].about in noun.dimensions)
                if len(named) == 1:
                    self.note_noun(noun)
                    return MeasureAsk(named, ask.text)
        reader.pos = start
        return ask

    def _ratios(self) -> str:
        model = self.reader.model
        return ", ".join(
            f"average {model.measures[r.over].words[0]} per {model.dimensions[r.per].words[0]}"
            for r in model.ratios.values()
        )

    def entities(self) -> set[str]:
        """Dimensions that are things of their own, not properties of one: naming them adds no grouping."""
        model = self.reader.model
        return (
            {
                name
                for name, dimension in model.dimensions.items()
                if dimension.count and dimension.label not in dimension.key and not dimension.values
            }
            | {name for name, dimension in model.dimensions.items() if dimension.amount}
            | {"line_item"}
        )

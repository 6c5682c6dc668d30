"""The reader: a cursor over a question's terms, with the small phrases every clause is made of."""

from __future__ import annotations

from collections.abc import Sequence

from workers.adapters.semantic.lexicon import Sense, Term
from workers.adapters.semantic.meaning import GroupAsk, Limit, ValueAsk
from workers.adapters.semantic.model import Model
from workers.adapters.semantic.words import ARTICLES, is_plain
from workers.ports import CouldNotMap

VERSUS = ("compared to", "compared with", "versus", "vs", "against")
_SAID_LIMITS = {
    "<=": ("no more than", "not more than", "at most", "up to", "<="),
    ">=": ("no less than", "not less than", "no fewer than", "at least", ">="),
    ">": (
        *("more than", "greater than", "larger than", "higher than", "over", "above"),
        *("exceeding", "exceeded", "exceeds", "exceed", ">"),
    ),
    "<": ("less than", "fewer than", "lower than", "smaller than", "below", "under", "<"),
    "=": ("exactly", "equal to", "="),
}
_LIMITS = {said: sign for sign, phrases in _SAID_LIMITS.items() for said in phrases}


class Reader:
    """Terms and a position. Every `read_*` either consumes what it returns or leaves the position where it was."""

    def __init__(self, terms: Sequence[Term], model: Model) -> None:
        self.terms = terms
        self.model = model
        self.furthest = 0
        self._pos = 0

    @property
    def pos(self) -> int:
        return self._pos

    @pos.setter
    def pos(self, value: int) -> None:
        self._pos = value
        self.furthest = max(self.furthest, value)

    @property
    def done(self) -> bool:
        return self.pos >= len(self.terms)

    def term(self, ahead: int = 0) -> Term | None:
        at = self.pos + ahead
        return self.terms[at] if 0 <= at < len(self.terms) else None

    def word(self, ahead: int = 0) -> str:
        term = self.term(ahead)
        return term.word if term else ""

    def sense(self, kind: str, ahead: int = 0) -> Sense | None:
        term = self.term(ahead)
        return term.sense(kind) if term else None

    def text(self, start: int, end: int | None = None) -> str:
        return " ".join(term.text for term in self.terms[start : self.pos if end is None else end])

    def take(self, *phrases: str) -> str | None:
        """Consume the longest of `phrases` that stands here."""
        for phrase in sorted(phrases, key=len, reverse=True):
            words = phrase.split()
            if all(self.word(k) == word for k, word in enumerate(words)):
                self.pos += len(words)
                return phrase
        return None

    def articles(self) -> None:
        while self.word() in ARTICLES:
            self.pos += 1

    def stuck(self, hint: str = "", at: int | None = None) -> CouldNotMap:
        """The refusal that names the terms nothing could be made of: from here, or `at`, as far as any try came."""
        start = min(self.pos if at is None else at, len(self.terms) - 1)
        end = max(start + 1, self.furthest) if at is None else start + 1
        return CouldNotMap(
            [self.text(start, end)],
            hint or "I know the word, but not what it means at this place of the question; try a simpler sentence.",
        )

    def read_number(self):
        term = self.term()
        if term is None or term.number is None or not is_plain(term.number.number):
            return None
        self.pos += 1
        return term.number

    def read_noun(self) -> GroupAsk | None:
        sense = self.sense("dimension")
        if sense is None:
            return None
        text = self.terms[self.pos].text
        self.pos += 1
        return GroupAsk(text, sense.names, plural=sense.plural)

    def read_limit(self) -> Limit | None:
        """'more than 20', '>= 5%', 'between 3 and 7', '20 or more'."""
        start = self.pos
        sign = self.take(*_LIMITS)
        if sign:
            number = self.read_number()
            if number:
                return Limit(_LIMITS[sign], (number.number,), number.percent, self.text(start), number.is_year)
        elif self.take("between"):
            low = self.read_number()
            if low and self.take("and") and (high := self.read_number()) and low.percent == high.percent:
                return Limit(
                    "between", (low.number, high.number), low.percent, self.text(start), low.is_year or high.is_year
                )
        else:
            number = self.read_number()
            if number:
                more = self.take("or more", "and more", "or less", "or fewer")
                if more:
                    return Limit(
                        ">=" if more.endswith("more") else "<=",
                        (number.number,),
                        number.percent,
                        self.text(start),
                        number.is_year,
                    )
        self.pos = start
        return None

    def read_values(self, named: bool = True) -> ValueAsk | None:
        """'France', 'the BUILDING segment', 'supplier nation Germany', 'region is not Asia', 'France and Peru'."""
        start = self.pos
        self.articles()
        self.take("both", "either")
        # In front of a noun a value stands alone: "nations of German suppliers" is about nations.
        noun = self.sense("dimension") if named else None
        names: tuple[str, ...] | None = None
        negated = False
        if noun is not None:
            names = noun.names
            self.pos += 1
            said = self.take("is not", "are not", "is", "are", "=", "equal to", "of", "was", "not", "in", "<>", "!=")
            negated = said in ("is not", "are not", "not", "<>", "!=")
            self.articles()
        first = self.sense("value")
        if first is None:
            self.pos = start
            return None
        dimensions = tuple(n for n in (names or first.names) if n in first.names)
        if not dimensions:
            self.pos = start
            return None
        values = [first.value]
        self.pos += 1
        joins: set[str] = set()
        while True:
            before = self.pos
            join = self._read_join()
            if join is None:
                break
            self.take("in", "from", "for", "by", "of", "to")
            self.articles()
            sense = self.sense("value")
            shared = tuple(n for n in dimensions if sense and n in sense.names)
            if sense is None or not shared:
                self.pos = before
                break
            dimensions = shared
            values.append(sense.value)
            joins.add(join)
            self.pos += 1
        after = self.sense("dimension")
        if after and noun is None:
            narrowed = tuple(n for n in after.names if n in dimensions)
            if narrowed:
                dimensions = narrowed
                self.pos += 1
        joins.discard(",")
        if len(joins) > 1:
            self.pos = start
            raise self.stuck("I cannot tell how 'and' and 'or' belong together here.", start)
        return ValueAsk(
            self.text(start), dimensions, tuple(dict.fromkeys(values)), negated, joins.pop() if joins else None
        )

    def _read_join(self) -> str | None:
        comma = self.take(",")
        join = self.take("and", "or", "&", "as well as", *VERSUS)
        if join is None:
            return comma
        return "and" if join in ("&", "as well as") else "versus" if join in VERSUS else join

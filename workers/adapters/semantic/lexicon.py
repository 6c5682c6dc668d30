"""The lexicon: which phrases a model gives a meaning, and how a question's tokens become terms with senses."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from workers.adapters.semantic.model import Model
from workers.adapters.semantic.words import FUNCTION_WORDS, Token, tokens_of
from workers.ports import CouldNotMap

GRAINS = {
    "year": "year",
    "years": "year",
    "quarter": "quarter",
    "quarters": "quarter",
    "month": "month",
    "months": "month",
}


@dataclass(frozen=True)
class Sense:
    """One meaning of a phrase. `names` are what the model calls it, in order of preference."""

    kind: str
    names: tuple[str, ...]
    value: str = ""
    plural: bool = False


@dataclass(frozen=True)
class Term:
    """Neighbouring tokens read as one unit."""

    tokens: tuple[Token, ...]
    senses: tuple[Sense, ...] = ()

    @property
    def text(self) -> str:
        return " ".join(token.text for token in self.tokens).replace(" 's", "'s")

    @property
    def word(self) -> str:
        return self.tokens[0].word if len(self.tokens) == 1 else ""

    @property
    def number(self) -> Token | None:
        return self.tokens[0] if len(self.tokens) == 1 and self.tokens[0].number is not None else None

    def sense(self, kind: str) -> Sense | None:
        return next((sense for sense in self.senses if sense.kind == kind), None)


def _plural(words: str) -> str:
    if words.endswith("y"):
        return words[:-1] + "ies"
    return words + ("es" if words.endswith(("s", "x")) else "s")


class Lexicon:
    """Phrases of one model, longest first."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._phrases: dict[tuple[str, ...], list[Sense]] = {}
        self._patterns = [
            (re.compile(d.pattern.like), d.pattern.value, name) for name, d in model.dimensions.items() if d.pattern
        ]
        self._fill()
        self._longest = max(map(len, self._phrases))
        self._words = sorted({word for phrase in self._phrases for word in phrase if word.isalpha()} | FUNCTION_WORDS)

    def _fill(self) -> None:
        model = self._model
        for name, measure in model.measures.items():
            for words in measure.words:
                self._add(words, Sense("measure", (name,)))
            for words in measure.verbs:
                self._add(words, Sense("verb", (name,)))
            for words in measure.shared_words:
                self._add(words, Sense("measure", (name,)))
        in_family = {member: family.members for family in model.families.values() for member in family.members}
        for name, dimension in model.dimensions.items():
            for words in dimension.words:
                self._add_noun(words, Sense("dimension", (name,)))
        for family in model.families.values():
            for words in family.words:
                self._add_noun(words, Sense("dimension", family.members))
        for ratio in model.ratios.values():
            over, per = model.measures[ratio.over], model.dimensions[ratio.per].words
            nouns = [noun for d in model.dimensions.values() if d.count == ratio.over for noun in d.words]
            for word in (
                *over.words,
                *(_plural(noun) for noun in nouns),
                *(f"number of {_plural(noun)}" for noun in nouns),
            ):
                for noun in per:
                    self._add(f"average {word} per {noun}", Sense("ratio", (ratio.over, ratio.by)))
        for name, attribute in model.attributes.items():
            for words in attribute.words:
                self._add(words, Sense("attribute", (name,)))
        for name, role in model.dates.items():
            for words in role.words:
                self._add(words, Sense("date", (name,)))
            for grain in ("year", "quarter", "month"):
                for prefix in {role.prefix, *(words.split()[0] for words in role.words if words.split()[-1] == "date")}:
                    self._add(f"{prefix} {grain}", Sense("grain", (grain, name)))
                for words in role.words:
                    self._add(f"{grain} of {words}", Sense("grain", (grain, name)))
        for values_name in model.values:
            dimensions = tuple(name for name, d in model.dimensions.items() if d.values == values_name)
            if dimensions and dimensions[0] in in_family:
                dimensions = in_family[dimensions[0]]
            for value, phrases in model.value_words(values_name).items():
                for words in phrases:
                    self._add(words, Sense("value", dimensions, value))
        for unclear in model.unclear:
            for words in unclear.words:
                self._add(words, Sense("unclear", (), unclear.hint))

    def _add_noun(self, words: str, sense: Sense) -> None:
        self._add(words, sense)
        if " of " not in words and "'" not in words:
            self._add(_plural(words), Sense(sense.kind, sense.names, plural=True))

    def _add(self, words: str, sense: Sense) -> None:
        model = self._model
        phrase = tuple(t.word for t in tokens_of(words, model.exact_spellings, model.spellings))
        senses = self._phrases.setdefault(phrase, [])
        same = next((s for s in senses if s.kind == sense.kind), None)
        if same and sense.kind != "unclear":
            # Two things of one kind behind one phrase: what surrounds it has to decide.
            if sense.value == same.value and not set(sense.names) <= set(same.names):
                senses[senses.index(same)] = Sense(same.kind, same.names + sense.names, same.value, same.plural)
        else:
            senses.append(sense)

    def terms_of(self, question: str) -> list[Term]:
        """Read a question into terms; raises CouldNotMap naming every word that has no meaning here."""
        tokens = tokens_of(question, self._model.exact_spellings, self._model.spellings)
        terms: list[Term] = []
        at = 0
        while at < len(tokens):
            term = self._pattern(tokens, at) or self._phrase(tokens, at) or Term((tokens[at],))
            terms.append(term)
            at += len(term.tokens)
        self._refuse_unknown(terms)
        return terms

    def _phrase(self, tokens: Sequence[Token], at: int) -> Term | None:
        for size in range(min(self._longest, len(tokens) - at), 0, -1):
            part = tuple(tokens[at : at + size])
            senses = self._phrases.get(tuple(token.word for token in part))
            if senses:
                return Term(part, tuple(senses))
        return None

    def _pattern(self, tokens: Sequence[Token], at: int) -> Term | None:
        for size in range(min(3, len(tokens) - at), 0, -1):
            part = tuple(tokens[at : at + size])
            text = " ".join(token.word for token in part)
            for like, value, name in self._patterns:
                match = like.match(text.replace(" # ", "#"))
                if match:
                    return Term(part, (Sense("value", (name,), value.format(*match.groups())),))
        return None

    def _refuse_unknown(self, terms: Sequence[Term]) -> None:
        unclear = [(term, sense) for term in terms if (sense := term.sense("unclear")) and len(term.senses) == 1]
        unknown = [
            term
            for term in terms
            if not term.senses
            and term.number is None
            and term.tokens[0].kind != "date"
            and term.word not in FUNCTION_WORDS
        ]
        if unknown:
            raise CouldNotMap(list(dict.fromkeys(term.text for term in unknown)), self._hint(unknown))
        if unclear:
            raise CouldNotMap(
                [term.text for term, _ in unclear], " ".join(dict.fromkeys(sense.value for _, sense in unclear))
            )

    def _hint(self, unknown: Sequence[Term]) -> str:
        hints = []
        for term in unknown[:5]:
            near = get_close_matches(term.word, self._words, 1, 0.8) if len(term.word) > 3 else []
            if near and near[0] != term.word:
                hints.append(f"Did you mean '{near[0]}' for '{term.text}'?")
        return " ".join(hints) or self.known()

    def known(self) -> str:
        """One sentence on what can be asked."""
        measures = ", ".join(m.words[0] for m in list(self._model.measures.values())[:12])
        dimensions = ", ".join(d.words[0] for d in self._model.dimensions.values() if d.words)
        return f"I know measures such as {measures}; by {dimensions}; by year, quarter and month."

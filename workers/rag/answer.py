"""An extractive answer: sentences of the passages that answer a question, word for word, each tied to its source."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from workers.ports import Passage
from workers.rag.sentences import quotable
from workers.rag.words import SHAPING, Term, stems, terms

#: Share of a question's weight that one passage must hold before the passages count as an answer.
ENOUGH = 0.68
#: Sentences at most that answer one part of a question.
MOST_SENTENCES = 3
#: A further sentence must bring this share of what the first one brought.
WORTH = 0.3
#: What a word brings again, each time, that earlier sentences already had, and a word that only the heading has.
REPEATED, IN_HEADING = 0.4, 0.5
#: What the sentence that opens a section brings on top: it says what the rest explains.
OPENING = 1.2
#: What a sentence brings on top that begins with a word of the question: it is about it.
ABOUT = 1.2

_PARTS = re.compile(
    r"[?;]\s+|,?\s+and\s+(?=(?:what|which|who|whose|how|when|where|why|is|are|do|does|did|can|may|must)\b)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Answer:
    """`text` with marks like [1]; `cited` are the passages the marks stand for, in that order.

    `missing` are the parts of the question that the passages do not answer.
    """

    text: str
    cited: tuple[Passage, ...]
    missing: tuple[str, ...]


@dataclass(frozen=True)
class _Sentence:
    rank: int
    position: int
    text: str
    found: frozenset[str]
    in_heading: frozenset[str]
    prior: float


def compose(question: str, passages: Sequence[Passage]) -> Answer | None:
    """Answer from the passages, each part of the question by itself; None when they hold enough of no part."""
    chosen: dict[str, _Sentence] = {}
    missing: list[str] = []
    for part in _PARTS.split(question):
        asked = terms(part)
        if all(term.weight <= SHAPING for term in asked):
            continue  # "and what does it mean?" says nothing that could be looked for
        if any(coverage(asked, passage) >= ENOUGH for passage in passages):
            for sentence in _choose(asked, _sentences(asked, passages)):
                chosen.setdefault(sentence.text, sentence)
        else:
            missing.append(part.strip())
    return _written(list(chosen.values()), passages, missing) if chosen else None


def coverage(asked: Sequence[Term], passage: Passage) -> float:
    """The share of a question's weight that the passage and its title hold, 0 to 1."""
    held = set(stems(f"{passage.title}\n{passage.text}"))
    total = sum(term.weight for term in asked)
    return sum(term.weight for term in asked if term.stem in held) / total if total else 0.0


def _sentences(asked: Sequence[Term], passages: Sequence[Passage]) -> list[_Sentence]:
    wanted = frozenset(term.stem for term in asked)
    best = max(passage.score for passage in passages)
    found: list[_Sentence] = []
    for rank, passage in enumerate(passages):
        heading = wanted & frozenset(stems(passage.title))
        prior = passage.score / best if best > 0 else 1.0
        for position, text in enumerate(quotable(passage.text)):
            words = stems(text)
            said = wanted.intersection(words)
            bonus = (1.0 if position else OPENING) * (ABOUT if words and words[0] in wanted else 1.0)
            found.append(_Sentence(rank, position, text, said, heading - said, prior * bonus))
    return found


def _choose(asked: Sequence[Term], sentences: Sequence[_Sentence]) -> list[_Sentence]:
    """Greedily what adds most to what is already said."""
    weights = {term.stem: term.weight for term in asked}
    chosen: list[_Sentence] = []
    said: Counter[str] = Counter()
    headed: Counter[str] = Counter()
    floor = 0.0
    while len(chosen) < MOST_SENTENCES:
        texts = {one.text for one in chosen}
        left = [one for one in sentences if one.text not in texts and one.found]
        if not left:
            break
        # Of equals the earlier one: a fixed order keeps the answer the same on every run.
        best = max(left, key=lambda one: (_gain(one, weights, said, headed), -one.rank, -one.position))
        gain = _gain(best, weights, said, headed)
        if gain < floor:
            break
        floor = floor or gain * WORTH
        said.update(best.found)
        headed.update(best.in_heading)
        chosen.append(best)
    return chosen


def _gain(one: _Sentence, weights: Mapping[str, float], said: Mapping[str, int], headed: Mapping[str, int]) -> float:
    # Summed in one order, or equal gains would differ in their last digit.
    new = sum(weights[stem] * REPEATED ** said[stem] for stem in sorted(one.found))
    above = sum(weights[stem] * REPEATED ** (said[stem] + headed[stem]) for stem in sorted(one.in_heading))
    return one.prior * (new + IN_HEADING * above)


def _written(chosen: Sequence[_Sentence], passages: Sequence[Passage], missing: Sequence[str]) -> Answer:
    """In the order of the documents, best document first; the marks count up as they appear."""
    order: list[str] = []
    for passage in passages:
        if passage.document not in order:
            order.append(passage.document)

    def place(one: _Sentence) -> tuple[int, int, int]:
        passage = passages[one.rank]
        return (order.index(passage.document), passage.chunk, one.position)

    marks: dict[int, int] = {}
    parts: list[str] = []
    for one in sorted(chosen, key=place):
        mark = marks.setdefault(one.rank, len(marks) + 1)
        parts.append(f"{one.text} [{mark}]")
    return Answer(" ".join(parts), tuple(passages[rank] for rank in marks), tuple(missing))

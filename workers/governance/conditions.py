"""The conditions of a rule, compiled: each says of a question that it holds, that it does not, or that nobody knows."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, time
from functools import cached_property
from operator import attrgetter
from zoneinfo import ZoneInfo

from schemas.payloads import EffectPreview
from schemas.policy import WEEKDAYS, When

#: True: it holds. False: it does not. None: it depends on what is not known.
Truth = bool | None

#: Of a table of which it is not known which columns are read: all of them.
ALL_COLUMNS = "*"


@dataclass(frozen=True)
class Facts:
    """A question, prepared once for all rules: names in small letters, the time where the policy is at home.

    `writes` is None when it is not known, and empty when nothing is written. So is `reads`.
    """

    subject: str
    principal: str
    role: str
    environment: str
    local: datetime
    language: str | None
    statement_class: str | None
    reads: Mapping[str, frozenset[str]] | None
    writes: tuple[str, ...] | None
    rows: int | None
    bytes: int | None
    removed: int | None
    replaced: int | None
    confidence: float | None

    @property
    def is_code(self) -> bool:
        return self.subject == "execution"

    @cached_property
    def columns(self) -> list[str] | None:
        """Every column that is read, by its full name."""
        if self.reads is None:
            return None
        return [f"{table}.{column}" for table, columns in self.reads.items() for column in columns]


def written(statement_class: str | None, writes: str | None) -> tuple[str, ...] | None:
    """What is written, from what a dry run says: it names no table for what only reads."""
    if writes is not None:
        return (writes.lower(),)
    return () if statement_class == "read" else None


def lost(statement_class: str | None, changes: EffectPreview | None) -> tuple[int | None, int | None]:
    """How many rows are removed, and how many are removed or changed."""
    if statement_class == "read":
        return 0, 0
    if changes is None:
        return None, None
    if changes.version is None:
        return 0, 0  # there is no such table yet
    if changes.removed is None:
        return None, None
    return changes.removed, None if changes.changed is None else changes.removed + changes.changed


@dataclass(frozen=True)
class Condition:
    """`name` and `wanted` as the policy has them; `fact` names what the question has to tell for it.

    `of_code`: what is said of statements says nothing of a document or a retraining; there it does not hold.
    """

    name: str
    wanted: object
    fact: str
    check: Callable[[Facts], Truth]
    of_code: bool = False

    def truth(self, facts: Facts) -> Truth:
        return False if self.of_code and not facts.is_code else self.check(facts)


class Conditions:
    """All conditions of a rule, of which each must hold: Kleene's logic."""

    def __init__(self, when: When, zone: ZoneInfo) -> None:
        # The cheap ones first: most rules fail on one of them.
        self._all = tuple(_conditions(when, zone))
        self._checks = tuple(condition.check for condition in self._all)
        self._of_code = any(condition.of_code for condition in self._all)

    def truth(self, facts: Facts) -> Truth:
        if self._of_code and not facts.is_code:
            return False
        truth: Truth = True
        for check in self._checks:
            found = check(facts)
            if found is False:
                return False
            if found is None:
                truth = None
        return truth

    def because(self, facts: Facts) -> tuple[Condition, ...]:
        """The conditions that do not hold, or else those that nobody knows of."""
        truths = [(condition, condition.truth(facts)) for condition in self._all]
        wrong = tuple(condition for condition, truth in truths if truth is False)
        return wrong or tuple(condition for condition, truth in truths if truth is None)


def _conditions(when: When, zone: ZoneInfo) -> Iterator[Condition]:
    if when.subject is not None:
        yield Condition("subject", when.subject, "subject", _one_of(when.subject, attrgetter("subject")))
    if when.roles is not None:
        yield Condition("roles", when.roles, "role", _one_of(when.roles, attrgetter("role")))
    if when.principals is not None:
        yield Condition("principals", when.principals, "principal", _one_of(when.principals, attrgetter("principal")))
    if when.environments is not None:
        wanted = _one_of(when.environments, attrgetter("environment"))
        yield Condition("environments", when.environments, "environment", wanted)
    if when.languages is not None:
        wanted = _one_of(when.languages, attrgetter("language"))
        yield Condition("languages", when.languages, "language", wanted, of_code=True)
    if when.classes is not None:
        wanted = _one_of(when.classes, attrgetter("statement_class"))
        yield Condition("classes", when.classes, "class", wanted, of_code=True)
    if when.not_before is not None or when.not_after is not None:
        window = (when.not_before or time.min, when.not_after or time.max)
        said = f"{_hour(when.not_before)} to {_hour(when.not_after)} {zone.key}"
        yield Condition("not_before, not_after", said, "time", _within(*window))
    if when.weekdays is not None:
        days = frozenset(WEEKDAYS.index(day) for day in when.weekdays)
        yield Condition("weekdays", when.weekdays, "time", lambda facts: facts.local.weekday() in days)
    if when.confidence_below is not None:
        yield Condition("confidence_below", when.confidence_below, "confidence", _below(when.confidence_below))
    if when.confidence_at_least is not None:
        below = _below(when.confidence_at_least)
        yield Condition("confidence_at_least", when.confidence_at_least, "confidence", _not(below))
    yield from _sizes(when)
    yield from _lineage(when)


def _hour(value: time | None) -> str:
    return "midnight" if value is None else f"{value:%H:%M}"


def _sizes(when: When) -> Iterator[Condition]:
    numbers: list[tuple[str, int | None, str, Callable[[Facts], int | None], bool]] = [
        ("rows_over", when.rows_over, "rows", attrgetter("rows"), True),
        ("rows_at_most", when.rows_at_most, "rows", attrgetter("rows"), False),
        ("bytes_over", when.bytes_over, "bytes", attrgetter("bytes"), True),
        ("bytes_at_most", when.bytes_at_most, "bytes", attrgetter("bytes"), False),
        ("removes_rows_over", when.removes_rows_over, "rows removed", attrgetter("removed"), True),
        ("replaces_rows_over", when.replaces_rows_over, "rows replaced", attrgetter("replaced"), True),
    ]
    for name, limit, fact, number, over in numbers:
        if limit is not None:
            exceeds = _over(number, limit)
            yield Condition(name, limit, fact, exceeds if over else _not(exceeds), of_code=True)


def _lineage(when: When) -> Iterator[Condition]:
    if when.reads is not None:
        some = _some(when.reads, attrgetter("reads"))
        yield Condition("reads", when.reads, "tables read", some, of_code=True)
    if when.writes is not None:
        some = _some(when.writes, attrgetter("writes"))
        yield Condition("writes", when.writes, "table written", some, of_code=True)
    if when.columns is not None:
        yield Condition(
            "columns", when.columns, "columns read", _some(when.columns, attrgetter("columns")), of_code=True
        )
    if when.reads_only is not None:
        every = _every(when.reads_only, attrgetter("reads"))
        yield Condition("reads_only", when.reads_only, "tables read", every, of_code=True)
    if when.writes_only is not None:
        every = _every(when.writes_only, attrgetter("writes"))
        yield Condition("writes_only", when.writes_only, "table written", every, of_code=True)


# --- how one condition is looked at ----------------------------------------------------------------------------------


def _one_of(wanted: Iterable[str], value: Callable[[Facts], str | None]) -> Callable[[Facts], Truth]:
    names = frozenset(wanted)

    def check(facts: Facts) -> Truth:
        found = value(facts)
        return None if found is None else found in names

    return check


def _within(first: time, last: time) -> Callable[[Facts], Truth]:
    """A window that ends before it begins goes over midnight."""
    if first <= last:
        return lambda facts: first <= facts.local.time() <= last
    return lambda facts: facts.local.time() >= first or facts.local.time() <= last


def _below(limit: float) -> Callable[[Facts], Truth]:
    return lambda facts: None if facts.confidence is None else facts.confidence < limit


def _over(number: Callable[[Facts], int | None], limit: int) -> Callable[[Facts], Truth]:
    def check(facts: Facts) -> Truth:
        found = number(facts)
        return None if found is None else found > limit

    return check


def _not(check: Callable[[Facts], Truth]) -> Callable[[Facts], Truth]:
    def negated(facts: Facts) -> Truth:
        found = check(facts)
        return None if found is None else not found

    return negated


def _some(patterns: Iterable[str], names: Callable[[Facts], Iterable[str] | None]) -> Callable[[Facts], Truth]:
    matches = _matcher(patterns)

    def check(facts: Facts) -> Truth:
        found = names(facts)
        if found is None:
            return None
        truth: Truth = False
        for name in found:
            one = matches(name)
            if one is True:
                return True
            if one is None:
                truth = None
        return truth

    return check


def _every(patterns: Iterable[str], names: Callable[[Facts], Iterable[str] | None]) -> Callable[[Facts], Truth]:
    matches = _matcher(patterns)

    def check(facts: Facts) -> Truth:
        found = names(facts)
        if found is None:
            return None
        truth: Truth = True
        for name in found:
            one = matches(name)
            if one is False:
                return False
            if one is None:
                truth = None
        return truth

    return check


# --- patterns --------------------------------------------------------------------------------------------------------


def _matcher(patterns: Iterable[str]) -> Callable[[str], Truth]:
    """Whether some pattern matches a name; None when that depends on what the name leaves open."""
    texts = [pattern.lower() for pattern in patterns]
    if "*" in texts:
        return lambda name: True
    sure = re.compile("|".join(_expression(text) for text in texts))
    lengths = {text.count(".") for text in texts}
    several = [_Pattern(text) for text in texts]

    def matches(name: str) -> Truth:
        if sure.fullmatch(name):
            return True
        if name.endswith(_ALL_OF_IT) or lengths != {name.count(".")}:
            return None if any(pattern.may_match(name) for pattern in several) else False
        return False

    return matches


#: How the full name of all columns of a table ends.
_ALL_OF_IT = f".{ALL_COLUMNS}"


class _Pattern:
    """A dotted name with `*` in it, which stands for anything within its part."""

    def __init__(self, text: str) -> None:
        self._parts = [re.compile(_expression(part)) for part in text.split(".")]

    def may_match(self, name: str) -> bool:
        """From the right: schema.table may be meant by catalog.schema.table, and all columns of a table are any of them."""
        parts = zip(reversed(self._parts), reversed(name.split(".")), strict=False)
        return all(part == ALL_COLUMNS or pattern.fullmatch(part) for pattern, part in parts)


def _expression(text: str) -> str:
    # `[^.]*` twice in a row would take quadratic time on hostile names.
    return "[^.]*".join(re.escape(piece) for piece in re.split(r"\*+", text))

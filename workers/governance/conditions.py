"""The conditions of a rule, compiled: each says of a question that it holds, that it does not, or that nobody knows."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, time
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
    """`name` and `wanted` as the policy has them; `fact` names what the question has to tell for it."""

    name: str
    wanted: object
    fact: str
    check: Callable[[Facts], Truth]


def compiled(when: When, zone: ZoneInfo) -> tuple[Condition, ...]:
    """The cheap ones first: most rules fail on one of them."""
    return tuple(_conditions(when, zone))


def _conditions(when: When, zone: ZoneInfo) -> Iterator[Condition]:
    if when.subject is not None:
        yield Condition("subject", when.subject, "subject", _one_of(when.subject, lambda facts: facts.subject))
    if when.roles is not None:
        yield Condition("roles", when.roles, "role", _one_of(when.roles, lambda facts: facts.role))
    if when.principals is not None:
        yield Condition("principals", when.principals, "principal", _one_of(when.principals, lambda f: f.principal))
    if when.environments is not None:
        wanted = _one_of(when.environments, lambda facts: facts.environment)
        yield Condition("environments", when.environments, "environment", wanted)
    if when.languages is not None:
        wanted = _of_code(_one_of(when.languages, lambda facts: facts.language))
        yield Condition("languages", when.languages, "language", wanted)
    if when.classes is not None:
        wanted = _of_code(_one_of(when.classes, lambda facts: facts.statement_class))
        yield Condition("classes", when.classes, "class", wanted)
    if when.not_before is not None or when.not_after is not None:
        window = (when.not_before or time.min, when.not_after or time.max)
        said = f"{when.not_before or 'midnight'} to {when.not_after or 'midnight'} {zone.key}"
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


def _sizes(when: When) -> Iterator[Condition]:
    numbers: list[tuple[str, int | None, str, Callable[[Facts], int | None], bool]] = [
        ("rows_over", when.rows_over, "rows", lambda facts: facts.rows, True),
        ("rows_at_most", when.rows_at_most, "rows", lambda facts: facts.rows, False),
        ("bytes_over", when.bytes_over, "bytes", lambda facts: facts.bytes, True),
        ("bytes_at_most", when.bytes_at_most, "bytes", lambda facts: facts.bytes, False),
        ("removes_rows_over", when.removes_rows_over, "rows removed", lambda facts: facts.removed, True),
        ("replaces_rows_over", when.replaces_rows_over, "rows replaced", lambda facts: facts.replaced, True),
    ]
    for name, limit, fact, number, over in numbers:
        if limit is not None:
            exceeds = _over(number, limit)
            yield Condition(name, limit, fact, _of_code(exceeds if over else _not(exceeds)))


def _lineage(when: When) -> Iterator[Condition]:
    if when.reads is not None:
        some = _some(when.reads, lambda facts: facts.reads)
        yield Condition("reads", when.reads, "tables read", _of_code(some))
    if when.writes is not None:
        some = _some(when.writes, lambda facts: facts.writes)
        yield Condition("writes", when.writes, "table written", _of_code(some))
    if when.columns is not None:
        yield Condition("columns", when.columns, "columns read", _of_code(_some(when.columns, _columns)))
    if when.reads_only is not None:
        every = _every(when.reads_only, lambda facts: facts.reads)
        yield Condition("reads_only", when.reads_only, "tables read", _of_code(every))
    if when.writes_only is not None:
        every = _every(when.writes_only, lambda facts: facts.writes)
        yield Condition("writes_only", when.writes_only, "table written", _of_code(every))


def _columns(facts: Facts) -> Iterable[str] | None:
    if facts.reads is None:
        return None
    return [f"{table}.{column}" for table, columns in facts.reads.items() for column in columns]


# --- how one condition is looked at ----------------------------------------------------------------------------------


def _of_code(check: Callable[[Facts], Truth]) -> Callable[[Facts], Truth]:
    """What is said of statements says nothing of a document or a retraining: there it does not hold."""
    return lambda facts: facts.is_code and check(facts)


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
        truths = {matches(name) for name in found}
        return True if True in truths else None if None in truths else False

    return check


def _every(patterns: Iterable[str], names: Callable[[Facts], Iterable[str] | None]) -> Callable[[Facts], Truth]:
    matches = _matcher(patterns)

    def check(facts: Facts) -> Truth:
        found = names(facts)
        if found is None:
            return None
        truths = {matches(name) for name in found}
        return False if False in truths else None if None in truths else True

    return check


# --- patterns --------------------------------------------------------------------------------------------------------


def _matcher(patterns: Iterable[str]) -> Callable[[str], Truth]:
    """Whether some pattern matches a name; None when that depends on what the name leaves open."""
    several = [_Pattern(pattern) for pattern in patterns]

    def matches(name: str) -> Truth:
        truths = [pattern.matches(name) for pattern in several]
        return True if True in truths else None if None in truths else False

    return matches


class _Pattern:
    """A dotted name with `*` in it, which stands for anything within its part; alone, for every name."""

    def __init__(self, pattern: str) -> None:
        self._all = pattern == "*"
        self._texts = pattern.lower().split(".")
        self._parts = [_part(text) for text in self._texts]

    def matches(self, name: str) -> Truth:
        if self._all:
            return True
        parts = name.split(".")
        # From the right: schema.table may be meant by catalog.schema.table, and it may not.
        sure = len(parts) == len(self._parts)
        for text, pattern, part in zip(reversed(self._texts), reversed(self._parts), reversed(parts), strict=False):
            if part == ALL_COLUMNS:
                sure = sure and text == "*"
            elif not pattern.fullmatch(part):
                return False
        return True if sure else None


def _part(text: str) -> re.Pattern[str]:
    # `[^.]*` twice in a row would take quadratic time on hostile names.
    return re.compile("[^.]*".join(re.escape(piece) for piece in re.split(r"\*+", text)))

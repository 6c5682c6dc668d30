"""Questions and rules for tests of policies, by hand and by hypothesis."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, time
from typing import Any

from hypothesis import strategies as st

from schemas.payloads import EffectPreview, Need
from schemas.policy import Approval, Policy, Rule, When
from workers.governance.policy import Question

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)  # a Wednesday

ASKED = Question(
    "execution",
    "eli",
    "data_engineer",
    "test",
    NOON,
    language="sql",
    statement_class="write",
    reads={"tpch.customer": frozenset({"c_name", "c_phone"})},
    writes="results.x",
    rows=100,
    bytes=1000,
    changes=EffectPreview(table="results.x", version=1, rows_before=50, rows_after=45, added=0, changed=3, removed=5),
    confidence=0.5,
)


def question(**changed: Any) -> Question:
    return replace(ASKED, **changed)


def asks(count: int = 1, group: str = "admin", **more: Any) -> Approval:
    return Approval(needs=(Need(group=group, count=count),), **more)


def rule(effect: str, id: str | None = None, approval: Approval | None = None, **when: Any) -> Rule:
    if effect == "approve":
        approval = approval or asks()
    document = {"id": id or f"{effect}.it", "effect": effect, "reason": f"{effect} it", "when": When(**when)}
    return Rule.model_validate({**document, "approval": approval})


def policy(*rules: Rule, **more: Any) -> Policy:
    return Policy(version=1, rules=rules, **more)


def at(hour: int, minute: int = 0, day: int = 4) -> datetime:
    return datetime.combine(NOON.date().replace(day=day), time(hour, minute), UTC)


# --- by hypothesis -----------------------------------------------------------------------------------------------------

_TABLES = st.sampled_from(["tpch.customer", "tpch.orders", "results.x", "other.results.x"])
_MAYBE_A_TABLE = st.none() | _TABLES
_TABLE_PATTERNS = st.sampled_from(["*", "tpch.*", "results.*", "*.x", "tpch.cust*", "a.b.*"])
_COLUMN_PATTERNS = st.sampled_from(["*", "tpch.customer.c_phone", "tpch.*.c_*", "results.x.*", "*.*.*"])
_COLUMNS = st.frozensets(st.sampled_from(["c_name", "c_phone", "a", "*"]), max_size=2)
_CLASSES = st.sampled_from(["read", "create", "write", "delete", "drop"])
_NUMBERS = st.integers(0, 4)


def _some(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(values, min_size=1, max_size=2).map(tuple)


_TIMES = st.sampled_from([time(0, 0), time(6, 0), time(12, 0), time(20, 0)])
_CONDITIONS: dict[str, st.SearchStrategy[Any]] = {
    "subject": _some(st.sampled_from(["execution", "document"])),
    "roles": _some(st.sampled_from(["admin", "data_engineer"])),
    "languages": _some(st.sampled_from(["sql", "python"])),
    "classes": _some(_CLASSES),
    "reads": _some(_TABLE_PATTERNS),
    "writes": _some(_TABLE_PATTERNS),
    "columns": _some(_COLUMN_PATTERNS),
    "reads_only": _some(_TABLE_PATTERNS),
    "writes_only": _some(_TABLE_PATTERNS),
    "rows_over": _NUMBERS,
    "bytes_at_most": _NUMBERS,
    "removes_rows_over": _NUMBERS,
    "replaces_rows_over": _NUMBERS,
    "confidence_below": st.just(0.5),
    "not_before": _TIMES,
    "not_after": _TIMES,
    "weekdays": _some(st.sampled_from(["wed", "thu"])),
}
_CONDITION = st.one_of([st.tuples(st.just(name), values) for name, values in _CONDITIONS.items()])
#: Few conditions: a rule with all of them never holds.
_WHENS = st.lists(_CONDITION, max_size=2).map(lambda conditions: When(**dict(conditions)))
_APPROVALS = st.builds(asks, st.integers(1, 3), st.sampled_from(["admin", "stewards"]))


def _rule_of(effect: str, when: When, approval: Approval) -> Rule:
    return Rule(id="it", effect=effect, reason="so", when=when, approval=approval if effect == "approve" else None)


def _numbered(found: list[Rule]) -> list[Rule]:
    return [one.model_copy(update={"id": f"rule.{number}"}) for number, one in enumerate(found)]


DENIES = st.lists(st.builds(_rule_of, st.just("deny"), _WHENS, _APPROVALS), max_size=3).map(_numbered)
RULES = st.lists(
    st.builds(_rule_of, st.sampled_from(["allow", "deny", "approve", "approve"]), _WHENS, _APPROVALS), max_size=5
).map(_numbered)


_EFFECTS = st.builds(
    EffectPreview,
    table=st.just("results.x"),
    version=st.none() | st.just(3),
    rows_before=st.none(),
    rows_after=st.none(),
    added=st.none(),
    changed=st.none() | _NUMBERS,
    removed=st.none() | _NUMBERS,
)
_READS = st.dictionaries(_TABLES, _COLUMNS, max_size=2)
#: `None` here and there: not known.
QUESTIONS = st.builds(
    Question,
    subject=st.sampled_from(["execution", "execution", "document"]),
    principal=st.just("eli"),
    role=st.sampled_from(["admin", "data_engineer"]),
    environment=st.just("test"),
    now=st.sampled_from([at(hour, day=day) for hour in (0, 5, 12, 21) for day in (4, 5)]),
    language=st.none() | st.sampled_from(["sql", "python"]),
    statement_class=st.none() | _CLASSES,
    reads=st.none() | _READS,
    writes=st.none() | _TABLES,
    rows=st.none() | _NUMBERS,
    bytes=st.none() | _NUMBERS,
    changes=st.none() | _EFFECTS,
    confidence=st.none() | st.sampled_from([0.2, 0.9]),
)


#: What a question may leave open, and what it may turn out to be.
_FOUND: dict[str, st.SearchStrategy[Any]] = {
    "language": st.sampled_from(["sql", "python"]),
    "statement_class": _CLASSES,
    "reads": _READS,
    "rows": _NUMBERS,
    "bytes": _NUMBERS,
    "changes": _EFFECTS,
    "confidence": st.sampled_from([0.2, 0.9]),
}


@st.composite
def questions_and_what_they_turn_out_to_be(draw: st.DrawFn) -> tuple[Question, Question]:
    asked = draw(QUESTIONS)
    found = {
        name: draw(values) for name, values in _FOUND.items() if getattr(asked, name) is None and draw(st.booleans())
    }
    if asked.writes is None and asked.statement_class != "read" and found.get("statement_class") != "read":
        found["writes"] = draw(_MAYBE_A_TABLE)
    return asked, replace(asked, **found)

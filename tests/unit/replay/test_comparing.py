"""What counts as a difference, and what cannot be the same twice."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.envelope import Message
from schemas.payloads import Receipt
from workers.runtime.comparing import ABSENT, Comparison, compare
from workers.runtime.replaying import Recording, Replayed

NOW = 1_767_225_600_000_000
TEXT = st.text("aé .[0-", max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-1000, 1000) | TEXT,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(TEXT, below, max_size=3),
    max_leaves=8,
)


def row(content: Any, place: int = 1, **envelope: Any) -> Message:
    return Message(
        **{
            "message_id": f"m{place}",
            "correlation_id": "c",
            "causation_id": "asked",
            "from_agent": "Agent",
            "to_agent": "user:eli",
            "message_type": "response",
            "kind": "Said",
            "content": json.dumps(content),
            "timestamp": NOW,
            "log_version": 2,
            "seq": place,
            "handling_id": "receipt",
            **envelope,
        }
    )


def compared(
    then: list[Message],
    now: list[Message],
    ignore: tuple[str, ...] = (),
    outcomes: tuple[str, str] = ("handled", "handled"),
    **how: Any,
) -> Comparison:
    said = Receipt.model_validate({"outcome": outcomes[0], "reason": "of old"})
    receipt = row({}, 0, message_id="receipt", message_type="receipt", kind="Receipt", to_agent="")
    receipt = receipt.model_copy(update={"content": said.model_dump_json()})
    asked = row({}, 0, message_id="asked", causation_id=None, handling_id=None, log_version=1)
    replayed = Replayed(Receipt(outcome=outcomes[1], reason="of late"), tuple(now), "Agent-replaying", **how)
    return compare(Recording(asked, receipt, [asked, receipt, *then]), replayed, ignore)


def paths(then: Any, now: Any, ignore: tuple[str, ...] = ()) -> list[str]:
    return [one.path for one in compared([row(then)], [row(now)], ignore).differences]


@given(JSON)
@settings(max_examples=30)
def test_what_is_the_same_is_the_same(content: Any) -> None:
    assert compared([row(content)], [row(content)]) == Comparison("same", "", ())


@given(JSON, JSON)
@settings(max_examples=60)
def test_what_is_not_the_same_is_found(then: Any, now: Any) -> None:
    same = json.dumps(then, sort_keys=True) == json.dumps(now, sort_keys=True)
    assert compared([row(then)], [row(now)]).verdict == ("same" if same else "different")


def test_a_field_is_named_by_its_path() -> None:
    then = {"code": {"text": "SELECT 1", "language": "sql"}, "columns": ["a", "b"], "gone": 1}
    now = {"code": {"text": "SELECT 2", "language": "sql"}, "columns": ["a", "c", "d"], "new": 2}
    assert paths(then, now) == ["code.text", "columns[1]", "columns[2]", "gone", "new"]


@pytest.mark.parametrize(
    ("then", "now", "same"),
    [
        ({"expires_at": NOW}, {"expires_at": NOW + 900_000}, True),
        ({"expires_at": NOW}, {"expires_at": NOW + 60_000_000}, False),
        ({"at": "2026-01-01T10:00:00+00:00"}, {"at": "2026-01-01T10:00:00.400+00:00"}, True),
        ({"at": "2026-01-01T10:00:00+00:00"}, {"at": "2026-01-01T11:00:00+01:00"}, True),
        ({"at": "2026-01-01T10:00:00+00:00"}, {"at": "2026-01-01T10:05:00+00:00"}, False),
        ({"day": "2026-01-01"}, {"day": "2026-01-02"}, False),
        ({"engine_ms": 12}, {"engine_ms": 40}, True),
        ({"rows": 12}, {"rows": 40}, False),
        ({"rows": 1}, {"rows": True}, False),
        ({"score": 0.1 + 0.2}, {"score": 0.3}, True),
        ({"instance": "Agent-0a1b2c3d"}, {"instance": "Agent-replaying"}, True),
        ({"instance": "Other-0a1b2c3d"}, {"instance": "Agent-replaying"}, False),
        ({"writer": "x"}, {"writer": "y"}, False),
    ],
)
def test_times_and_measures_and_names_of_instances(then: Any, now: Any, same: bool) -> None:
    assert (paths(then, now) == []) is same


def test_random_ids_differ_but_always_in_the_same_way() -> None:
    a, b, c, d = (str(uuid.uuid4()) for _ in range(4))
    assert paths({"id": a, "again": a}, {"id": b, "again": b}) == []
    assert paths({"id": a, "again": a}, {"id": b, "again": c}) == ["again"]
    assert paths({"one": a, "other": b}, {"one": c, "other": c}) == ["other"]
    assert paths({"one": a, "other": b}, {"one": c, "other": d}) == []


def test_an_id_that_the_conversation_knows_is_no_random_one() -> None:
    known = uuid.uuid4().hex
    then = row({"about": known})
    asked = row({}, 0, message_id=known, handling_id=None, log_version=1)
    receipt = row({"outcome": "handled"}, 0, message_id="receipt", message_type="receipt", kind="Receipt")
    recording = Recording(asked, receipt, [asked, receipt, then])
    now = Replayed(Receipt(outcome="handled"), (row({"about": uuid.uuid4().hex}),), "Agent-replaying")
    assert [one.path for one in compare(recording, now).differences] == ["about"]


def test_where_a_fact_stands_in_its_chain_is_no_difference() -> None:
    fact = {"kind": "AuditRecorded", "message_type": "event", "to_agent": "*"}
    then = {"action": "x", "reason": "r", "writer": "main-1", "sequence": 7, "previous": "ab"}
    now = {"action": "x", "reason": "r", "writer": "", "sequence": 0, "previous": ""}
    assert compared([row(then, **fact)], [row(now, **fact)]).verdict == "same"
    (found,) = compared([row(then, **fact)], [row(now | {"reason": "s"}, **fact)]).differences
    assert (found.output, found.path) == ("AuditRecorded x", "reason")


def test_an_output_more_or_less_is_one_difference_and_shifts_no_other() -> None:
    three = [row({"n": n}, n, kind=kind) for n, kind in enumerate(("One", "Two", "Three"), 1)]
    (less,) = compared(three, [three[0], three[2]]).differences
    assert (less.output, less.now) == ("Two to user:eli", ABSENT)
    (more,) = compared([three[0], three[2]], three).differences
    assert (more.output, more.then) == ("Two to user:eli", ABSENT)


def test_an_answer_of_another_kind_is_that() -> None:
    found = compared([row({"a": 1}, kind="Done")], [row({"b": 2}, kind="Failed", to_agent="user:ana")]).differences
    assert [(one.path, one.then, one.now) for one in found] == [
        ("kind", "Done", "Failed"),
        ("to_agent", "user:eli", "user:ana"),
        ("content", {"a": 1}, {"b": 2}),
    ]


def test_the_envelope_counts() -> None:
    (found,) = compared([row({}, priority=5)], [row({}, priority=8)]).differences
    assert (found.path, found.then, found.now) == ("envelope.priority", 5, 8)


@pytest.mark.parametrize("pattern", ["digest", "*.digest", "Said.details.digest", "Said.*", "details.*"])
def test_a_field_may_be_ignored(pattern: str) -> None:
    then, now = {"details": {"digest": "a"}}, {"details": {"digest": "b"}}
    assert paths(then, now) == ["details.digest"]
    assert paths(then, now, (pattern,)) == []


@pytest.mark.parametrize("pattern", ["dig", "Other.*", "details"])
def test_a_pattern_that_does_not_fit_ignores_nothing(pattern: str) -> None:
    assert paths({"details": {"digest": "a"}}, {"details": {"digest": "b"}}, (pattern,)) == ["details.digest"]


@pytest.mark.parametrize(
    ("outcomes", "verdict", "reason"),
    [
        (("handled", "dead"), "failed", "of late"),
        (("handled", "rejected"), "failed", "of late"),
        (("dead", "handled"), "repaired", "it was dead: of old"),
        (("dead", "dead"), "still_failing", "of late"),
        (("rejected", "dead"), "still_failing", "of late"),
    ],
)
def test_outcomes(outcomes: tuple[str, str], verdict: str, reason: str) -> None:
    found = compared([], [], outcomes=outcomes)
    assert (found.verdict, found.reason) == (verdict, reason)
    assert bool(found.differences) == (verdict != "repaired" and outcomes[0] != outcomes[1])


def test_what_was_skipped_is_neither_the_same_nor_different() -> None:
    assert compared([row(1)], [row(2)], skipped="effect: no") == Comparison("skipped", "effect: no", ())

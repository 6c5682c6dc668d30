"""The fold: whatever way the rows come in, the state is the same, and it is the state that the rules describe."""

from __future__ import annotations

import dataclasses
from collections import Counter
from itertools import groupby
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bus.fold import State, decision_key, receipt_key, valid_rows
from schemas.envelope import EVERYONE, Message
from schemas.payloads import ExecutionClaimed, GrantRevoked

AGENTS = ("A", "B")
SUBSCRIPTIONS = {"B": frozenset({"Rang"})}


def row(message_id: str, **envelope: Any) -> Message:
    return Message(
        **{
            "message_id": message_id,
            "correlation_id": "c",
            "from_agent": "user:eli",
            "to_agent": "A",
            "message_type": "request",
            "kind": "Ping",
            "content": "{}",
            "timestamp": 1,
            **envelope,
        }
    )


def receipt(message_id: str, agent: str = "A", handling: str = "h", **envelope: Any) -> Message:
    return row(
        handling,
        causation_id=message_id,
        from_agent=agent,
        to_agent="",
        message_type="receipt",
        kind="Receipt",
        handling_id=handling,
        **envelope,
    )


def placed(*commits: list[Message]) -> list[list[Message]]:
    return [
        [m.model_copy(update={"log_version": version, "seq": seq}) for seq, m in enumerate(commit)]
        for version, commit in enumerate(commits, 1)
    ]


def folded(commits: list[list[Message]], state: State | None = None) -> State:
    state = state or State()
    for commit in commits:
        state.absorb(commit)
    return state


def snapshot(state: State) -> dict[str, Any]:
    return {
        "open": {key: m.position for key, m in state.open.items()},
        "claims": {grant: m.position for grant, m in state.claims.items()},
        "conversations": {c: [m.position for m in state.conversation(c) or []] for c in ("c0", "c1", "c")},
        "version": state.version,
    }


def ids(rows: list[Message]) -> list[str]:
    return [m.message_id for m in rows]


# --- any history ------------------------------------------------------------------------------------------------------


@st.composite
def histories(draw: st.DrawFn) -> list[list[Message]]:
    """Commits as honest, faulty and hostile writers might leave them."""
    names = [f"m{n}" for n in range(6)]
    commits: list[list[Message]] = []
    handlings = 0
    for _ in range(draw(st.integers(1, 12))):
        commit: list[Message] = []
        for _ in range(draw(st.integers(1, 3))):
            message_id, conversation = draw(st.sampled_from(names)), draw(st.sampled_from(["c0", "c1"]))
            match draw(st.sampled_from(["request", "event", "receipt", "handling", "claim", "orphan"])):
                case "request":
                    commit.append(row(message_id, correlation_id=conversation, to_agent=draw(st.sampled_from(AGENTS))))
                case "event":
                    kind = draw(st.sampled_from(["Rang", "Unheard"]))
                    commit.append(
                        row(message_id, correlation_id=conversation, to_agent=EVERYONE, message_type="event", kind=kind)
                    )
                case "claim":
                    grant = draw(st.sampled_from(["g1", "g2"]))
                    commit.append(claim(grant, f"claim{draw(st.integers(0, 9))}"))
                case "orphan":
                    commit.append(row(f"o{draw(st.integers(0, 9))}", handling_id=f"h{draw(st.integers(0, 9))}"))
                case what:
                    handlings += 1
                    handling = f"h{handlings}"
                    commit.append(
                        receipt(message_id, draw(st.sampled_from(AGENTS)), handling, correlation_id=conversation)
                    )
                    if what == "handling":
                        commit.append(row(f"out{handlings}", to_agent="user:eli", handling_id=handling, from_agent="A"))
        commits.append(commit)
    return placed(*commits)


def claim(grant: str, message_id: str) -> Message:
    payload = ExecutionClaimed(
        grant_id=grant, requester="eli", question="q", code="c", target=None, approved_by="ada", instance="i"
    )
    return row(
        message_id,
        to_agent=EVERYONE,
        message_type="event",
        kind="ExecutionClaimed",
        content=payload.model_dump_json(),
        from_agent="ExecutionAgent",
    )


@given(histories(), st.data())
@settings(max_examples=40, deadline=None)
def test_loading_a_prefix_and_following_the_rest_gives_the_same_state(
    history: list[list[Message]], data: st.DataObject
) -> None:
    cut = data.draw(st.integers(0, len(history)))
    shuffled = data.draw(st.permutations([m for commit in history[:cut] for m in commit]))
    loaded = State(SUBSCRIPTIONS)
    loaded.load(shuffled)
    assert snapshot(folded(history[cut:], loaded)) == snapshot(folded(history, State(SUBSCRIPTIONS)))


@given(histories())
@settings(max_examples=40, deadline=None)
def test_states_with_and_without_subscriptions_call_the_same_rows_valid(history: list[list[Message]]) -> None:
    everything = [m for commit in history for m in commit]
    judged = valid_rows(reversed(everything))
    for state in (State(), State(SUBSCRIPTIONS), State({"A": frozenset({"Rang", "Unheard"})})):
        assert [m.position for commit in history for m in state.absorb(commit)] == [m.position for m in judged]


@given(histories())
@settings(max_examples=40, deadline=None)
def test_what_is_valid_obeys_the_rules(history: list[list[Message]]) -> None:
    valid = valid_rows(m for commit in history for m in commit)
    assert [m.position for m in valid] == sorted(m.position for m in valid)
    assert max(Counter(ids(valid)).values(), default=1) == 1
    decisions = Counter(key for m in valid if (key := decision_key(m)))
    assert max(decisions.values(), default=1) == 1
    places = {m.message_id: m.position for m in valid}
    counting = {(m.log_version, m.handling_id) for m in valid if m.message_type == "receipt"}
    for m in valid:
        if m.message_type == "receipt":
            assert places[m.causation_id or ""] < m.position
        elif m.handling_id is not None:
            assert (m.log_version, m.handling_id) in counting


@given(histories())
@settings(max_examples=40, deadline=None)
def test_open_is_what_is_addressed_and_has_no_counting_receipt(history: list[list[Message]]) -> None:
    state = folded(history, State(SUBSCRIPTIONS))
    valid = valid_rows(m for commit in history for m in commit)
    settled = {(m.causation_id, m.from_agent) for m in valid if m.message_type == "receipt"}
    owed = {(m.message_id, agent) for m in valid for agent in state.addressees(m)}
    assert set(state.open) == owed - settled
    for agent in AGENTS:
        waiting = state.open_for(agent)
        assert [m.position for m in waiting] == sorted(m.position for m in waiting)
        assert {m.message_id for m in waiting} == {message_id for message_id, name in state.open if name == agent}


# --- one rule each ----------------------------------------------------------------------------------------------------


def test_the_first_receipt_counts_and_only_its_outputs_are_valid() -> None:
    first = [receipt("m", handling="h1"), row("out1", to_agent="user:eli", handling_id="h1")]
    second = [receipt("m", handling="h2"), row("out2", to_agent="user:eli", handling_id="h2")]
    history = placed([row("m")], first, second)
    assert ids(valid_rows(m for commit in history for m in commit)) == ["m", "h1", "out1"]


def test_an_output_outside_its_receipts_commit_is_not_valid() -> None:
    history = placed([row("m")], [receipt("m", handling="h1")], [row("late", to_agent="user:eli", handling_id="h1")])
    assert ids(valid_rows(m for commit in history for m in commit)) == ["m", "h1"]


def test_an_output_before_its_receipt_is_not_valid() -> None:
    history = placed([row("m")], [row("early", to_agent="user:eli", handling_id="h1"), receipt("m", handling="h1")])
    assert ids(valid_rows(m for commit in history for m in commit)) == ["m", "h1"]


def test_a_receipt_by_somebody_who_was_not_addressed_decides_nothing() -> None:
    state = folded(placed([row("m")], [receipt("m", agent="B")]))
    assert set(state.open) == {("m", "A")}


def test_a_receipt_for_what_nobody_sent_decides_nothing_unless_the_past_is_unknown() -> None:
    stranger = receipt("older")
    assert State().decided(stranger) == receipt_key("older", "A")
    partial = State(partial=True)
    assert partial.decided(stranger) is None
    folded(placed([stranger]), partial)
    assert partial.decided(receipt("older", handling="h2")) == receipt_key("older", "A")


def test_two_subscribers_owe_a_receipt_each() -> None:
    state = State({"A": frozenset({"Rang"}), "B": frozenset({"Rang"})})
    rang = row("e", to_agent=EVERYONE, message_type="event", kind="Rang")
    folded(placed([rang], [receipt("e", agent="A")]), state)
    assert set(state.open) == {("e", "B")}


def test_a_state_from_the_middle_of_the_log_does_not_say_what_a_conversation_was() -> None:
    partial = folded(placed([row("m")]), State(partial=True))
    assert partial.conversation("c") is None
    assert partial.conversation("other") is None


def test_a_claim_with_a_content_that_is_none_takes_nobodys_grant() -> None:
    broken = claim("g", "x").model_copy(update={"content": "[]"})
    state = folded(placed([broken], [claim("g", "y")]))
    assert state.claims["ExecutionAgent/g"].message_id == "y"


def test_nobody_uses_up_the_grant_of_another_agent() -> None:
    theirs = claim("g", "x").model_copy(update={"from_agent": "RAGAgent"})
    state = folded(placed([theirs], [claim("g", "y")]))
    assert state.claims["ExecutionAgent/g"].message_id == "y"


@pytest.mark.parametrize(("by", "counts"), [("GovernanceAgent", "x"), ("RAGAgent", "y")])
def test_a_grant_is_revoked_by_its_issuer_alone_and_cannot_be_claimed_then(by: str, counts: str) -> None:
    payload = GrantRevoked(grant_id="g", executor="ExecutionAgent", actor="ada", reason="too late")
    revoked = claim("g", "x").model_copy(
        update={"kind": "GrantRevoked", "content": payload.model_dump_json(), "from_agent": by}
    )
    state = folded(placed([revoked], [claim("g", "y")]))
    assert state.claims["ExecutionAgent/g"].message_id == counts


def test_the_state_is_a_plain_dataclass_of_what_it_was_given() -> None:
    names = {field.name for field in dataclasses.fields(State)}
    assert {"subscriptions", "version", "open", "claims"} <= names


def test_commits_are_told_apart_by_their_version() -> None:
    history = placed([row("m")], [receipt("m", handling="h1")], [row("out", to_agent="user:eli", handling_id="h1")])
    state = State()
    state.load(m for commit in history for m in commit)
    assert [v for v, _ in groupby(state.conversation("c") or [], key=lambda m: m.log_version)] == [1]

"""Leases in the fold: which steps count, and whose."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from bus.fold import State
from schemas.envelope import EVERYONE, Message
from schemas.payloads import InstanceChanged

_places = itertools.count()


def step(what: str, number: int = 0, agent: str = "Pinger", instance: str = "i", **said: Any) -> Message:
    fact = InstanceChanged(
        agent=agent, instance=instance, host="h:1", engine="tail", step=what, kinds=[], number=number, **said
    )
    place = next(_places)
    return Message(
        message_id=f"lease-{place}",
        correlation_id=instance,
        from_agent=agent,
        to_agent=EVERYONE,
        message_type="event",
        kind=fact.kind(),
        content=fact.model_dump_json(),
        timestamp=0,
        log_version=place,
        seq=0,
    )


def after(*rows: Message) -> State:
    state = State()
    for row in rows:
        state.absorb([row])
    return state


@pytest.mark.parametrize(
    ("row", "counts"),
    [
        (step("renewed", 1), False),
        (step("renewed", 2), True),
        (step("ended", 0), False),
        (step("ended", 1), True),
        (step("ended", 2), False),
        (step("renewed", 2, instance="nobody"), False),
    ],
)
def test_a_step_counts_only_where_it_follows_the_newest(row: Message, counts: bool) -> None:
    state = after(step("started"), step("renewed", 1))
    assert (state.decided(row) is None) is counts
    assert bool(state.absorb([row.model_copy(update={"log_version": next(_places)})])) is counts


@pytest.mark.parametrize("what", ["started", "renewed", "stopped", "ended"])
def test_no_agent_has_a_say_in_the_leases_of_another(what: str) -> None:
    state = after(mine := step("started"), step(what, 1 if what == "renewed" else 0, agent="Mallory"))
    assert state.leases == {"i": mine}


def test_who_was_ended_does_not_come_back_by_renewing() -> None:
    state = after(step("started"), step("ended", 0), step("renewed", 1))
    assert state.leases == {}

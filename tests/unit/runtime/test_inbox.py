"""The inbox: one conversation in order, turns between all others, nobody waits for ever, however much comes."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.envelope import Message
from tests.contract.harness import Ping, message
from workers.runtime.inbox import Inbox


class Seconds:
    """Time that moves when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def placed(name: str, place: int, conversation: str, **envelope: Any) -> Message:
    return message(Ping(n=place), conversation=conversation, message_id=name, log_version=place, seq=0, **envelope)


async def drained(inbox: Inbox) -> list[str]:
    found = []
    while len(inbox):
        taken = await asyncio.wait_for(inbox.get(), 1)
        found.append(taken.message_id)
        inbox.done(taken)
    return found


# --- order -----------------------------------------------------------------------------------------------------------


async def test_the_inbox_gives_the_urgent_first_and_the_older_before_the_newer() -> None:
    inbox = Inbox(now=Seconds())
    for place, (name, priority) in enumerate([("low", 1), ("old", 5), ("new", 5), ("high", 10)]):
        assert inbox.put(placed(name, place, name, priority=priority))
    assert await drained(inbox) == ["high", "old", "new", "low"]


async def test_an_urgent_message_does_not_overtake_its_own_conversation() -> None:
    inbox = Inbox(now=Seconds())
    inbox.put(placed("first", 1, "c", priority=1))
    inbox.put(placed("urgent", 2, "c", priority=10))
    inbox.put(placed("other", 3, "d", priority=5))
    assert await drained(inbox) == ["other", "first", "urgent"]


async def test_the_inbox_knows_a_message_until_it_is_done() -> None:
    inbox = Inbox()
    one = placed("one", 1, "c")
    assert [inbox.put(one), inbox.put(one)] == [True, False]
    taken = await inbox.get()
    assert inbox.put(one) is False
    assert set(inbox.busy) == {"c"}
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(inbox.settled(), 0.01)
    inbox.done(taken)
    await asyncio.wait_for(inbox.settled(), 1)
    assert not inbox.busy
    assert inbox.put(one) is True


async def test_a_draining_inbox_gives_out_nothing() -> None:
    inbox = Inbox()
    inbox.put(placed("one", 1, "c"))
    inbox.drain()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(inbox.get(), 0.01)


# --- turns -----------------------------------------------------------------------------------------------------------


async def test_who_floods_delays_another_by_one_turn() -> None:
    inbox = Inbox(now=Seconds())
    for place in range(1000):
        inbox.put(placed(f"flood{place}", place, f"c{place}", principal="eli"))
    inbox.done(await inbox.get())
    inbox.put(placed("mine", 2000, "mine", principal="ana"))
    names = (await drained(inbox))[:2]
    assert "mine" in names


async def test_who_floods_one_conversation_delays_another_by_one_turn() -> None:
    inbox = Inbox(now=Seconds())
    for place in range(1000):
        inbox.put(placed(f"flood{place}", place, "same", principal="eli"))
    inbox.put(placed("mine", 2000, "mine", principal="ana"))
    assert "mine" in (await drained(inbox))[:2]


async def test_what_waits_grows_urgent() -> None:
    clock = Seconds()
    inbox = Inbox(now=clock, ageing_s=10)
    inbox.put(placed("low", 0, "low", priority=3))
    given_out = []
    for place in range(1, 20):
        clock.now += 9.0  # one step of priority takes a little longer
        inbox.put(placed(f"urgent{place}", place, f"u{place}", priority=10))
        taken = await inbox.get()
        given_out.append(taken.message_id)
        inbox.done(taken)
        if taken.message_id == "low":
            break
    assert given_out[-1] == "low"
    assert clock.now == 72.0  # the first look after seven steps of ten seconds


# --- room ------------------------------------------------------------------------------------------------------------


async def test_what_comes_beyond_the_capacity_comes_later_and_in_order() -> None:
    inbox = Inbox(capacity=2, now=Seconds())
    for place in range(20):
        assert inbox.put(placed(f"m{place}", place, f"c{place % 3}"))
        assert inbox.put(placed(f"m{place}", place, f"c{place % 3}")) is False
    assert len(inbox) == 20
    found = [int(name[1:]) for name in await drained(inbox)]
    for conversation in range(3):
        assert [n for n in found if n % 3 == conversation] == list(range(conversation, 20, 3))


async def test_who_fills_the_inbox_keeps_nobody_out() -> None:
    inbox = Inbox(capacity=10, now=Seconds())
    for place in range(1000):
        inbox.put(placed(f"flood{place}", place, f"c{place}", principal="eli"))
    inbox.put(placed("mine", 2000, "mine", principal="ana"))
    assert "mine" in (await drained(inbox))[:4]


async def test_what_is_dropped_can_come_again() -> None:
    inbox = Inbox(capacity=3, now=Seconds())
    rows = [placed(f"m{place}", place, f"c{place % 2}") for place in range(8)]
    for row in rows:
        inbox.put(row)
    under_way = await inbox.get()
    inbox.drop(under_way.correlation_id)
    inbox.drop("never heard of")
    assert len(inbox) == 5
    for row in rows:
        inbox.put(row)  # all but the one under way, and those of the other conversation, are new
    assert len(inbox) == 8
    inbox.done(under_way)
    inbox.drop("c1")
    assert await drained(inbox) == ["m2", "m4", "m6"]


async def test_one_who_gives_up_waiting_takes_nothing_away() -> None:
    inbox = Inbox()
    first, second = asyncio.create_task(inbox.get()), asyncio.create_task(inbox.get())
    await asyncio.sleep(0)
    inbox.put(placed("one", 1, "c"))
    first.cancel()  # woken already, and cancelled before it could look
    with contextlib.suppress(asyncio.CancelledError):
        await first
    assert (await asyncio.wait_for(second, 1)).message_id == "one"


# --- whatever happens ------------------------------------------------------------------------------------------------

CONVERSATIONS = st.sampled_from("abcdef")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), CONVERSATIONS, st.integers(1, 10), st.sampled_from(["eli", "ana", "kim"])),
        st.tuples(st.just("get")),
        st.tuples(st.just("done"), st.integers(0, 9)),
        st.tuples(st.just("drop"), CONVERSATIONS),
        st.tuples(st.just("pass"), st.floats(0, 30)),
    ),
    max_size=80,
)


@settings(deadline=None, max_examples=60)
@given(STEPS, st.integers(1, 6))
async def test_a_conversation_comes_whole_and_in_order_one_at_a_time(steps: list[Any], capacity: int) -> None:
    clock = Seconds()
    inbox = Inbox(capacity, clock)
    waiting: dict[str, list[str]] = {}
    under_way: list[Message] = []
    place = 0
    for step in steps:
        match step:
            case "put", conversation, priority, principal:
                place += 1
                row = placed(f"m{place}", place, conversation, priority=priority, principal=principal)
                assert inbox.put(row)
                waiting.setdefault(conversation, []).append(row.message_id)
            case ("get",):
                free = [c for c, names in waiting.items() if names and c not in {m.correlation_id for m in under_way}]
                if len(under_way) < capacity and any(free):
                    taken = await asyncio.wait_for(inbox.get(), 1)
                    assert taken.correlation_id not in {m.correlation_id for m in under_way}
                    assert taken.message_id == waiting[taken.correlation_id].pop(0)
                    under_way.append(taken)
            case "done", number if under_way:
                inbox.done(under_way.pop(number % len(under_way)))
            case "drop", conversation:
                inbox.drop(conversation)
                waiting.pop(conversation, None)
            case "pass", seconds:
                clock.now += seconds
        assert set(inbox.busy) == {m.correlation_id for m in under_way}
        assert len(inbox) == len(under_way) + sum(map(len, waiting.values()))
    for one in under_way:
        inbox.done(one)
    left = await drained(inbox)
    assert sorted(left) == sorted(name for names in waiting.values() for name in names)


@settings(deadline=None, max_examples=60)
@given(
    rivals=st.lists(st.tuples(st.integers(1, 10), st.sampled_from(["eli", "ana", "kim"])), min_size=1, max_size=10),
    priority=st.integers(1, 10),
    step=st.floats(0.1, 5.0),
)
async def test_nothing_waits_longer_than_its_bound(rivals: list[Any], priority: int, step: float) -> None:
    """However many more urgent ones keep coming: (10 - p) * ageing_s and one turn of each other line."""
    clock = Seconds()
    inbox = Inbox(now=clock, ageing_s=1.0)
    for place, (rival, principal) in enumerate(rivals):
        inbox.put(placed(f"early{place}", place, f"early{place}", priority=rival, principal=principal))
    mine = placed("mine", 1000, "mine", priority=priority, principal="ada")
    inbox.put(mine)
    turns, place = 0, 2000
    while (taken := await inbox.get()).message_id != "mine":
        inbox.done(taken)
        clock.now += step
        turns += clock.now > 10 - priority
        for rival, principal in rivals:  # the flood never ends
            place += 1
            inbox.put(placed(f"r{place}", place, f"r{place}", priority=rival, principal=principal))
    assert turns <= len(set(rivals)) + 1


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sampled_from(["eli", "ana", "kim"]), min_size=1, max_size=60))
async def test_of_equal_urgency_principals_take_turns(principals: list[str]) -> None:
    inbox = Inbox(now=Seconds())
    for place, principal in enumerate(principals):
        inbox.put(placed(f"m{place}", place, f"c{place}", principal=principal))
    left, seen = Counter(principals), Counter[str]()
    for name in await drained(inbox):
        principal = principals[int(name[1:])]
        seen[principal] += 1
        waiting = [one for one in left if seen[one] < left[one]]
        # Nobody who still waits is more than a turn behind.
        assert all(seen[principal] - seen[one] <= 1 for one in waiting)

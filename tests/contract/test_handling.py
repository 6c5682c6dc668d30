"""What a message can rely on, whatever the bus and whatever the feed: one response, one receipt, in order, or a reason."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any

import pytest

from bus.errors import ContentTooLarge, Superseded
from bus.fold import State
from schemas.envelope import EVERYONE, MAX_CONTENT, Message
from schemas.payloads import ExecutionClaimed
from tests.contract.harness import (
    HastyClock,
    Listener,
    Ping,
    Pinger,
    Pong,
    Rang,
    Unheard,
    error_of,
    eventually,
    message,
    result,
)
from tests.fakes import ManualClock


def said(row: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(row["content"])
    return found


def receipt_for(handled: Message, agent: str, handling: str, **envelope: Any) -> Message:
    return message(
        Ping(n=0),
        to="",
        conversation=handled.correlation_id,
        message_id=handling,
        handling_id=handling,
        causation_id=handled.message_id,
        from_agent=agent,
        message_type="receipt",
        kind="Receipt",
        content='{"outcome":"handled"}',
        **envelope,
    )


def output_of(handled: Message, agent: str, handling: str, n: int = 0) -> Message:
    return message(
        Pong(n=n),
        to="user:eli",
        conversation=handled.correlation_id,
        causation_id=handled.message_id,
        from_agent=agent,
        message_type="response",
        handling_id=handling,
    )


# --- a request and its response --------------------------------------------------------------------------------------


async def test_a_request_gets_its_response(world: Any) -> None:
    await world.host(Pinger())
    client = world.client()
    answer = await asyncio.to_thread(client.request, "Pinger", Ping(n=7), timeout=world.patience)
    assert (answer.kind, answer.content) == ("Pong", '{"n":7}')
    assert (answer.from_agent, answer.to_agent, answer.principal) == ("Pinger", "user:eli", "eli")


async def test_a_response_can_be_waited_for_by_somebody_who_came_later(world: Any) -> None:
    gate = asyncio.Event()
    worker = Pinger(gate)
    await world.host(worker)
    sent = await asyncio.to_thread(world.client().send, "Pinger", Ping(n=1))
    await eventually(lambda: worker.began, world.patience)
    late = world.client("ada")
    waiting = asyncio.create_task(asyncio.to_thread(late.wait, sent, world.patience))
    gate.set()
    assert (await waiting).kind == "Pong"
    assert (await asyncio.to_thread(world.client("kim").wait, sent, world.patience)).kind == "Pong"
    told = [m.kind for m in world.client().conversation(sent.correlation_id)]
    assert told == ["Ping", "Pong"]


async def test_receipt_and_outputs_are_rows_of_one_commit(world: Any) -> None:
    await world.host(Pinger(rings=True))
    sent = message(Ping(n=1))
    result(world.bus().submit([sent]))
    await eventually(lambda: world.receipts("Pinger"), world.patience)
    (receipt,) = world.receipts("Pinger")
    assert receipt["causation_id"] == sent.message_id
    outputs = [r for r in world.rows() if r["causation_id"] == sent.message_id and r["message_type"] != "receipt"]
    assert [row["kind"] for row in outputs] == ["Pong", "Rang"]
    assert {(r["log_version"], r["handling_id"]) for r in outputs} == {(receipt["log_version"], receipt["handling_id"])}


async def test_messages_of_a_conversation_are_handled_in_log_order(world: Any) -> None:
    worker = Pinger()
    await world.host(worker)
    outside = world.bus()
    for n in range(40):
        await asyncio.to_thread(lambda n=n: result(outside.submit([message(Ping(n=n), conversation=f"c{n % 2}")])))
    await eventually(lambda: len(worker.ended) == 40, world.patience)
    assert [n for n in worker.began if n % 2 == 0] == list(range(0, 40, 2))
    assert [n for n in worker.began if n % 2 == 1] == list(range(1, 40, 2))


async def test_one_conversation_is_handled_one_message_at_a_time(world: Any) -> None:
    gate = asyncio.Event()
    worker = Pinger(gate)
    await world.host(worker)
    result(world.bus().submit([message(Ping(n=n), conversation="same") for n in range(3)]))
    await eventually(lambda: worker.began, world.patience)
    for _ in range(50):
        await asyncio.sleep(0)
    assert worker.began == [0]
    gate.set()
    await eventually(lambda: worker.ended == [0, 1, 2], world.patience)


class OneAtATime(Pinger):
    name = "Pinger"
    concurrency = 1


async def test_the_more_urgent_conversation_comes_first(world: Any) -> None:
    gate = asyncio.Event()
    worker = OneAtATime(gate)
    host = await world.host(worker)
    outside = world.bus()
    result(outside.submit([message(Ping(n=0))]))
    await eventually(lambda: worker.began, world.patience)
    for n, priority in ((1, 1), (2, 5), (3, 10), (4, 5)):
        result(outside.submit([message(Ping(n=n), priority=priority)]))
    await eventually(lambda: len(host.instances["Pinger"].inbox) == 5, world.patience)
    gate.set()
    await eventually(lambda: len(worker.ended) == 5, world.patience)
    assert worker.began == [0, 3, 2, 4, 1]


# --- compare and set -------------------------------------------------------------------------------------------------


async def test_two_hosts_of_one_agent_say_everything_once(world: Any) -> None:
    first, second = Pinger(rings=True), Pinger(rings=True)
    await world.host(first)
    await world.host(second)
    sent = [message(Ping(n=n)) for n in range(30)]
    outside = world.bus()
    for one in sent:
        await asyncio.to_thread(lambda one=one: result(outside.submit([one])))
    await eventually(lambda: len(world.receipts("Pinger")) >= 30, world.patience)
    await eventually(lambda: len(first.ended) == 30 or len(first.ended) + len(second.ended) >= 30, world.patience)
    for host in list(world._hosts):
        await world.stop(host)
    ids = {m.message_id for m in sent}
    for kind in ("Receipt", "Pong", "Rang"):
        causes = Counter(row["causation_id"] for row in world.of_kind(kind))
        assert causes == dict.fromkeys(ids, 1), kind


async def test_a_lost_decision_drops_its_whole_commit_and_nobody_elses(world: Any) -> None:
    ours, theirs = world.bus(), world.bus()
    asked = message(Ping(n=1))
    result(ours.submit([asked]))
    theirs.catch_up()
    result(theirs.submit([receipt_for(asked, "Pinger", "h1"), output_of(asked, "Pinger", "h1")]))
    late = [
        receipt_for(asked, "Pinger", "h2"),
        output_of(asked, "Pinger", "h2"),
        message(Ping(n=9), conversation="late"),
    ]
    neighbour = message(Ping(n=2))
    lost, kept = ours.submit(late), ours.submit([neighbour])
    assert isinstance(error_of(lost), Superseded)
    result(kept)
    written = {row["message_id"] for row in world.rows()}
    assert neighbour.message_id in written
    assert not written.intersection(m.message_id for m in late)
    assert [row["handling_id"] for row in world.receipts()] == ["h1"]


async def test_rivals_within_one_group_commit_are_told_apart(world: Any) -> None:
    bus = world.bus(linger_ms=50)
    asked = [message(Ping(n=n)) for n in range(3)]
    result(bus.submit(asked))
    futures = [
        bus.submit(
            [
                receipt_for(one, "Pinger", f"{one.message_id}-{try_}"),
                output_of(one, "Pinger", f"{one.message_id}-{try_}"),
            ]
        )
        for try_ in range(3)
        for one in asked
    ]
    plain = bus.submit([message(Ping(n=5))])
    errors = [error_of(future) for future in futures]
    assert [error is None for error in errors] == [True] * 3 + [False] * 6
    assert all(isinstance(error, Superseded) for error in errors[3:])
    result(plain)
    assert len(world.receipts()) == 3
    assert len(world.of_kind("Pong")) == 3


def claim(grant: str, instance: str) -> Message:
    payload = ExecutionClaimed(
        grant_id=grant, requester="eli", question="q", code="c", target=None, approved_by="ada", instance=instance
    )
    return message(payload, to=EVERYONE, from_agent="ExecutionAgent")


async def test_a_grant_is_claimed_once(world: Any) -> None:
    buses = [world.bus() for _ in range(4)]
    grants = [f"g{n}" for n in range(10)]
    futures = [
        (grant, bus.submit([claim(grant, f"instance-{place}")])) for grant in grants for place, bus in enumerate(buses)
    ]
    won = Counter(grant for grant, future in futures if error_of(future) is None)
    assert won == dict.fromkeys(grants, 1)
    assert Counter(said(row)["grant_id"] for row in world.of_kind("ExecutionClaimed")) == dict.fromkeys(grants, 1)
    winners = []
    for bus in buses:
        bus.catch_up()
        winners.append({grant: m.message_id for grant, m in bus.state.claims.items()})
    assert winners == [winners[0]] * 4


async def test_a_message_id_counts_once(world: Any) -> None:
    worker = Pinger()
    await world.host(worker)
    sent = message(Ping(n=1))
    outside, another = world.bus(), world.bus()
    result(outside.submit([sent, sent]))
    result(another.submit([sent]))
    result(outside.submit([message(Ping(n=2), conversation=sent.correlation_id)]))
    await eventually(lambda: len(world.receipts("Pinger")) == 2, world.patience)
    assert worker.began == [1, 2]
    assert len(world.of_kind("Pong")) == 2


# --- events ----------------------------------------------------------------------------------------------------------


async def test_events_reach_those_who_subscribe_to_their_kind(world: Any) -> None:
    listener, pinger = Listener(), Pinger(rings=True)
    await world.host(listener)
    await world.host(pinger)
    outside = world.bus()
    result(outside.submit([message(Ping(n=1)), message(Rang(n=5), to=EVERYONE), message(Unheard(n=6), to=EVERYONE)]))
    await eventually(lambda: len(world.receipts("Listener")) == 2, world.patience)
    assert sorted(listener.heard) == [1, 5]
    await eventually(lambda: world.receipts("Pinger"), world.patience)
    assert len(world.receipts()) == 3


async def test_what_a_subscriber_says_is_seen_by_those_who_know_nothing_of_its_subscription(world: Any) -> None:
    bystander = world.bus()
    came: list[Message] = []
    bystander.subscribe(lambda arrival: came.extend(arrival.rows))
    await world.host(Listener())
    rang = message(Rang(n=1), to=EVERYONE)
    result(world.bus().submit([rang]))
    await eventually(lambda: any(m.kind == "Unheard" for m in came), world.patience)
    assert [m.kind for m in bystander.conversation(rang.correlation_id)] == ["Rang", "Unheard"]


async def test_a_second_receipt_of_a_subscriber_is_superseded_everywhere(world: Any) -> None:
    subscribed = State({"Listener": frozenset({"Rang"})})
    bus, bystander = world.bus(subscribed), world.bus()
    rang = message(Rang(n=1), to=EVERYONE)
    result(bus.submit([rang]))
    result(bus.submit([receipt_for(rang, "Listener", "h1"), output_of(rang, "Listener", "h1")]))
    assert isinstance(
        error_of(bus.submit([receipt_for(rang, "Listener", "h2"), output_of(rang, "Listener", "h2")])), Superseded
    )
    bystander.catch_up()
    late = bystander.submit([receipt_for(rang, "Listener", "h3"), output_of(rang, "Listener", "h3")])
    assert isinstance(error_of(late), Superseded)


# --- time ------------------------------------------------------------------------------------------------------------


async def test_an_expired_message_is_refused_with_its_reason(world: Any) -> None:
    clock, worker = ManualClock(), Pinger()
    await world.host(worker, clock=clock)
    now = round(clock.now().timestamp() * 1_000_000)
    result(world.bus().submit([message(Ping(n=1), expires_at=now - 1), message(Ping(n=2), expires_at=now)]))
    await eventually(lambda: len(world.receipts("Pinger")) == 2, world.patience)
    assert worker.began == [2]
    (failed,) = world.of_kind("Failed")
    assert said(failed)["rule"] == "message.expired"


async def test_a_message_is_not_handled_before_its_time(world: Any) -> None:
    clock, worker = ManualClock(), Pinger()
    await world.host(worker, clock=clock)
    now = round(clock.now().timestamp() * 1_000_000)
    result(world.bus().submit([message(Ping(n=1), not_before=now + 60_000_000)]))
    result(world.bus().submit([message(Ping(n=2))]))
    await eventually(lambda: worker.ended == [2], world.patience)
    clock.advance(59)
    await asyncio.sleep(0)
    assert worker.began == [2]
    clock.advance(1)
    await eventually(lambda: worker.ended == [2, 1], world.patience)


async def test_a_message_for_later_survives_a_restart(world: Any) -> None:
    clock, worker = ManualClock(), Pinger()
    first = await world.host(worker, clock=clock)
    now = round(clock.now().timestamp() * 1_000_000)
    result(world.bus().submit([message(Ping(n=1), not_before=now + 60_000_000), message(Ping(n=2))]))
    await eventually(lambda: worker.ended == [2], world.patience)
    await world.stop(first)
    clock.advance(3600)
    again = Pinger()
    await world.host(again, clock=clock)
    await eventually(lambda: again.ended == [1], world.patience)


# --- what cannot be handled ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bad", "rule"),
    [
        ({"kind": "Nonsense"}, "message.unknown_kind"),
        ({"content": "no json"}, "message.malformed"),
        ({"content": "[]"}, "message.malformed"),
        ({"content": '{"n":"x"}'}, "message.malformed"),
        ({"content": '{"n":1,"m":2}'}, "message.malformed"),
        ({"content": ""}, "message.malformed"),
        ({"content": "[" * 100_000}, "message.malformed"),
    ],
)
async def test_what_makes_no_sense_is_rejected_with_a_fact_and_an_answer(
    world: Any, bad: dict[str, Any], rule: str
) -> None:
    worker = Pinger()
    await world.host(worker)
    wrong = message(Ping(n=1), conversation="same", **bad)
    result(world.bus().submit([wrong, message(Ping(n=2), conversation="same")]))
    await eventually(lambda: worker.ended == [2] and len(world.receipts("Pinger")) == 2, world.patience)
    (receipt,) = [r for r in world.receipts() if r["causation_id"] == wrong.message_id]
    assert said(receipt)["outcome"] == "rejected"
    assert said(receipt)["reason"].startswith(rule)
    (fact,) = [said(r) for r in world.of_kind("AuditRecorded")]
    assert (fact["action"], fact["rule"]) == ("message.rejected", rule)
    (failed,) = world.of_kind("Failed")
    assert (said(failed)["rule"], failed["to_agent"], failed["causation_id"]) == (rule, "user:eli", wrong.message_id)


async def test_an_exception_is_tried_again(world: Any) -> None:
    worker = Pinger(fails=2)
    await world.host(worker, clock=HastyClock())
    result(world.bus().submit([message(Ping(n=1))]))
    await eventually(lambda: world.of_kind("Pong"), world.patience)
    assert worker.attempts == [1, 2, 3]
    assert said(world.receipts("Pinger")[0])["outcome"] == "handled"


async def test_after_the_last_attempt_a_message_is_dead_and_says_why(world: Any) -> None:
    worker = Pinger(fails=99)
    await world.host(worker, clock=HastyClock())
    result(world.bus().submit([message(Ping(n=1), conversation="same")]))
    await eventually(lambda: world.receipts("Pinger"), world.patience)
    receipt = said(world.receipts("Pinger")[0])
    assert (receipt["outcome"], receipt["attempts"]) == ("dead", 3)
    assert "attempt 3 was meant to fail" in receipt["reason"]
    assert worker.attempts == [1, 2, 3]
    assert said(world.of_kind("AuditRecorded")[0])["action"] == "message.dead"
    assert world.of_kind("Failed")[0]["to_agent"] == "user:eli"
    worker.fails = 0
    result(world.bus().submit([message(Ping(n=2), conversation="same")]))
    await eventually(lambda: worker.ended == [2], world.patience)


async def test_content_over_the_limit_is_refused_and_the_bus_goes_on(world: Any) -> None:
    bus = world.bus()
    big = message(Ping(n=1), content="x" * (MAX_CONTENT + 1))
    wide = message(Ping(n=1), content="ü" * (MAX_CONTENT // 2 + 1))
    full = message(Ping(n=1), content="ü" * (MAX_CONTENT // 2))
    futures = [bus.submit([message(Ping(n=2)), big]), bus.submit([wide]), bus.submit([full])]
    assert [type(error_of(future)) for future in futures] == [ContentTooLarge, ContentTooLarge, type(None)]
    assert [len(row["content"]) for row in world.rows()] == [MAX_CONTENT // 2]


# --- hosts that come and go ------------------------------------------------------------------------------------------


async def test_a_host_that_starts_later_finds_what_is_open(world: Any) -> None:
    sent = [message(Ping(n=n), conversation=f"c{n % 3}") for n in range(9)]
    outside = world.bus()
    for one in sent:
        result(outside.submit([one]))
    worker = Pinger()
    first = await world.host(worker)
    await eventually(lambda: len(worker.ended) == 9, world.patience)
    await eventually(lambda: len(world.receipts("Pinger")) == 9, world.patience)
    await world.stop(first)
    result(outside.submit([message(Ping(n=100))]))
    again = Pinger()
    await world.host(again)
    await eventually(lambda: len(world.receipts("Pinger")) == 10, world.patience)
    assert again.ended == [100]


async def test_stopping_finishes_what_runs_and_leaves_what_waits(world: Any) -> None:
    gate = asyncio.Event()
    worker = OneAtATime(gate)
    host = await world.host(worker)
    result(world.bus().submit([message(Ping(n=1)), message(Ping(n=2))]))
    await eventually(lambda: worker.began == [1], world.patience)
    stopping = asyncio.create_task(world.stop(host))
    for _ in range(20):
        await asyncio.sleep(0)
    assert not stopping.done()
    gate.set()
    await stopping
    assert worker.began == worker.ended == [1]
    assert len(world.receipts("Pinger")) == 1
    again = Pinger()
    await world.host(again)
    await eventually(lambda: again.ended == [2], world.patience)


async def test_a_handler_that_will_not_end_is_given_up_and_its_message_stays_open(world: Any) -> None:
    never = asyncio.Event()
    worker = Pinger(never)
    host = await world.host(worker)
    result(world.bus().submit([message(Ping(n=1))]))
    await eventually(lambda: worker.began, world.patience)
    world._hosts.remove(host)
    await host.stop(patience_s=0.01)
    assert world.receipts("Pinger") == []
    again = Pinger()
    await world.host(again)
    await eventually(lambda: again.ended == [1], world.patience)


@pytest.mark.parametrize("capacity", [1, 2, 3])
async def test_a_full_inbox_loses_nothing_and_keeps_the_order(world: Any, capacity: int) -> None:
    gate = asyncio.Event()
    worker = Pinger(gate)
    await world.host(worker, inbox_capacity=capacity)
    outside = world.bus()
    for n in range(20):
        result(outside.submit([message(Ping(n=n), conversation=f"c{n % 2}")]))
    await eventually(lambda: worker.began, world.patience)
    gate.set()
    for n in range(20, 40):
        result(outside.submit([message(Ping(n=n), conversation=f"c{n % 2}")]))
        await asyncio.sleep(0)
    await eventually(lambda: len(worker.ended) == 40, world.patience)
    for parity in (0, 1):
        assert [n for n in worker.ended if n % 2 == parity] == list(range(parity, 40, 2))
    await eventually(lambda: len(world.receipts("Pinger")) == 40, world.patience)


async def test_a_cancelled_wait_does_not_disturb_its_neighbours(world: Any) -> None:
    bus = world.bus(linger_ms=50)
    given_up = bus.submit([message(Ping(n=1))])
    given_up.cancel()
    assert result(bus.submit([message(Ping(n=2))])) >= 0
    result(bus.submit([message(Ping(n=3))]))
    assert {said(row)["n"] for row in world.rows()} >= {2, 3}


async def test_a_listener_that_raises_disturbs_nobody(world: Any) -> None:
    bus, other = world.bus(), world.bus()
    came: list[int] = []

    def broken(_: Any) -> None:
        raise RuntimeError("this listener is broken")

    bus.subscribe(broken)
    bus.subscribe(lambda arrival: came.append(arrival.version))
    mine = await asyncio.to_thread(lambda: result(bus.submit([message(Ping(n=1))])))
    theirs = await asyncio.to_thread(lambda: result(other.submit([message(Ping(n=2))])))
    await eventually(lambda: came == [mine, theirs], world.patience)

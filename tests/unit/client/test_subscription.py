from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bus.arrivals import Arrivals
from bus.client import TailraceClient, read
from bus.errors import Closed, TimedOut
from bus.memory import MemoryBus, MemoryLog
from bus.past import MemoryPast, TablePast
from bus.subscription import Subscription
from bus.watch import accept_all
from tests.unit.client.conftest import Greeting, Place, Said


def texts(subscription: Subscription, count: int) -> list[str]:
    return [read(subscription.next_event(10), Said).text for _ in range(count)]


def test_events_of_the_kind_come_in_order_and_nothing_else(live: Place) -> None:
    client = live.client()
    with client.subscribe(Said) as events:
        client.send_many([("Greeter", Greeting(text=str(n))) for n in range(20)])
        heard = [events.next_event(10) for _ in range(20)]
        assert {read(event, Said).text for event in heard} == {str(n) for n in range(20)}
        assert [event.position for event in heard] == sorted(event.position for event in heard)
        with pytest.raises(TimedOut, match="no Said within"):
            events.next_event(0.05)


def test_a_person_publishes_too(place: Place) -> None:
    with place.client("ada").subscribe("Said") as events:
        place.client().publish(Said(text="Ada"))
        assert read(events.next_event(10), Said).text == "Ada"


def test_from_a_version_the_past_comes_first_without_a_gap(place: Place) -> None:
    writer = place.client()
    for n in range(5):
        writer.publish(Said(text=str(n)))
    second = writer.publish(Said(text="5")).log_version
    events = place.client().subscribe(Said, from_version=0)
    later = place.client().subscribe(Said, from_version=second)
    for n in range(6, 9):
        writer.publish(Said(text=str(n)))
    assert texts(events, 9) == [str(n) for n in range(9)]
    assert texts(later, 4) == ["5", "6", "7", "8"]


def test_a_service_that_starts_again_goes_on_behind_its_last_event(place: Place) -> None:
    writer = place.client()
    writer.send_many([{"to": "*", "payload": Said(text=str(n))} for n in range(4)])  # one commit
    with place.client().subscribe(Said, from_version=0) as events:
        done = [events.next_event(10) for _ in range(2)][-1]
    assert texts(place.client().subscribe(Said, after=done), 2) == ["2", "3"]
    assert texts(place.client().subscribe(Said, after=done.position), 2) == ["2", "3"]


def test_a_slow_subscriber_reads_on_from_the_log(place: Place) -> None:
    """Only so many are kept in memory; what is more is in the log."""
    client = place.client()
    events = Subscription(client._session.bus, client._session.past, ["Said"], accept_all, None, buffered=3)
    for n in range(20):
        client.publish(Said(text=str(n)))
        assert len(events._ready) <= 3
    assert texts(events, 20) == [str(n) for n in range(20)]
    client.publish(Said(text="20"))
    assert texts(events, 1) == ["20"]


def test_the_past_is_read_in_chunks_of_whole_commits(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bus.past.CHUNK", 4)
    writer = place.client()
    for size in (1, 3, 6, 1, 2):
        writer.send_many([{"to": "*", "payload": Said(text="x")} for _ in range(size)])
    client = place.client()
    assert isinstance(client._session.past, TablePast)
    chunks = list(client._session.past.events(["Said"], (-1, -1)))
    assert [len(chunk) for chunk in chunks] == [4, 6, 3]
    positions = [row.position for chunk in chunks for row in chunk]
    assert positions == sorted(positions)
    assert len(set(positions)) == 13


def test_a_copied_event_is_given_out_once(place: Place) -> None:
    """Somebody appends a signed row again: it is a replay, wherever it stands."""
    from bus.log import rows as codec

    sent = place.client().publish(Said(text="Ada"))
    table = place.system.log("agent_messages")
    version = table.head() + 1
    assert table.put(version, codec.to_arrow([sent], version), stats=codec.row_stats([sent], version)).won
    with place.client().subscribe(Said, from_version=0) as events:
        assert texts(events, 1) == ["Ada"]
        with pytest.raises(TimedOut):
            events.next_event(0.1)


def test_iteration_ends_when_the_client_is_closed(place: Place) -> None:
    client = place.client()
    events = client.subscribe(Said)
    client.publish(Said(text="Ada"))
    with ThreadPoolExecutor(1) as thread:
        heard = thread.submit(list, events)
        time.sleep(0.05)
        client.close()
        assert [read(event, Said).text for event in heard.result(10)] == ["Ada"]
    with pytest.raises(Closed):
        events.next_event(0)


def test_a_loop_that_was_left_is_not_listened_for_any_more(place: Place) -> None:
    client = place.client()
    bus = client._session.bus
    client.publish(Said(text="0"))
    for _ in client.subscribe(Said, from_version=0):
        break
    listening = len(bus._listeners)
    client.publish(Said(text="1"))
    assert len(bus._listeners) == listening - 1


def test_subscribing_to_nothing_says_how(place: Place) -> None:
    with pytest.raises(ValueError, match=r"client\.subscribe\(KnowledgeAdded\)"):
        place.client().subscribe()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    before=st.integers(0, 12),
    steps=st.lists(st.one_of(st.integers(1, 5), st.just("take"), st.just("read")), max_size=25),
    buffered=st.integers(1, 6),
    from_start=st.booleans(),
)
def test_whatever_the_pace_each_event_comes_once_in_order(
    before: int, steps: list[int | str], buffered: int, from_start: bool
) -> None:
    log = MemoryLog()
    client = TailraceClient(user="eli", bus=MemoryBus(log))
    published = 0

    def publish(count: int) -> None:
        nonlocal published
        client.send_many([{"to": "*", "payload": Said(text=str(published + n))} for n in range(count)])
        published += count

    publish(before)
    after = (-1, -1) if from_start else None
    events = Subscription(MemoryBus(log), MemoryPast(log), ["Said"], accept_all, after, buffered)
    heard: list[str] = []

    def take() -> bool:
        event = events.poll()
        if event is not None:
            heard.append(read(event, Said).text)
        return event is not None

    for step in steps:
        if step == "take":
            take()
        elif step == "read":
            events.read_on()
        else:
            publish(int(step))
    while take() or events.is_behind:
        events.read_on()
    assert heard == [str(n) for n in range(0 if from_start else before, published)]


def test_a_fast_writer_and_a_slow_reader_with_a_small_buffer(place: Place) -> None:
    client = place.client()
    events = Subscription(client._session.bus, client._session.past, ["Said"], accept_all, (-1, -1), buffered=7)
    writing = threading.Thread(target=lambda: [client.publish(Said(text=str(n))) for n in range(120)])
    writing.start()
    heard = texts(events, 120)
    writing.join()
    assert heard == [str(n) for n in range(120)]


def test_arrivals_follow_one_conversation(place: Place) -> None:
    client = place.client()
    with client.listen() as arrivals:
        assert isinstance(arrivals, Arrivals)
        sent = client.send("Greeter", Greeting(text="Ada"))
        client.send("Greeter", Greeting(text="Eve"))
        assert [row.message_id for row in arrivals.next_of(sent.correlation_id, 5)] == [sent.message_id]

"""Rows of one shape are written as columns: the same messages, many times faster."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from bus.aio import AsyncTailraceClient
from bus.batches import Batch, Bulk, parts
from bus.client import TailraceClient, read
from bus.errors import ContentTooLarge, IdTaken, NotAMessage
from bus.keys import Keyring
from bus.log import rows as codec
from schemas.envelope import Message
from tests.unit.client.conftest import Greeting, Place, Said, running


def rows(count: int, **more: Any) -> list[dict[str, Any]]:
    return [{"to": "Greeter", "kind": "Greeting", "content": {"text": str(n)}, **more} for n in range(count)]


def named(count: int, first: int = 0) -> list[dict[str, Any]]:
    return [row | {"message_id": f"order-{first + n}"} for n, row in enumerate(rows(count))]


def in_the_log(place: Place) -> list[Message]:
    found, _ = place.system.log("agent_messages").scan()
    return codec.from_arrow(found)


def test_the_rows_are_what_messages_would_be(place: Place) -> None:
    """Field by field but for what says when and where, and each under a signature that holds."""
    client = place.client()
    slow = client.send_many([("Greeter", Greeting(text=str(n))) for n in range(30)])
    fast = client.send_many(rows(30))
    own = {"message_id", "correlation_id", "traceparent", "timestamp", "signature", "key_id", "log_version", "seq"}
    assert [row.model_dump(exclude=own) for row in fast] == [row.model_dump(exclude=own) for row in slow]
    log = place.system.log("agent_messages")
    keyring = Keyring.load(place.system.home.keys)
    written = in_the_log(place)
    assert all(keyring.accepts(row, log.check(), "dev") for row in written)
    assert [(row.message_id, *row.position) for row in written[30:]] == [(r.message_id, *r.position) for r in fast]


def test_they_are_answered_like_any_other(place: Place) -> None:
    sent = place.client().send_many(rows(25))
    with running(place.system):
        client = place.client()
        assert [read(client.wait(row, 20), Greeting).text for row in sent[20:]] == [
            f"Hello {n}!" for n in range(20, 25)
        ]
        assert read(client.wait(sent[0].correlation_id, 20), Greeting).text == "Hello 0!"


@pytest.mark.parametrize("again", ["same client", "another client"])
def test_rows_sent_again_add_only_what_is_new(place: Place, again: str) -> None:
    client = place.client()
    first = client.send_many(named(30))
    second = (client if again == "same client" else place.client()).send_many(named(50))
    assert [row.position for row in second[:30]] == [row.position for row in first]
    assert [row.message_id for row in in_the_log(place)] == [f"order-{n}" for n in range(50)]
    assert client.send("Greeter", Greeting(text="49"), message_id="order-49").position == second[49].position


def test_an_id_twice_in_one_batch_is_one_message(place: Place) -> None:
    sent = place.client().send_many([*named(25), *named(5)])
    assert [row.position for row in sent[25:]] == [row.position for row in sent[:5]]
    assert len(in_the_log(place)) == 25


def test_two_clients_that_send_the_same_at_once_name_the_same_messages(place: Place) -> None:
    clients = [place.client() for _ in range(3)]
    barrier = threading.Barrier(3)

    def send(client: TailraceClient, first: int) -> list[tuple[int, int]]:
        barrier.wait()
        return [row.position for row in client.send_many(named(25, first))]

    with ThreadPoolExecutor(3) as threads:
        said = [list(threads.map(send, clients, [100 * n] * 3)) for n in range(4)]
    counting: dict[str, tuple[int, int]] = {}
    for row in in_the_log(place):
        counting.setdefault(row.message_id, row.position)
    for n, positions in enumerate(said):
        expected = [counting[f"order-{100 * n + k}"] for k in range(25)]
        assert positions == [expected] * 3


def test_an_id_of_another_message_refuses_all_of_them(place: Place) -> None:
    place.client("ada").send("Greeter", Greeting(text="7"), message_id="order-7")
    with pytest.raises(IdTaken, match="order-7"):
        place.client().send_many(named(30))
    assert len(in_the_log(place)) == 1


def test_what_is_no_message_refuses_all_of_them(place: Place) -> None:
    client = place.client()
    with pytest.raises(NotAMessage, match="priority must be 1 to 10"):
        client.send_many(rows(30, priority=11))
    with pytest.raises(ContentTooLarge, match="send a reference"):
        client.send_many([*rows(30), {"to": "Greeter", "kind": "Greeting", "content": "ä" * 600_000}])
    assert in_the_log(place) == []


@pytest.mark.parametrize(
    ("items", "made"),
    [
        (rows(30), Bulk),
        (rows(5), Batch),  # not worth it
        ([("Greeter", Greeting(text="Ada"))] * 30, Batch),
        ([*rows(29), ("Greeter", Greeting(text="Ada"))], Batch),
        ([*rows(29), rows(1, priority=3)[0]], Batch),  # another shape
        ([row | {"to": "*"} for row in rows(30)], Batch),  # whoever publishes hears it
    ],
)
def test_only_requests_of_one_shape_are_columns(place: Place, items: list[Any], made: type) -> None:
    assert type(place.client()._session.many(items)) is made


def test_events_of_a_batch_are_heard_by_their_own_client(place: Place) -> None:
    client = place.client()
    with client.subscribe(Said) as events:
        client.send_many([{"to": "*", "kind": "Said", "content": {"text": str(n)}} for n in range(30)])
        assert [read(events.next_event(5), Said).text for _ in range(30)] == [str(n) for n in range(30)]


async def test_the_loop_goes_the_same_way(place: Place) -> None:
    async with AsyncTailraceClient(place.home, user="eli") as client:
        first = await client.send_many(named(30))
        assert [row.position for row in await client.send_many(named(30))] == [row.position for row in first]
    assert len(in_the_log(place)) == 30


def test_commits_hold_so_many_rows_and_so_many_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bus.batches.COMMIT_ROWS", 3)
    monkeypatch.setattr("bus.batches.COMMIT_SIZE", 10)
    assert [list(p) for p in parts("abcdefg", [1] * 7)] == [["a", "b", "c"], ["d", "e", "f"], ["g"]]
    assert [list(p) for p in parts("abcde", [4, 6, 1, 11, 2])] == [["a", "b"], ["c"], ["d"], ["e"]]
    assert list(parts("", [])) == []

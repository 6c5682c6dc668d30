from __future__ import annotations

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
import structlog
from structlog.testing import capture_logs

from bus.client import TailraceClient, read
from bus.errors import (
    Closed,
    ContentTooLarge,
    ForeignLog,
    IdTaken,
    LogMissing,
    MissingKey,
    NotAMessage,
    TimedOut,
    Unexpected,
)
from bus.keys import create_keys
from bus.log.bus import LogBus
from schemas.envelope import Message
from schemas.payloads import Failed, Payload
from tests.unit.client.conftest import Greeting, Place, Said, make_home, running

ADA = Greeting(text="Ada")


# --- sending ---------------------------------------------------------------------------------------------------------


def test_what_is_sent_comes_back_as_it_stands_in_the_log(place: Place) -> None:
    sent = place.client().send("Greeter", ADA, priority=7)
    (row,) = place.rows()
    assert (row["message_id"], row["log_version"], row["seq"]) == (sent.message_id, sent.log_version, sent.seq)
    assert (row["signature"], row["key_id"], row["priority"]) == (sent.signature, "user-eli", 7)


def test_times_are_moments_with_a_time_zone(place: Place) -> None:
    client = place.client()
    moment = datetime(2030, 1, 1, tzinfo=UTC)
    assert client.send("Greeter", ADA, not_before=moment).not_before == 1_893_456_000_000_000
    with pytest.raises(NotAMessage, match="time zone"):
        client.send("Greeter", ADA, expires_at=datetime(2030, 1, 1))  # noqa: DTZ001  # the mistake that is refused


def test_what_is_no_message_names_the_field(place: Place) -> None:
    with pytest.raises(NotAMessage, match=r"priority: .* 10"):
        place.client().send("Greeter", ADA, priority=11)
    assert place.rows() == []


def test_too_large_a_content_is_refused_and_nothing_of_its_batch_is_sent(place: Place) -> None:
    client = place.client()
    with pytest.raises(ContentTooLarge, match="send a reference"):
        client.send_many([("Greeter", ADA), ("Greeter", Greeting(text="x" * (1 << 20)))])
    assert place.rows() == []


def test_many_are_one_commit_in_order(place: Place) -> None:
    sent = place.client().send_many([("Greeter", Greeting(text=str(n))) for n in range(300)])
    assert [(row.log_version, row.seq) for row in sent] == [(1, n) for n in range(300)]
    assert [row["message_id"] for row in place.rows()] == [row.message_id for row in sent]


def test_more_than_a_commit_holds_keep_their_order(place: Place) -> None:
    sent = place.client().send_many([{"to": "Greeter", "kind": "Greeting", "content": "{}"}] * 5_001)
    assert [row.position for row in sent] == sorted(row.position for row in sent)
    assert [row["message_id"] for row in place.rows()] == [row.message_id for row in sent]


def test_rows_say_what_send_says(place: Place) -> None:
    rows = [
        {"to": "Greeter", "payload": ADA, "priority": 9},
        {"to": "Greeter", "kind": "Greeting", "content": {"text": "Ada"}, "correlation_id": "c-1"},
        {"to": "Greeter", "kind": "Greeting", "content": '{"text": "Ada"}', "message_id": "mine"},
    ]
    first, second, third = place.client().send_many(rows)
    assert (first.priority, second.correlation_id, third.message_id) == (9, "c-1", "mine")
    assert second.content == '{"text":"Ada"}'
    assert third.content == '{"text": "Ada"}', "a string is kept byte for byte"


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"to": "Greeter", "kind": "Greeting"}, "`content`"),
        ({"kind": "Greeting", "content": "{}"}, "`to` is missing"),
        ({"to": "Greeter", "payload": ADA, "prioritie": 1}, "prioritie"),
    ],
)
def test_a_row_that_is_none_says_why_and_nothing_is_sent(place: Place, row: dict[str, object], says: str) -> None:
    with pytest.raises(NotAMessage, match=says):
        place.client().send_many([("Greeter", ADA), row])
    assert place.rows() == []


def test_an_unknown_agent_is_a_warning_not_an_error(place: Place) -> None:
    client = place.client()
    structlog.reset_defaults()
    with capture_logs() as logs:
        client.send("Greter", ADA)
        client.send("Greter", ADA)
        client.send("Greeter", ADA)
    assert [(entry["agent"], entry["did_you_mean"]) for entry in logs] == [("Greter", "Greeter")]


# --- ids of the producer's own ---------------------------------------------------------------------------------------


def test_sending_again_with_the_same_id_returns_the_original(place: Place) -> None:
    first = place.client().send("Greeter", ADA, message_id="order-1")
    again = place.client().send("Greeter", ADA, message_id="order-1")  # a new process knows nothing of the first
    assert again == first
    assert len(place.rows()) == 1


def test_a_batch_sent_again_adds_only_what_is_new(place: Place) -> None:
    def rows(upto: int) -> list[dict[str, object]]:
        return [{"to": "Greeter", "payload": ADA, "message_id": f"order-{n}"} for n in range(upto)]

    first = place.client().send_many(rows(5))
    again = place.client().send_many(rows(8))
    assert again[:5] == first
    assert len(place.rows()) == 8


def test_many_single_sends_do_not_read_the_table_each_time(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    from bus.log.table import DeltaLog

    place.client().send("Greeter", ADA, message_id="order-0")
    client, reads = place.client(), []
    scan = DeltaLog.scan
    monkeypatch.setattr(DeltaLog, "scan", lambda *a, **k: reads.append(1) or scan(*a, **k))
    for n in range(30):
        client.send("Greeter", ADA, message_id=f"order-{n}")
    assert len(reads) < 8
    assert len(place.rows()) == 30


@pytest.mark.parametrize("other", [{"to": "Other"}, {"kind": "Said"}, {"user": "ada"}])
def test_an_id_that_names_another_message_is_refused(place: Place, other: dict[str, str]) -> None:
    place.client().send("Greeter", ADA, message_id="order-1")
    client = place.client(other.get("user", "eli"))
    payload: Payload = Said(text="Ada") if "kind" in other else ADA
    with pytest.raises(IdTaken, match="order-1"):
        client.send(other.get("to", "Greeter"), payload, message_id="order-1")
    assert len(place.rows()) == 1


def test_two_clients_that_retry_at_once_agree_on_one_message(place: Place) -> None:
    clients = [place.client() for _ in range(4)]
    barrier = threading.Barrier(len(clients))

    def send(client: TailraceClient, n: int) -> tuple[int, int]:
        barrier.wait()
        return client.send("Greeter", ADA, message_id=f"order-{n}").position

    with ThreadPoolExecutor(len(clients)) as threads:
        for n in range(15):
            assert len(set(threads.map(send, clients, [n] * len(clients)))) == 1


def test_a_killed_producer_is_run_again_and_nothing_counts_twice(live: Place) -> None:
    """The process dies right behind its commit: it cannot know that it won."""
    program = (
        "import os, sys, signal\n"
        "from tailrace import Payload, TailraceClient\n"
        "class Greeting(Payload):\n"
        "    text: str\n"
        "client = TailraceClient(sys.argv[1], user='eli')\n"
        "def die(arrival): sys.argv[2] == 'die' and arrival.own and os.kill(os.getpid(), signal.SIGKILL)\n"
        "client._session.bus.subscribe(die)\n"
        "print(client.send('Greeter', Greeting(text='Ada'), message_id='order-1').log_version)\n"
    )
    root = str(Path(__file__).parents[3])
    dead = subprocess.run([sys.executable, "-c", program, str(live.home), "die"], cwd=root, capture_output=True)
    assert dead.returncode == -9
    done = subprocess.run(
        [sys.executable, "-c", program, str(live.home), "live"], cwd=root, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    requests = [row for row in live.rows() if row["message_type"] == "request"]
    assert [row["log_version"] for row in requests] == [int(done.stdout)]
    assert read(live.client().wait("order-1", 10), Greeting).text == "Hello Ada!"


# --- answers ---------------------------------------------------------------------------------------------------------


def test_a_request_is_answered(live: Place) -> None:
    assert read(live.client().request("Greeter", ADA, timeout=10), Greeting).text == "Hello Ada!"


def test_many_threads_ask_through_one_client(live: Place) -> None:
    client = live.client()
    with ThreadPoolExecutor(16) as threads:
        answers = threads.map(lambda n: client.request("Greeter", Greeting(text=str(n)), timeout=30), range(200))
        assert [read(a, Greeting).text for a in answers] == [f"Hello {n}!" for n in range(200)]


def test_a_request_in_vain_names_the_agent_and_how_to_go_on(place: Place) -> None:
    with pytest.raises(TimedOut, match=r"no response from Greeter within 0\.05 s; .* client\.wait"):
        place.client().request("Greeter", ADA, timeout=0.05)
    assert len(place.rows()) == 1


@pytest.mark.parametrize("by", ["message", "message_id", "correlation_id"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_an_answer_is_awaited_by_another_client(place: Place, by: str, when: str) -> None:
    sent = place.client().send("Greeter", ADA)
    what = sent if by == "message" else getattr(sent, by)
    if when == "before":
        with running(place.system), place.client() as client:
            client.wait(sent, 10)  # it is answered before the next one asks
            assert read(place.client().wait(what, 10), Greeting).text == "Hello Ada!"
        return
    waiting = place.client()
    with ThreadPoolExecutor(1) as thread:
        answer = thread.submit(waiting.wait, what, 20)
        with running(place.system):
            assert read(answer.result(20), Greeting).text == "Hello Ada!"


def test_an_answer_is_awaited_before_anybody_asked(live: Place) -> None:
    waiting = live.client()
    with ThreadPoolExecutor(1) as thread:
        answer = thread.submit(waiting.wait, "order-7", 20)
        time.sleep(0.05)
        live.client("ada").send("Greeter", ADA, message_id="order-7")
        assert read(answer.result(20), Greeting).text == "Hello Ada!"


def test_waiting_for_what_never_was_says_so(place: Place) -> None:
    with pytest.raises(TimedOut, match="neither a message nor a conversation nothing is in"):
        place.client().wait("nothing", 0.05)


def test_a_request_sent_again_gets_the_answer_it_got(live: Place) -> None:
    first = live.client().request("Greeter", ADA, timeout=10, message_id="order-1")
    assert live.client().request("Greeter", ADA, timeout=10, message_id="order-1") == first


def test_an_answer_of_another_kind_says_what_it_is(live: Place) -> None:
    answer = live.client().request("Greeter", Greeting(text="Boom"), timeout=10)
    with pytest.raises(Unexpected, match=r"Greeter sent Failed, not Greeting: .*it cannot be greeted"):
        read(answer, Greeting)
    assert read(answer, Failed).rule == "worker.failed"


def test_a_forged_answer_is_not_given_out(place: Place) -> None:
    client = place.client()
    sent = client.send("Greeter", ADA)
    says = {
        "from_agent": "Greeter",
        "to_agent": "user:eli",
        "message_type": "response",
        "content": '{"text": "forged"}',
    }
    ids = {"message_id": "forged", "causation_id": sent.message_id}
    forger = LogBus(place.system.log("agent_messages"), follow_only=True)
    forged = Message(**sent.model_dump() | says | ids)
    with ThreadPoolExecutor(1) as thread:
        answer = thread.submit(client.wait, sent, 0.5)
        time.sleep(0.1)
        forger.submit([forged]).result()  # while it waits
        with pytest.raises(TimedOut):
            answer.result(10)
    forger.close()
    with pytest.raises(TimedOut):
        client.wait(sent, 0.01)  # and when it is in the past


def test_an_agent_that_got_its_key_later_is_believed(place: Place) -> None:
    from jobs.agents import Agent
    from tests.unit.client.conftest import Greeter

    class Late(Greeter):
        pass

    client = place.client()
    create_keys(place.system.home.keys, {"host-late": ["Late"]}, 0)
    with running(place.system, Agent("Late", "late", "late", lambda _: Late(), "tail")):
        assert read(client.request("Late", ADA, timeout=10), Greeting).text == "Hello Ada!"


def test_who_waits_hears_that_the_client_was_closed(place: Place) -> None:
    client = place.client()
    with ThreadPoolExecutor(1) as thread:
        answer = thread.submit(client.request, "Greeter", ADA, timeout=30)
        while not place.rows():
            time.sleep(0.01)
        client.close()
        with pytest.raises(Closed, match="client was closed"):
            answer.result(10)
    with pytest.raises(Closed):
        client.send("Greeter", ADA)


def test_who_waits_hears_that_the_log_broke(place: Place) -> None:
    client = place.client()
    with ThreadPoolExecutor(1) as thread:
        answer = thread.submit(client.request, "Greeter", ADA, timeout=30)
        while not place.rows():
            time.sleep(0.01)
        broken = place.system.log("agent_messages").path / "_delta_log" / f"{2:020d}.json"
        broken.with_suffix(".new").write_text("no json")
        broken.with_suffix(".new").rename(broken)
        with pytest.raises(ForeignLog, match="log entry 2 is not JSON"):
            answer.result(10)


# --- opening ---------------------------------------------------------------------------------------------------------


def test_no_home_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(LogMissing, match="tailrace init"):
        TailraceClient(tmp_path / "nowhere", user="eli")


def test_a_user_without_a_key_is_told_who_has_one(tmp_path: Path) -> None:
    home = make_home(tmp_path / "home")
    with pytest.raises(MissingKey, match="user:eli"):
        TailraceClient(home.home.root, user="zoe")


# --- what it costs ---------------------------------------------------------------------------------------------------


def test_who_only_sends_does_not_read_what_others_commit(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    from bus.log import rows as codec

    read_rows: list[int] = []
    of_entry = codec.of_entry
    producer, other = place.client(), place.client()
    monkeypatch.setattr(codec, "of_entry", lambda *what: read_rows.append(1) or of_entry(*what))
    for _ in range(10):
        other.send("Greeter", ADA)
        assert producer.send("Greeter", ADA).position == (producer.send("Greeter", ADA).log_version - 1, 0)
    assert read_rows == []
    with pytest.raises(TimedOut):
        producer.request("Greeter", ADA, timeout=0.01)
    other.send("Greeter", ADA)
    producer.send("Greeter", ADA)
    assert read_rows, "who waits for an answer looks at every row"


def test_what_came_while_nobody_listened_is_still_known(place: Place) -> None:
    """Ids of one's own are looked up in the table, whatever was heard before."""
    client, other = place.client(), place.client()
    for n in range(5):
        other.send("Greeter", ADA, message_id=f"order-{n}")
        client.send("Greeter", ADA)
    for n in range(5):
        assert client.send("Greeter", ADA, message_id=f"order-{n}").message_id == f"order-{n}"
    assert len(place.rows()) == 10


def test_ids_that_were_read_once_are_kept_up_to_date(place: Place) -> None:
    client, other = place.client(), place.client()
    for n in range(5):  # after some of them all ids are read, and kept
        with pytest.raises(TimedOut):
            client.wait(f"nothing-{n}", 0.001)
    first = other.send("Greeter", ADA, message_id="order-1")
    assert client.send("Greeter", ADA, message_id="order-1").position == first.position

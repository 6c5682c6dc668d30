"""Tables in Azure and S3, on emulators: the contract that concerns the store, and faults of the network between."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from bus.errors import LogMissing, StoreRefused, StoreUnavailable, Superseded, UnfitStore
from bus.log import rows as codec
from bus.log.bus import LogBus
from bus.log.cleanup import Cleaned
from bus.log.consumers import Consumers
from bus.log.object_store import ObjectStore
from bus.log.snapshot import Snapshots
from bus.log.store import Pace
from bus.log.table import DeltaLog
from bus.log.upkeep import Folding, Limits, Upkeep
from config.settings import Settings
from jobs.bootstrap import System
from jobs.init_home import InitFailed, initialise
from schemas.envelope import Message
from schemas.tables import AGENT_MESSAGES
from tests.contract import crash_host
from tests.contract.broken_line import Line
from tests.contract.emulators import use_azure, use_s3
from tests.contract.harness import LogWorld, Ping, Pinger, error_of, eventually, message, read_rows, result
from tests.contract.test_crashes import Hosts, Producer, check, until
from tests.contract.test_handling import (
    output_of,
    receipt_for,
    test_a_host_that_starts_later_finds_what_is_open,
    test_a_lost_decision_drops_its_whole_commit_and_nobody_elses,
    test_a_request_gets_its_response,
    test_a_response_can_be_waited_for_by_somebody_who_came_later,
    test_messages_of_a_conversation_are_handled_in_log_order,
    test_receipt_and_outputs_are_rows_of_one_commit,
)

__all__ = [
    "test_a_host_that_starts_later_finds_what_is_open",
    "test_a_lost_decision_drops_its_whole_commit_and_nobody_elses",
    "test_a_request_gets_its_response",
    "test_a_response_can_be_waited_for_by_somebody_who_came_later",
    "test_messages_of_a_conversation_are_handled_in_log_order",
    "test_receipt_and_outputs_are_rows_of_one_commit",
]


#: Installing azurite, once, takes most of a minute.
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(params=["s3", "azure"])
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A place of its own in each of the two, for each test."""
    kind = request.param
    port = request.getfixturevalue(f"{kind}_port")
    return f"{(use_s3 if kind == 's3' else use_azure)(monkeypatch, port)}/{uuid.uuid4().hex}"


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch, azure_port: int) -> AsyncIterator[Any]:
    """Azure alone, for the sake of time: above the store, both are the same code."""
    made = LogWorld(f"{use_azure(monkeypatch, azure_port)}/{uuid.uuid4().hex}")
    made.patience = 30.0
    yield made
    await made.close()


# --- the store -------------------------------------------------------------------------------------------------------


def test_one_name_is_put_once(place: str) -> None:
    store = ObjectStore(place)
    assert store.put_if_absent("a/b", b"mine")
    assert store.put_if_absent("a/b", b"mine")  # a try whose answer got lost is not lost
    assert not store.put_if_absent("a/b", b"another's")
    assert store.get("a/b") == b"mine"


def test_files_are_listed_replaced_and_deleted(place: str) -> None:
    store = ObjectStore(place)
    for name in ("2", "0", "1"):
        store.put(f"_delta_log/{name}.json", b"x" * int(name))
    store.put("_delta_log/deeper/3.json", b"")
    store.replace("_delta_log/2.json", b"whole")
    assert sorted(store.names("_delta_log", "0.json")) == ["1.json", "2.json"]
    assert list(store.names("_delta_log", "1.json")) == ["2.json"]
    assert {(one.path, one.size) for one in store.list("_delta_log")} == {
        ("_delta_log/0.json", 0),
        ("_delta_log/1.json", 1),
        ("_delta_log/2.json", 5),
        ("_delta_log/deeper/3.json", 0),
    }
    store.delete("_delta_log/2.json")
    store.delete("_delta_log/2.json")
    assert (store.get("_delta_log/2.json"), store.exists("_delta_log/2.json"), store.list("nowhere")) == (
        None,
        False,
        [],
    )


def test_the_head_is_found_and_no_table_says_what_to_do(place: str) -> None:
    log = DeltaLog(place, AGENT_MESSAGES)
    with pytest.raises(LogMissing, match="tailrace init"):
        log.head()
    with pytest.raises(LogMissing, match="tailrace init"):
        log.check()
    log.create()
    for version in range(1, 4):
        assert log.put(version, codec.to_arrow([message(Ping(n=version))], version)).won
    assert {log.head(known) for known in (-1, 0, 2, 3)} == {3}
    assert [version for version, _ in log._entries_after(1)] == [2, 3]


def test_one_place_has_several_names(monkeypatch: pytest.MonkeyPatch, azure_port: int) -> None:
    """Through Blob's own interface: the emulator has no other."""
    place = f"{use_azure(monkeypatch, azure_port)}/{uuid.uuid4().hex}"
    account = "abfss://tables@devstoreaccount1.dfs.core.windows.net"
    log = DeltaLog(place.replace("az://tables", account), AGENT_MESSAGES)
    log.create()
    assert log.append(codec.to_arrow([message(Ping(n=1))], 1)) == 1
    assert len(read_rows(log.uri)) == len(read_rows(place)) == 1


def test_a_store_that_ignores_the_condition_is_refused_and_stays_empty(place: str) -> None:
    class Careless(ObjectStore):
        def _create(self, path: str, data: bytes) -> None:
            self._put(path, data)

    store = Careless(place)
    with pytest.raises(UnfitStore, match="two writers could both believe to have won"):
        DeltaLog(store, AGENT_MESSAGES).create()
    assert store.list() == []


def test_what_a_commit_costs_in_requests(place: str) -> None:
    """Each takes milliseconds and is paid for: a lone writer asks for nothing it knows."""
    asked: list[str] = []

    class Counting(ObjectStore):
        def get(self, path: str) -> bytes | None:
            asked.append(f"get {path}")
            return super().get(path)

        def exists(self, path: str) -> bool:
            asked.append(f"head {path}")
            return super().exists(path)

        def _put(self, path: str, data: bytes) -> None:
            asked.append(f"put {path}")
            super()._put(path, data)

        def _create(self, path: str, data: bytes) -> None:
            asked.append(f"create {path}")
            super()._create(path, data)

        def _listed(self, prefix: str | None, offset: str | None) -> list[Any]:
            asked.append(f"list {prefix}")
            return super()._listed(prefix, offset)

    DeltaLog(place, AGENT_MESSAGES).create()
    # The tail looks once at the start and once after each commit, by HEAD alone, for there is never anything to get.
    bus = LogBus(DeltaLog(Counting(place, Pace(3600, 3600)), AGENT_MESSAGES))
    result(bus.submit([message(Ping(n=0))]))
    for n in range(1, 4):
        asked.clear()
        assert result(bus.submit([message(Ping(n=n))])) == n + 1
        own = [one.split("/")[0].split("=")[0] for one in asked if not one.startswith("head")]
        assert own == ["put date", "create _delta_log", "get _delta_log"], asked
    bus.close()


# --- several writers, and their deaths ---------------------------------------------------------------------------------


def test_of_two_that_handled_the_same_messages_one_is_heard(place: str) -> None:
    world = LogWorld(place)
    rivals = [world.bus(), world.bus()]
    asked = [message(Ping(n=n)) for n in range(6)]
    result(rivals[0].submit(asked))
    rivals[1].catch_up()
    tries = [
        rival.submit(
            [receipt_for(one, "Pinger", f"{one.message_id}-{n}"), output_of(one, "Pinger", f"{one.message_id}-{n}")]
        )
        for one in asked
        for n, rival in enumerate(rivals)
    ]
    errors = [error_of(one) for one in tries]
    assert Counter(map(type, errors)) == {type(None): 6, Superseded: 6}
    assert Counter(row["causation_id"] for row in world.receipts()) == {one.message_id: 1 for one in asked}
    assert {row["handling_id"] for row in world.of_kind("Pong")} == {row["handling_id"] for row in world.receipts()}
    for rival in rivals:
        rival.close()


@pytest.mark.parametrize(("place", "point"), [("s3", "entry_before"), ("azure", "entry_after")], indirect=["place"])
def test_a_host_killed_around_its_entry(tmp_path: Path, place: str, point: str) -> None:
    """The data file is there and the entry is not; the entry is there and nobody was told. With projections beside it."""
    crash_host.source(place).create()
    crash_host.events(place).create()
    hosts = Hosts(tmp_path, place)
    producer = Producer(place)
    try:
        dying = hosts.start(point, after=2)
        producer.send(4)
        until(lambda: hosts.died(dying) or (not producer.open and producer.send(2)), hosts)
        hosts.start()
        until(lambda: producer.open == 0, hosts)
        hosts.stop()
    finally:
        hosts.bury()
        producer.bus.close()
    check(place, producer.acknowledged)


@pytest.mark.parametrize("place", ["azure"], indirect=True)
def test_upkeep_and_whoever_slept_through_it(place: str) -> None:
    """Few files, a short log and a written state, read alike by deltalake; nobody wins a place in the cleaned past."""
    passed = [0]
    log = DeltaLog(place, AGENT_MESSAGES, now=lambda: datetime.now(UTC) + timedelta(seconds=passed[0]))
    log.create()
    limits = Limits(keep_s=10.0, checkpoint_every=4, fan_out=4)
    upkeep = Upkeep(log, Consumers(log), limits, Folding(Snapshots(log), lambda _: True))
    sleeper = DeltaLog(place, AGENT_MESSAGES)
    sent: list[Message] = []
    cleaned = Cleaned()
    for part in range(4):
        sent += (new := [message(Ping(n=4 * part + n)) for n in range(4)])
        for one in new:
            sleeper.append(codec.to_arrow([one], 0))
        cleaned.add(upkeep.run(force=True).cleaned)
        passed[0] += 1_000
    assert cleaned.entries > 4
    assert cleaned.files > 4
    assert not log.exists(1)
    assert not sleeper.put(2, codec.to_arrow([message(Ping(n=99))], 2)).won
    assert [row["message_id"] for row in read_rows(place)] == [one.message_id for one in sent]
    assert len(log.open().file_uris()) < len(sent)
    bus = LogBus(DeltaLog(place, AGENT_MESSAGES), snapshots=Snapshots(log))
    assert [one.message_id for one in bus.state.open_for("Pinger")] == [one.message_id for one in sent]
    result(bus.submit([message(Ping(n=16))]))
    bus.close()
    assert len(read_rows(place)) == 17


# --- a network that fails ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lost", ["question", "answer", "every answer once", "every answer"])
def test_a_connection_that_breaks_neither_loses_nor_repeats(
    monkeypatch: pytest.MonkeyPatch, s3_port: int, lost: str
) -> None:
    with Line(s3_port) as line:
        url = f"{use_s3(monkeypatch, line.port)}/{uuid.uuid4().hex}"
        world = LogWorld(url)
        bus = world.bus()
        result(bus.submit([message(Ping(n=0))]))
        line.breaks(lost)
        sent = [message(Ping(n=n)) for n in range(1, 4)]
        for one in sent:
            result(bus.submit([one]))
        assert line.broken
        assert [row["content"] for row in world.rows()] == [f'{{"n":{n}}}' for n in range(4)]
        assert world.table.head() == 4
        bus.close()


def test_a_store_that_is_gone_is_named_and_comes_back(monkeypatch: pytest.MonkeyPatch, s3_port: int) -> None:
    with Line(s3_port) as line:
        log = DeltaLog(
            ObjectStore(f"{use_s3(monkeypatch, line.port)}/{uuid.uuid4().hex}", sleep=lambda _: None), AGENT_MESSAGES
        )
        log.create()
        line.breaks("everything")
        with pytest.raises(StoreUnavailable, match="cannot be reached"):
            log.put(1, codec.to_arrow([message(Ping(n=1))], 1))
        line.breaks("nothing")
        assert log.append(codec.to_arrow([message(Ping(n=1))], 1)) == 1


async def test_a_host_lives_through_an_outage_that_takes_its_commit(
    monkeypatch: pytest.MonkeyPatch, s3_port: int
) -> None:
    """Longer than a put is tried for: the host's commit fails, the message stays its own, and is answered once."""
    with Line(s3_port) as line:
        place = f"{use_s3(monkeypatch, line.port)}/{uuid.uuid4().hex}"
        ours = ObjectStore(f"{place}/agent_messages", sleep=lambda _: None)
        use_s3(monkeypatch, s3_port)  # everybody else has another line
        world = LogWorld(place)
        worker = Pinger(gate=asyncio.Event())
        bus = world._opened(LogBus(DeltaLog(ours, AGENT_MESSAGES)))
        try:
            await world.host(worker, bus=bus)
            outside = world.bus()
            first, second = message(Ping(n=1)), message(Ping(n=2))
            await asyncio.wrap_future(outside.submit([first]))
            await eventually(lambda: worker.began, 30)
            line.breaks("everything")
            await asyncio.wrap_future(outside.submit([second]))
            worker.gate.set()
            with capture_logs() as said:
                await eventually(lambda: any(one["event"] == "host.commit_failed" for one in said), 30)
            assert world.receipts() == []
            line.breaks("nothing")
            await eventually(lambda: len(world.receipts()) == 2, 30)
        finally:
            line.breaks("nothing")
            await world.close()
        assert sorted(worker.ended) == [1, 2]
        for kind in ("Receipt", "Pong"):
            assert Counter(row["causation_id"] for row in world.of_kind(kind)) == {
                first.message_id: 1,
                second.message_id: 1,
            }


# --- errors are part of the product --------------------------------------------------------------------------------------


def test_a_bucket_that_is_not_there(place: str) -> None:
    with pytest.raises(StoreUnavailable, match="no such bucket or container; create it first"):
        DeltaLog(place.replace("//tables", "//elsewhere"), AGENT_MESSAGES).create()


def test_an_endpoint_without_tls_says_what_allows_it(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = "AWS" if place.startswith("s3") else "AZURE"
    monkeypatch.delenv(f"{kind}_ALLOW_HTTP")
    with pytest.raises(StoreUnavailable, match=f"{kind}_ALLOW_HTTP=true"):
        DeltaLog(place, AGENT_MESSAGES).create()


def test_a_wrong_key_is_refused_at_once(monkeypatch: pytest.MonkeyPatch, azure_port: int) -> None:
    url = use_azure(monkeypatch, azure_port)
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "bm90IHRoZSBrZXk=")
    with pytest.raises(StoreRefused, match=r"AZURE_\* environment variables"):
        DeltaLog(f"{url}/x", AGENT_MESSAGES).create()


# --- a home whose tables are elsewhere -----------------------------------------------------------------------------------


def test_a_home_finds_its_tables_again_without_the_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, azure_port: int
) -> None:
    url = f"{use_azure(monkeypatch, azure_port)}/{uuid.uuid4().hex}"
    home = tmp_path / "home"
    monkeypatch.setattr("jobs.init_home.load_sample", lambda *_: None)  # business data is not what this is about
    system = System(Settings.load(home=str(home), tables=url))
    assert not system.home.exists
    initialise(system, lambda _: None)
    assert not (home / "tables").exists()
    stranger = System(Settings.load(home=str(tmp_path / "stranger"), tables=url))
    with pytest.raises(InitFailed, match=r"another home's.*copy that home's keyring\.json"):
        initialise(stranger, lambda _: None)
    assert not stranger.home.root.exists()
    again = System(Settings.load(home=str(home)))
    assert again.home.exists
    with again.client("eli") as client:
        sent = client.send("RAGAgent", Ping(n=1))
    assert [row["message_id"] for row in read_rows(f"{url}/agent_messages")] == [sent.message_id]

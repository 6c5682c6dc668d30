"""The audit chain: facts of group commits, lost races and several writers each have their place, and none can be taken out."""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from bus.audit import GENESIS, AuditChain, fact_hash
from bus.keys import Keyring, Signer, create_keys
from bus.log.bus import LogBus
from bus.log.rows import from_arrow
from bus.log.seal import SigningSeal
from bus.log.table import DeltaLog
from schemas.envelope import Message
from schemas.payloads import AuditRecorded
from tests.unit.bus.logs import make_log, message, open_log

ENVIRONMENT, NOW = "dev", 1_767_225_600_000_000


def fact(name: str) -> Message:
    payload = AuditRecorded(action=name, decision="done")
    return message(
        name,
        from_agent="A",
        to_agent="*",
        message_type="event",
        kind="AuditRecorded",
        content=payload.model_dump_json(),
    )


def plain(name: str) -> Message:
    return message(name, from_agent="A", to_agent="B")


@pytest.fixture
def log(tmp_path: Path) -> DeltaLog:
    create_keys(tmp_path / "keys", {"A": ["A"]}, NOW)
    return make_log(tmp_path / "agent_messages")


def sealed_bus(log: DeltaLog, writer: str, **how: Any) -> LogBus:
    signer = Signer.load(log.path.parent / "keys", ["A"], log.check(), ENVIRONMENT)
    return LogBus(open_log(log.path), seal=SigningSeal(signer, AuditChain(writer)), **how)


def chains(log: DeltaLog) -> dict[str, list[Message]]:
    """Facts by writer in log order, each one's signature checked."""
    keyring, table_id = Keyring.load(log.path.parent / "keys"), log.check()
    found: dict[str, list[Message]] = defaultdict(list)
    for row in from_arrow(log.scan()[0]):
        keyring.check(row, table_id, ENVIRONMENT)
        if row.kind == "AuditRecorded":
            found[json.loads(row.content)["writer"]].append(row)
    return found


def check(log: DeltaLog) -> dict[str, int]:
    """Every chain from its beginning; returns how long each is."""
    lengths = {}
    for writer, facts in chains(log).items():
        previous = GENESIS
        for place, row in enumerate(facts, 1):
            said = json.loads(row.content)
            assert (said["sequence"], said["previous"]) == (place, previous), (writer, place)
            previous = fact_hash(row, log.check(), ENVIRONMENT)
        lengths[writer] = len(facts)
    return lengths


def test_several_facts_of_one_commit_are_chained(log: DeltaLog) -> None:
    bus = sealed_bus(log, "w", linger_ms=50)
    futures = [bus.submit([plain(f"p{n}"), fact(f"a{n}"), fact(f"b{n}")]) for n in range(10)]
    assert len({future.result(20) for future in futures}) < 10
    bus.close()
    assert check(log) == {"w": 20}


def test_facts_of_writers_that_race_keep_their_chains(log: DeltaLog) -> None:
    writers = [f"w{n}" for n in range(3)]
    buses = [sealed_bus(log, writer) for writer in writers]

    def write(bus: LogBus, writer: str) -> None:
        for n in range(15):
            bus.submit([fact(f"{writer}-{n}"), plain(f"{writer}-{n}-p")]).result(20)

    threads = [threading.Thread(target=write, args=pair) for pair in zip(buses, writers, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for bus in buses:
        bus.close()
    assert check(log) == dict.fromkeys(writers, 15)


def test_a_fact_whose_commit_lost_its_decision_leaves_no_hole(log: DeltaLog) -> None:
    bus, rival = sealed_bus(log, "w", linger_ms=30), sealed_bus(log, "rival")
    bus.submit([message("m", from_agent="A", to_agent="A")]).result(20)

    def receipt(handling: str) -> Message:
        return message(
            handling,
            causation_id="m",
            from_agent="A",
            to_agent="",
            message_type="receipt",
            kind="Receipt",
            handling_id=handling,
        )

    rival.catch_up()
    rival.submit([receipt("h1"), fact("kept")]).result(20)
    futures = [bus.submit([fact("one")]), bus.submit([receipt("h2"), fact("dropped")]), bus.submit([fact("two")])]
    assert [future.exception(20) is None for future in futures] == [True, False, True]
    bus.submit([fact("three")]).result(20)
    for one in (bus, rival):
        one.close()
    assert check(log) == {"rival": 1, "w": 3}


def test_a_failed_commit_leaves_no_hole(log: DeltaLog) -> None:
    from tests.unit.bus.logs import FullDisk

    bus = sealed_bus(log, "w")
    store = FullDisk(log.path, 1 << 30)
    bus.table.store = store
    bus.submit([fact("one")]).result(20)
    store.room = 0
    with pytest.raises(OSError, match="No space left"):
        bus.submit([fact("lost")]).result(20)
    store.room = 1 << 30
    bus.submit([fact("two")]).result(20)
    bus.close()
    assert check(log) == {"w": 2}


def test_the_check_finds_a_fact_that_was_taken_out(log: DeltaLog) -> None:
    bus = sealed_bus(log, "w")
    for n in range(3):
        bus.submit([fact(f"a{n}")]).result(20)
    bus.close()
    whole = chains(log)["w"]
    assert json.loads(whole[2].content)["previous"] == fact_hash(whole[1], log.check(), ENVIRONMENT)
    assert json.loads(whole[2].content)["previous"] != fact_hash(whole[0], log.check(), ENVIRONMENT)

"""Stores against a dictionary, and against networks that lose questions and answers: what is claimed to be won is won."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from obstore.store import MemoryStore

from bus.errors import StoreUnavailable
from bus.log import rows as codec
from bus.log.bus import LogBus
from bus.log.object_store import ObjectStore
from bus.log.store import LocalStore, Store
from bus.log.table import DeltaLog
from schemas.tables import AGENT_MESSAGES
from tests.unit.bus.logs import message

NAMES = st.sampled_from(["_delta_log/0.json", "_delta_log/1.json", "_delta_log/2.json", "date=2026-01-01/a", "b"])
BYTES = st.binary(max_size=8)
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("put_if_absent"), NAMES, BYTES),
        st.tuples(st.just("replace"), NAMES, BYTES),
        st.tuples(st.just("delete"), NAMES, st.just(b"")),
    ),
    max_size=25,
)
#: What becomes of a conditional put: done; not done, and an error; done, and an error; done, and tried again by the client.
FATES = st.lists(st.sampled_from(["done", "question lost", "answer lost", "tried again"]), max_size=4)


def in_memory(objects: MemoryStore, fates: Sequence[str] = ()) -> ObjectStore:
    """An object store without a network; `fates` of its conditional puts, one after the other, then all is well."""
    left = iter(fates)

    class Flaky(ObjectStore):
        def _create(self, path: str, data: bytes) -> None:
            fate = next(left, "done")
            if fate == "question lost":
                raise StoreUnavailable("the question was lost")
            super()._create(path, data)
            if fate == "answer lost":
                raise StoreUnavailable("the answer was lost")
            if fate == "tried again":
                super()._create(path, data)

    return Flaky("s3://bucket/place", sleep=lambda _: None, objects=objects)


#: A busy machine is no counterexample.
quickly = settings(deadline=None, max_examples=30)


@pytest.mark.parametrize("size", [0, 1, 32_767, 32_768, 32_769, 300_000])
def test_a_file_of_any_size_is_read_whole(tmp_path: Path, size: int) -> None:
    store = LocalStore(tmp_path)
    data = bytes(range(256)) * (size // 256 + 1)
    store.put("part", data[:size])
    assert store.get("part") == data[:size]


@pytest.mark.parametrize("kind", ["local", "object"])
@quickly
@given(operations=OPERATIONS)
def test_a_store_is_a_dictionary(kind: str, operations: list[tuple[str, str, bytes]]) -> None:
    model: dict[str, bytes] = {}
    with tempfile.TemporaryDirectory() as folder:
        store: Store = LocalStore(Path(folder)) if kind == "local" else in_memory(MemoryStore())
        for operation, name, data in operations:
            match operation:
                case "put_if_absent":
                    won = store.put_if_absent(name, data)
                    assert won == (name not in model) or (won and model[name] == data)
                    model.setdefault(name, data)
                case "replace":
                    store.replace(name, data)
                    model[name] = data
                case _:
                    store.delete(name)
                    model.pop(name, None)
        listed = [one for one in store.list() if not one.path.startswith("_tailrace/tmp/")]
        assert {one.path: one.size for one in listed} == {name: len(data) for name, data in model.items()}
        assert all(store.get(name) == data and store.exists(name) for name, data in model.items())
        assert store.get("nothing") is None
        for after in ("", "0.json", "1.json"):
            expected = {n.removeprefix("_delta_log/") for n in model if n.startswith("_delta_log/")}
            assert set(store.names("_delta_log", after)) == {name for name in expected if name > after}


@quickly
@given(first=FATES, second=FATES)
def test_whatever_gets_lost_one_of_two_wins_and_both_know(first: list[str], second: list[str]) -> None:
    objects = MemoryStore()
    won = [in_memory(objects, fates).put_if_absent("entry", data) for fates, data in ((first, b"1"), (second, b"2"))]
    assert won == [True, False]
    assert in_memory(objects).get("entry") == b"1"


@quickly
@given(fates=st.tuples(FATES, FATES), turns=st.lists(st.booleans(), min_size=1, max_size=8))
def test_whatever_gets_lost_each_row_is_in_the_log_once(fates: tuple[list[str], list[str]], turns: list[bool]) -> None:
    objects = MemoryStore()
    DeltaLog(in_memory(objects), AGENT_MESSAGES).create()
    writers = [DeltaLog(in_memory(objects, one), AGENT_MESSAGES) for one in fates]
    sent: list[str] = []
    for turn in turns:
        one = message()
        # Both from where the first began: the one that is late loses, and has to know.
        version = writers[turn].append(codec.to_arrow([one], 0))
        sent.append(one.message_id)
        assert version == len(sent)
        assert not writers[not turn].put(version, codec.to_arrow([message()], version)).won
    assert list(_ids(DeltaLog(in_memory(objects), AGENT_MESSAGES))) == sent


def _ids(log: DeltaLog) -> Iterator[str]:
    for _, rows in log.follow(-1):
        yield from rows.column("message_id").to_pylist()


def test_when_everything_gets_lost_nobody_claims_anything() -> None:
    objects = MemoryStore()
    store = in_memory(objects, ["question lost"] * 50)
    with pytest.raises(StoreUnavailable):
        store.put_if_absent("entry", b"1")
    assert in_memory(objects).list() == []


def test_an_answer_that_is_lost_for_good_is_no_failure() -> None:
    assert in_memory(MemoryStore(), ["answer lost"] * 50).put_if_absent("entry", b"1")


@pytest.mark.parametrize("seed", range(3))
def test_rivals_on_a_network_that_fails_write_everything_once(seed: int) -> None:
    """Each tries at once when it won last time, and most of that is lost to the others: nothing may come of it."""
    luck = random.Random(seed)
    objects = MemoryStore()
    DeltaLog(in_memory(objects), AGENT_MESSAGES).create()
    kinds = ["done", "done", "question lost", "answer lost", "tried again"]
    # Never so many failures in a row that a put is given up.
    fates = [[kind for _ in range(200) for kind in (luck.choice(kinds), "done")] for _ in range(3)]
    buses = [LogBus(DeltaLog(in_memory(objects, one), AGENT_MESSAGES), follow_only=True) for one in fates]
    sent = [message() for _ in range(120)]
    versions: list[int] = []
    for wave in range(0, len(sent), 6):
        under_way = [buses[place % 3].submit([one]) for place, one in enumerate(sent[wave : wave + 6])]
        versions += [one.result(60) for one in under_way]
    for bus in buses:
        bus.close()
    log = DeltaLog(in_memory(objects), AGENT_MESSAGES)
    there = {entry.version: rows.column("message_id").to_pylist() for entry, rows in log.follow(0)}
    assert sorted(one for rows in there.values() for one in rows) == sorted(one.message_id for one in sent)
    assert all(one.message_id in there[version] for one, version in zip(sent, versions, strict=True))
    assert list(there) == list(range(1, len(there) + 1))


@pytest.mark.parametrize("fate", ["done", "question lost", "answer lost", "tried again"])
def test_the_trial_of_a_store_is_no_trial_of_its_network(fate: str) -> None:
    objects = MemoryStore()
    in_memory(objects, [fate]).check()
    assert in_memory(objects).list() == []

"""Shared memory: the newest counts, time ends values, roles decide, and whoever comes later sees the same."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bus.errors import ContentTooLarge, LogMissing
from bus.log.table import DeltaLog
from bus.shared import STALE_ENDS, Asker, Rights, ScopeRefused, SharedMemory
from schemas.envelope import MAX_CONTENT, Message
from schemas.tables import AGENT_SHARED_MEMORY
from tests.unit.bus.logs import checkpoint_and_clean

ELI, ANA, ADA = (Asker("A", user) for user in ("eli", "ana", "ada"))


class Roles(Rights):
    def role_of(self, principal: str | None) -> str | None:
        return {"eli": "engineer", "ana": "analyst", "ada": "admin"}.get(principal or "")

    def manages(self, principal: str | None) -> bool:
        return principal == "ada"


class Moment:
    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


class Counted(DeltaLog):
    """Counts whole scans."""

    scans = 0

    def scan(self, columns: Any = None, filters: Any = None) -> Any:
        self.scans += 1
        return super().scan(columns, filters)


@pytest.fixture
def moment() -> Moment:
    return Moment()


@pytest.fixture
def log(tmp_path: Path, moment: Moment) -> Counted:
    made = Counted(tmp_path / "agent_shared_memory", AGENT_SHARED_MEMORY, now=moment)
    made.create()
    return made


def opened(log: DeltaLog, **how: Any) -> SharedMemory:
    return SharedMemory(Counted(log.path, AGENT_SHARED_MEMORY, now=log.now), Roles(), **how)


def test_the_newest_value_counts_for_everybody(log: Counted) -> None:
    first, second = opened(log), opened(log)
    assert first.get("s", "k", ELI) is None
    first.put("s", "k", {"n": 1}, ELI)
    assert second.get("s", "k", ANA) == {"n": 1}
    second.put("s", "k", [2], ANA)
    second.put("s", "other", None, ANA)
    second.put("t", "k", 3, ANA)
    assert first.get("s", "k", ELI) == [2]
    assert first.keys("s", ELI) == ["k", "other"]
    first.delete("s", "k", ELI)
    assert (second.get("s", "k", ELI), second.keys("s", ELI)) == (None, ["other"])
    assert opened(log).keys("t", ELI) == ["k"]


def test_a_value_is_over_after_its_time(log: Counted, moment: Moment) -> None:
    memory, other = opened(log), opened(log)
    memory.put("s", "day", 1, ELI)
    memory.put("s", "second", 2, ELI, kept=timedelta(seconds=1))
    moment.now += timedelta(seconds=1)
    assert memory.keys("s", ELI) == other.keys("s", ELI) == ["day"]
    moment.now += timedelta(hours=24)
    assert memory.get("s", "day", ELI) is other.get("s", "day", ELI) is None
    memory.put("s", "day", 3, ELI)
    assert other.get("s", "day", ELI) == 3


def test_an_older_value_does_not_come_back_when_the_newer_is_over(log: Counted, moment: Moment) -> None:
    memory = opened(log)
    memory.put("s", "k", "long", ELI)
    memory.put("s", "k", "short", ELI, kept=timedelta(seconds=1))
    moment.now += timedelta(seconds=2)
    assert memory.get("s", "k", ELI) is opened(log).get("s", "k", ELI) is None


def test_a_fact_counts_once(log: Counted) -> None:
    first, second = opened(log), opened(log)
    assert first.put("s", "k", 1, ELI, fact_id="f") is True
    second.put("s", "k", 2, ELI)
    assert second.put("s", "k", 1, ELI, fact_id="f") is False
    assert first.get("s", "k", ELI) == 2
    assert first.delete("s", "k", ELI, fact_id="f") is False


def test_reading_follows_the_log_and_never_scans_it_again(log: Counted) -> None:
    reader_log = Counted(log.path, AGENT_SHARED_MEMORY, now=log.now)
    reader, writer = SharedMemory(reader_log), opened(log)
    for n in range(20):
        writer.put("s", "k", n, ELI)
        assert reader.get("s", "k", ELI) == n
    assert reader_log.scans == 1
    checkpoint_and_clean(log)
    writer.put("s", "k", "on", ELI)
    assert reader.get("s", "k", ELI) == "on"
    assert reader_log.scans == 1


def test_whoever_slept_through_a_clean_up_reads_the_table_again(log: Counted) -> None:
    slept, writer = opened(log), opened(log)
    writer.put("s", "k", 1, ELI)
    assert slept.get("s", "k", ELI) == 1
    for n in range(5):
        writer.put("s", "k", n, ELI)
    writer.put("s", "gone", 1, ELI)
    checkpoint_and_clean(log)
    writer.put("s", "k", 9, ELI)
    assert slept.get("s", "k", ELI) == 9
    assert slept.keys("s", ELI) == ["gone", "k"]


def test_no_table_is_said_as_such(tmp_path: Path) -> None:
    with pytest.raises(LogMissing, match="tailrace init"):
        SharedMemory(DeltaLog(tmp_path / "nothing", AGENT_SHARED_MEMORY)).get("s", "k", ELI)


# --- rights ----------------------------------------------------------------------------------------------------------


def test_a_scope_names_roles_that_may_read_and_write(log: Counted) -> None:
    memory = opened(log)
    memory.put("s", "k", 1, ANA)
    memory.define("s", ["analyst"], ["engineer"], ADA)
    assert memory.get("s", "k", ANA) == 1
    memory.put("s", "k", 2, ELI)
    assert memory.get("s", "k", ELI) == 2  # who writes may read
    assert memory.keys("s", ADA) == ["k"]
    nobody = Asker("A", None)
    for refused in (
        lambda: memory.put("s", "k", 3, ANA),
        lambda: memory.delete("s", "k", ANA),
        lambda: memory.get("s", "k", nobody),
        lambda: memory.keys("s", Asker("A", "agent:A")),
        lambda: memory.define("s", ["*"], ["*"], ELI),
        lambda: memory.define("new", ["*"], ["*"], ANA),
    ):
        with pytest.raises(ScopeRefused):
            refused()
    memory.define("s", ["*"], ["engineer"], ADA)
    assert memory.get("s", "k", nobody) == 2


def test_what_was_written_past_the_rights_does_not_count(log: Counted) -> None:
    opened(log).define("s", ["*"], ["engineer"], ADA)
    careless = SharedMemory(Counted(log.path, AGENT_SHARED_MEMORY, now=log.now), Everything())
    careless.put("s", "k", "mine", ANA)
    careless.define("t", [], [], ANA)
    careless.put("u", "k", "theirs", Asker("user:ana", "eli"))
    memory = opened(log)
    assert memory.get("s", "k", ELI) is None
    memory.put("t", "k", 1, ELI)
    assert memory.get("u", "k", ELI) is None


class Everything(Rights):
    def manages(self, principal: str | None) -> bool:
        return True


def test_what_nobody_signed_does_not_count(log: Counted) -> None:
    def sign(row: Message) -> Message:
        return row.model_copy(update={"key_id": "host-main", "signature": f"of {hash(row.content)}"})

    def accept(row: Message) -> bool:
        return row.signature == f"of {hash(row.content)}"

    opened(log).put("s", "forged", 1, ELI)
    signing = opened(log, sign=sign, accept=accept)
    signing.put("s", "k", {"ä": [1, None]}, ELI, message_id="m")
    signing.delete("s", "old", ELI)
    checking = opened(log, accept=accept)
    assert checking.keys("s", ELI) == signing.keys("s", ELI) == ["k"]
    assert checking.get("s", "k", ELI) == {"ä": [1, None]}


def test_rows_that_make_no_sense_do_not_count(log: Counted) -> None:
    memory = opened(log)
    memory.put("s", "k", 1, ELI)
    row = {"fact_id": "f", "scope": "s", "key": "k", "value": "2", "writer": "A", "timestamp": 1, "expires_at": None}
    for n, wrong in enumerate(
        (
            {"value": "no json"},
            {"scope": None},
            {"key": None},
            {"fact_id": None},
            {"fact_id": "x" * 200},
            {"writer": ""},
        )
    ):
        bad = {**row, "fact_id": f"f{n}", **wrong}
        log.append(pa.Table.from_pylist([bad], schema=AGENT_SHARED_MEMORY.file_schema))
    assert memory.get("s", "k", ELI) == opened(log).get("s", "k", ELI) == 1


# --- values ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [float("nan"), {1, 2}, b"x", "\ud800", object()])
def test_what_is_no_json_is_refused(log: Counted, value: Any) -> None:
    with pytest.raises(ValueError, match="no JSON"):
        opened(log).put("s", "k", value, ELI)


def test_a_value_over_the_limit_is_refused(log: Counted) -> None:
    with pytest.raises(ContentTooLarge, match="reference"):
        opened(log).put("s", "k", "ü" * (MAX_CONTENT // 2), ELI)


@pytest.mark.parametrize(("scope", "key"), [("", "k"), ("s", ""), ("s" * 501, "k"), ("s", "k" * 501)])
def test_names_are_neither_empty_nor_endless(log: Counted, scope: str, key: str) -> None:
    with pytest.raises(ValueError, match="1 to 500"):
        opened(log).put(scope, key, 1, ELI)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, 1), st.sampled_from("ab"), st.integers(0, 9), st.integers(1, 5)),
        st.tuples(st.just("delete"), st.integers(0, 1), st.sampled_from("ab")),
        st.tuples(st.just("pass"), st.integers(0, 3)),
    ),
    max_size=12,
)


@settings(deadline=None, max_examples=25)
@given(steps=STEPS)
def test_all_processes_agree_with_a_dictionary(tmp_path_factory: pytest.TempPathFactory, steps: list[Any]) -> None:
    moment = Moment()
    log = DeltaLog(tmp_path_factory.mktemp("m") / "t", AGENT_SHARED_MEMORY, now=moment)
    log.create()
    memories = [SharedMemory(DeltaLog(log.path, AGENT_SHARED_MEMORY, now=moment)) for _ in range(2)]
    model: dict[str, tuple[int, datetime]] = {}
    for step in steps:
        match step:
            case "put", who, key, value, seconds:
                memories[who].put("s", key, value, ELI, kept=timedelta(seconds=seconds))
                model[key] = (value, moment.now + timedelta(seconds=seconds))
            case "delete", who, key:
                memories[who].delete("s", key, ELI)
                model.pop(key, None)
            case "pass", seconds:
                moment.now += timedelta(seconds=seconds)
        expected = {key: value for key, (value, ends) in model.items() if ends > moment.now}
        for memory in memories:
            assert {key: memory.get("s", key, ELI) for key in memory.keys("s", ELI)} == expected


def test_several_writers_at_once_lose_nothing_and_agree(log: Counted) -> None:
    memories = [opened(log) for _ in range(4)]

    def write(who: int) -> None:
        for n in range(4):
            memories[who].put("s", f"{who}-{n}", n, ELI)
            memories[who].put("s", "last", [who, n], ELI)
            memories[who].put("s", "once", who, ELI, fact_id=f"once-{n}")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    late = opened(log)
    assert len(late.keys("s", ELI)) == 4 * 4 + 2
    for key in ("last", "once"):
        assert {str(memory.get("s", key, ELI)) for memory in memories} == {str(late.get("s", key, ELI))}
    found, _ = log.scan()
    assert sum(str(fact).startswith("once-") for fact in found.column("fact_id").to_pylist()) == 4


def test_a_key_that_is_written_again_and_again_leaves_nothing_behind(log: Counted, moment: Moment) -> None:
    memory = opened(log)
    memory.put("s", "first", 0, ELI)
    (row,) = log.scan()[0].to_pylist()
    far = row["expires_at"]
    for batch in range(4):
        facts = [
            row | {"fact_id": f"f{batch}-{n}", "key": "busy", "value": f"{n}", "expires_at": far + timedelta(seconds=n)}
            for n in range(2_000)
        ]
        log.append(pa.Table.from_pylist(facts, schema=log.schema.file_schema))
    assert memory.get("s", "busy", ELI) == 1_999
    assert len(memory._ends) <= STALE_ENDS + 5
    moment.now += timedelta(hours=24, seconds=1)
    assert (memory.get("s", "first", ELI), memory.get("s", "busy", ELI)) == (None, 1_999)
    moment.now += timedelta(seconds=2_000)
    assert memory.keys("s", ELI) == []
    memory.put("s", "last", 1, ELI)
    assert list(memory._facts["s"]) == ["last"]

"""A place that fails, and writers who are not us: said clearly, nothing half written, nothing touched, and then on."""

from __future__ import annotations

import errno
import json
import os
import resource
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import stamina

from bus.errors import ForeignLog
from bus.log import rows as codec
from bus.log.bus import LogBus
from bus.log.store import LocalStore
from bus.log.table import DeltaLog
from schemas.envelope import Message
from schemas.tables import AGENT_MESSAGES
from tests.contract.harness import LogWorld, Ping, error_of, message, read_rows, result
from tests.unit.bus.logs import files

MUCH = "x" * 200_000


def ids(world: LogWorld) -> list[str]:
    return [row["message_id"] for row in world.rows()]


def everything(folder: Path) -> dict[str, bytes]:
    """Without the empty files that a writer keeps for its next commit."""
    return {name: (folder / name).read_bytes() for name in files(folder)}


def large() -> Message:
    return message(Ping(n=0)).model_copy(update={"content": json.dumps({"n": 0, "more": MUCH})})


# --- a full disk, a disk that may only be read -------------------------------------------------------------------------


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[Callable[[str], None]]:
    """A small disk of its own; yields how to mount it anew with other options."""
    folder.mkdir()

    def mount(options: str) -> None:
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True, capture_output=True)

    try:
        mount(options)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a disk of its own needs the right to mount one")
    try:
        yield lambda options: mount(f"remount,{options}")
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_refuses_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "size=512k"):
        world = LogWorld(tmp_path / "disk")
        bus = world.bus()
        acknowledged: list[str] = []
        error: BaseException | None = None
        while error is None:
            one = large()
            error = error_of(bus.submit([one]))
            acknowledged += [one.message_id] if error is None else []
        assert isinstance(error, OSError)
        assert error.errno == errno.ENOSPC
        assert ids(world) == acknowledged
        before = everything(tmp_path / "disk")
        assert isinstance(error_of(bus.submit([large()])), OSError)
        assert everything(tmp_path / "disk") == before, "a refused append leaves nothing, whole or half"
        subprocess.run(["mount", "-o", "remount,size=2m", str(tmp_path / "disk")], check=True)
        late = large()
        result(bus.submit([late]))
        assert ids(world) == [*acknowledged, late.message_id]
        bus.close()


@contextmanager
def longest_file(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_write_that_the_system_cuts_off_leaves_nothing(tmp_path: Path) -> None:
    """The same without the right to mount: the system itself writes half of the file, and then says no."""
    world = LogWorld(tmp_path)
    bus = world.bus()
    first = message(Ping(n=1))
    result(bus.submit([first]))
    before = everything(tmp_path)
    with longest_file(100_000):
        error = error_of(bus.submit([large()]))
        assert isinstance(error, OSError)
        assert error.errno == errno.EFBIG
        assert everything(tmp_path) == before
        second = message(Ping(n=2))
        result(bus.submit([second]))
    assert ids(world) == [first.message_id, second.message_id]
    bus.close()


def test_a_folder_that_may_only_be_read_is_read_and_nothing_else(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "size=1m") as remount:
        world = LogWorld(tmp_path / "disk")
        bus = world.bus()
        first = message(Ping(n=1))
        result(bus.submit([first]))
        before = everything(tmp_path / "disk")
        remount("ro")
        error = error_of(bus.submit([message(Ping(n=2))]))
        assert isinstance(error, OSError)
        assert error.errno == errno.EROFS
        reader = LogBus(DeltaLog(tmp_path / "disk" / "agent_messages", AGENT_MESSAGES))
        assert [m.message_id for m in reader.state.open_for("Pinger")] == [first.message_id]
        reader.close()
        assert everything(tmp_path / "disk") == before
        remount("rw")
        result(bus.submit([message(Ping(n=3))]))
        assert len(world.rows()) == 2
        bus.close()


# --- a listing with a gap, and a log with one --------------------------------------------------------------------------


class Forgetful(LocalStore):
    """Its listings leave out what `forgets` says, as a folder's may while files come."""

    def __init__(self, root: Path, forgets: Callable[[str], bool]) -> None:
        super().__init__(root)
        self._forgets = forgets

    def names(self, folder: str, after: str = "") -> Sequence[str]:
        return [name for name in super().names(folder, after) if not self._forgets(name)]


@pytest.mark.parametrize(
    "forgets",
    [
        pytest.param(lambda name: name.endswith("2.json"), id="the middle"),
        pytest.param(lambda name: name.endswith(("4.json", "5.json")), id="the newest"),
        pytest.param(lambda name: int(name[:20]) % 2 == 1, id="every other"),
        pytest.param(lambda name: name.endswith("0.json"), id="the first"),
    ],
)
def test_a_listing_with_a_gap_misleads_nobody(tmp_path: Path, forgets: Callable[[str], bool]) -> None:
    world = LogWorld(tmp_path)
    sent = [message(Ping(n=n)) for n in range(5)]
    for one in sent:
        world.table.append(codec.to_arrow([one], 0))
    log = DeltaLog(Forgetful(world.table.path, forgets), AGENT_MESSAGES)
    assert log.head() == 5
    bus = LogBus(log)
    assert [m.message_id for m in bus.state.open_for("Pinger")] == [m.message_id for m in sent]
    assert result(bus.submit([message(Ping(n=5))])) == 6
    bus.close()


def test_an_entry_that_somebody_deleted_is_named_and_its_place_is_not_taken(tmp_path: Path) -> None:
    """Deleted for ever, so that waiting for it is in vain; the waiting is left out here."""
    world = LogWorld(tmp_path)
    for n in range(4):
        world.table.append(codec.to_arrow([message(Ping(n=n))], 0))
    os.unlink(world.table.path / "_delta_log" / f"{2:020d}.json")
    before = everything(tmp_path)
    with stamina.set_testing(True, attempts=3), pytest.raises(ForeignLog, match="restore it from a backup"):
        LogBus(DeltaLog(world.table.path, AGENT_MESSAGES))
    assert everything(tmp_path) == before


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"version":"?"}', b'{"version":null}'])
def test_a_spoilt_hint_of_the_checkpoint_is_done_without(tmp_path: Path, text: bytes) -> None:
    world = LogWorld(tmp_path)
    for n in range(3):
        world.table.append(codec.to_arrow([message(Ping(n=n))], 0))
    world.table.open().create_checkpoint()
    world.table.append(codec.to_arrow([message(Ping(n=3))], 0))
    (world.table.path / "_delta_log" / "_last_checkpoint").write_bytes(text)
    log = DeltaLog(world.table.path, AGENT_MESSAGES)
    assert (log.checkpoint_version(), log.head()) == (3, 4)
    assert log.check() == world.table.check()
    bus = LogBus(log)
    assert result(bus.submit([message(Ping(n=4))])) == 5
    bus.close()


# --- a clock that goes back --------------------------------------------------------------------------------------------


def test_a_clock_that_goes_back_changes_no_order(tmp_path: Path) -> None:
    world = LogWorld(tmp_path)
    start = datetime(2026, 3, 1, 0, 0, 5, tzinfo=UTC)
    times = [start, start - timedelta(seconds=10), start - timedelta(days=40), start + timedelta(days=1), start]
    sent = []
    for time in times:
        log = DeltaLog(world.table.path, AGENT_MESSAGES, now=lambda time=time: time)
        bus = LogBus(log)
        sent.append(message(Ping(n=len(sent)), conversation="c", timestamp=int(time.timestamp() * 1_000_000)))
        assert result(bus.submit([sent[-1]])) == len(sent)
        bus.close()
    expected = [m.message_id for m in sent]
    assert ids(world) == expected
    assert [row["date"].isoformat() for row in world.rows()] == [time.date().isoformat() for time in times]
    bus = LogBus(DeltaLog(world.table.path, AGENT_MESSAGES))
    assert [m.message_id for m in bus.state.open_for("Pinger")] == expected
    assert [m.message_id for m in bus.conversation("c")] == expected
    bus.close()


# --- other writers -----------------------------------------------------------------------------------------------------


def changed(metadata: dict[str, Any], how: str) -> dict[str, Any]:
    schema = json.loads(metadata["schemaString"])
    configuration = dict(metadata["configuration"])
    partition = list(metadata["partitionColumns"])
    match how:
        case "a column more":
            schema["fields"].append({"name": "extra", "type": "string", "nullable": True, "metadata": {}})
        case "a column less":
            schema["fields"].pop()
        case "another type":
            next(f for f in schema["fields"] if f["name"] == "priority")["type"] = "string"
        case "not append-only":
            configuration["delta.appendOnly"] = "false"
        case "other partitions":
            partition = ["kind"]
    return {
        **metadata,
        "schemaString": json.dumps(schema),
        "configuration": configuration,
        "partitionColumns": partition,
    }


METADATA = ["a column more", "a column less", "another type", "not append-only", "other partitions"]
PROTOCOLS = {
    "deletion vectors": {
        "minReaderVersion": 3,
        "minWriterVersion": 7,
        "readerFeatures": ["deletionVectors"],
        "writerFeatures": ["deletionVectors", "appendOnly", "invariants", "tailraceLog"],
    },
    "row tracking": {
        "minReaderVersion": 1,
        "minWriterVersion": 7,
        "writerFeatures": ["rowTracking", "domainMetadata", "appendOnly", "invariants", "tailraceLog"],
    },
}


@pytest.mark.parametrize("how", [*METADATA, *PROTOCOLS])
def test_a_table_that_another_writer_changed_is_refused_and_left_alone(tmp_path: Path, how: str) -> None:
    """By whoever is writing already, and by whoever opens it then."""
    world = LogWorld(tmp_path)
    bus = world.bus()
    result(bus.submit([message(Ping(n=1))]))
    _, metadata = world.table.definition()
    action = {"protocol": PROTOCOLS[how]} if how in PROTOCOLS else {"metaData": changed(dict(metadata), how)}
    entry = world.table.path / "_delta_log" / f"{2:020d}.json"
    entry.write_text(json.dumps(action))
    before = everything(tmp_path)
    error = error_of(bus.submit([message(Ping(n=2))]))
    assert isinstance(error, ForeignLog), error
    assert "othing was written" in str(error)
    for opens in (
        lambda: LogBus(DeltaLog(world.table.path, AGENT_MESSAGES)),
        DeltaLog(world.table.path, AGENT_MESSAGES).create,
    ):
        with pytest.raises(ForeignLog, match="othing was written"):
            opens()
    assert everything(tmp_path) == before
    bus.close()


def test_what_was_there_before_another_writer_came_is_still_read(tmp_path: Path) -> None:
    world = LogWorld(tmp_path)
    first = message(Ping(n=1))
    world.table.append(codec.to_arrow([first], 1))
    (world.table.path / "_delta_log" / f"{2:020d}.json").write_text(json.dumps({"protocol": PROTOCOLS["row tracking"]}))
    assert [row["message_id"] for row in read_rows(world.table.uri)] == [first.message_id]

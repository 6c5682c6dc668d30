"""Old days in an archive in an object store, while the table is in a folder: read as one log, and named when spoilt."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bus.errors import MissingArchive, StoreUnavailable, UnreadableArchive
from bus.fold import State
from bus.log import retention
from bus.log import rows as codec
from bus.log.object_store import ObjectStore
from bus.log.table import DeltaLog
from jobs.replay.history import History
from jobs.replay.request import ReplayRequest
from schemas.tables import AGENT_MESSAGES
from tests.contract.emulators import use_azure, use_s3
from tests.contract.harness import Ping, message
from tests.contract.test_handling import receipt_for

#: Installing azurite, once, takes most of a minute.
pytestmark = pytest.mark.timeout(300)

DAY = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture(params=["s3", "azure"])
def archive(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    port = request.getfixturevalue(f"{request.param}_port")
    return f"{(use_s3 if request.param == 's3' else use_azure)(monkeypatch, port)}/{uuid.uuid4().hex}"


@pytest.fixture
def log(tmp_path: Path, archive: str) -> DeltaLog:
    """Four days, of which two have left."""
    days = [DAY]
    log = DeltaLog(tmp_path / "agent_messages", AGENT_MESSAGES, now=lambda: days[-1])
    log.create()
    for day in range(4):
        days.append(DAY + timedelta(days=day))
        asked = message(Ping(n=day), conversation=f"c{day}", message_id=f"m{day}")
        for row in (asked, receipt_for(asked, "Pinger", f"r{day}")):
            version = log.head() + 1
            assert log.put(version, codec.to_arrow([row], version)).won
    retention.retain(log, 1, archive, state=State())
    return log


def found(log: DeltaLog, **request: str) -> list[tuple[str, bool]]:
    history = History(log, lambda _: True, ReplayRequest(**request), 0, None)
    return [(one.message.message_id, one.from_archive) for one in history.recordings()]


def test_it_is_read_as_one_log_and_named_when_spoilt(log: DeltaLog, archive: str) -> None:
    assert found(log) == [("m0", True), ("m1", True), ("m2", False), ("m3", False)]
    assert found(log, until="2") == found(log, correlation_id="c0") == [("m0", True)]
    store = ObjectStore(f"{archive}/agent_messages")
    (file,) = (one.path for one in store.list() if one.path.startswith("date=2026-01-01/"))
    whole = store.get(file)
    assert whole is not None
    store.replace(file, whole[:2000])
    with pytest.raises(UnreadableArchive, match=f"a file that cannot be read, {file}: "):
        found(log)
    store.delete(file)
    with pytest.raises(UnreadableArchive, match=f"has lost the file {file}"):
        found(log)
    for one in store.list():
        store.delete(one.path)
    with pytest.raises(MissingArchive, match=f"the archive {archive}/agent_messages, and it is not there"):
        found(log)
    assert found(log, correlation_id="c3") == [("m3", False)]


@pytest.mark.parametrize("archive", ["azure"], indirect=True)
def test_a_store_that_does_not_answer_is_not_a_spoilt_archive(
    log: DeltaLog, archive: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", "http://127.0.0.1:9/devstoreaccount1")
    with pytest.raises(StoreUnavailable):
        found(log)

"""An archive belongs to one table: two tables number their commits alike, and would replace each other's rows."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from deltalake import DeltaTable

from bus.errors import MissingArchive
from bus.fold import State
from bus.log import retention
from bus.log.table import DeltaLog, utc_now
from schemas.tables import AGENT_MESSAGES
from tests.unit.bus.logs import append, ids, make_log, message


def with_old_rows(folder: Path, *names: str) -> DeltaLog:
    """As its upkeep sees it five days later."""
    log = make_log(folder)
    for name in names:
        append(log, message(name))
    return DeltaLog(folder, AGENT_MESSAGES, now=lambda: utc_now() + timedelta(days=5))


def in_archive(archive: Path) -> list[str]:
    return DeltaTable(str(archive / "agent_messages")).to_pyarrow_table().column("message_id").to_pylist()


def test_an_archive_says_whose_it_is(tmp_path: Path) -> None:
    log = with_old_rows(tmp_path / "one", "m1", "m2")
    retention.retain(log, 1, tmp_path / "archive", state=State())
    said = DeltaTable(str(tmp_path / "archive" / "agent_messages")).metadata().description
    assert said == f"old days of the table {log.check()}"
    assert sorted(in_archive(tmp_path / "archive")) == ["m1", "m2"]


def test_a_table_keeps_its_days_from_the_archive_of_another(tmp_path: Path) -> None:
    one, other = (with_old_rows(tmp_path / name, name) for name in ("one", "other"))
    retention.retain(one, 1, tmp_path / "archive", state=State())
    with pytest.raises(MissingArchive, match=f"holds days of another table .{one.check()}.: each home needs"):
        retention.retain(other, 1, tmp_path / "archive", state=State())
    assert in_archive(tmp_path / "archive") == ["one"]
    assert ids(other) == ["other"]
    assert retention.archives(other) == {}


def test_the_archive_of_another_is_not_read_as_its_own(tmp_path: Path) -> None:
    one, other = (with_old_rows(tmp_path / name, name) for name in ("one", "other"))
    for log, archive in ((one, "archive"), (other, "another")):
        retention.retain(log, 1, tmp_path / archive, state=State())
    (tmp_path / "archive").rename(tmp_path / "elsewhere")
    (tmp_path / "another").rename(tmp_path / "archive")
    with pytest.raises(MissingArchive, match=f"holds days of another table .{other.check()}"):
        retention.older(one)

"""Upkeep that comes after one that died, with more to read than it reads at once."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from bus.log import contents
from bus.log import rows as codec
from bus.log.consumers import Consumers
from bus.log.entry import Added
from bus.log.snapshot import Snapshots
from bus.log.table import DeltaLog
from bus.log.upkeep import Folding, Limits, Upkeep
from tests.unit.bus.logs import append, ids, make_log, message


def upkeep(log: DeltaLog, checkpoint_every: int) -> Upkeep:
    limits = Limits(keep_s=0.0, checkpoint_every=checkpoint_every, fan_out=4)
    return Upkeep(log, Consumers(log), limits, Folding(Snapshots(log), lambda _: True))


def test_what_another_compacted_far_ahead_is_no_reason_to_give_up_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It died after its compactions and before its checkpoint: their entries stand far above the files they removed."""
    monkeypatch.setattr("bus.log.upkeep.BATCH", 10)
    log = make_log(tmp_path)
    sent = [f"m{n:02}" for n in range(40)]
    for one in sent:
        append(log, message(one))
    upkeep(log, checkpoint_every=1_000).run()
    assert log.checkpoint_version() is None
    assert len(contents.load(log).files) < 10
    after = upkeep(log, checkpoint_every=20)
    after.run(force=True)
    assert ids(log) == sent
    assert log.checkpoint_version() == log.head()
    append(log, message("later"))
    after.run(force=True)
    assert ids(log) == [*sent, "later"]
    assert len(contents.load(log).files) < 10


def test_files_go_also_while_writers_are_so_fast_that_a_pass_finds_no_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bus.log.upkeep.BATCH", 10)
    log = make_log(tmp_path)
    on_disk: list[int] = []

    def commit_more(_: object) -> None:
        """For every entry that upkeep reads, another one comes."""
        if len(on_disk) < 200:
            append(log, message(f"m{len(on_disk)}"))
            on_disk.append(sum(1 for _ in tmp_path.rglob("*.parquet")))

    for n in range(20):
        append(log, message(f"first{n}"))
    limits = Limits(keep_s=0.0, checkpoint_every=20, fan_out=4)
    Upkeep(log, Consumers(log), limits, Folding(Snapshots(log), lambda _: True, commit_more)).run()
    assert len(on_disk) == 200
    assert max(on_disk) < 150
    assert len(ids(log)) == 220


def test_whoever_fell_behind_reads_entries_not_their_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It cannot hold in memory all that it read; a file of one row costs ten times what its entry does."""
    monkeypatch.setattr("bus.log.upkeep.HELD", 0)
    log = make_log(tmp_path)
    sent = [f"m{n:02}" for n in range(30)]
    for version, one in enumerate(sent, 1):
        assert log.put_encoded(version, codec.encode([message(one)], version, [])).won
    read: list[str] = []
    real = DeltaLog.read_file

    def counted(self: DeltaLog, one: Added) -> pa.Table:
        read.append(one.path)
        return real(self, one)

    monkeypatch.setattr(DeltaLog, "read_file", counted)
    upkeep(log, checkpoint_every=1_000).run()
    assert len(contents.load(log).files) < 10
    assert not [path for path in read if "part-" in path]
    assert ids(log) == sent

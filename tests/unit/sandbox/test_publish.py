"""Publishing: whole or not at all, at the very version that was previewed, whatever the sandbox left and whenever it dies."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from workers.adapters.sandbox import history, publish
from workers.adapters.sandbox.commits import entry_path
from workers.adapters.sandbox.publish import Mark, Staged
from workers.ports import Outcome, OutcomeUnknown, StatementFailed, StatementRefused

MARK = Mark("grant-1", "0" * 64)
PLACE = Path("stage-1", "table")
ROOT = Path(__file__).parents[3]


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    (tmp_path / "scratch" / "stage-1").mkdir(parents=True)
    return tmp_path / "scratch"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A table at version 0 with two rows."""
    path = tmp_path / "warehouse" / "results" / "t"
    write_deltalake(str(path), pa.table({"k": [1, 2]}))
    return path


def stage(scratch: Path, path: Path) -> DeltaTable:
    """What the sandbox makes of the table: its version as a version 0 of its own, with links to its files."""
    folder = scratch / PLACE
    shutil.copytree(path, folder)
    for file in folder.glob("*.parquet"):
        file.unlink()
        file.symlink_to(path / file.name)
    return DeltaTable(str(folder))


def rows(path: Path) -> list[int]:
    return sorted(DeltaTable(str(path)).to_pyarrow_table()["k"].to_pylist())


def files(folder: Path) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())


def forge(scratch: Path, change: Any) -> None:
    """Change the staged entry the way a sandbox in other hands could."""
    place = entry_path(scratch / PLACE, 1)
    actions = [json.loads(line) for line in place.read_text().splitlines()]
    change(actions)
    place.write_text("\n".join(map(json.dumps, actions)))


def of(kind: str, actions: list[dict]) -> dict[str, Any]:
    return next(action[kind] for action in actions if kind in action)


def test_a_new_table_appears_with_its_first_version(scratch: Path, tmp_path: Path) -> None:
    write_deltalake(str(scratch / PLACE), pa.table({"k": [1, 2]}))
    path = tmp_path / "warehouse" / "results" / "new"

    version = publish.publish(Staged(scratch, PLACE), path, None, "create", MARK)

    assert (version, rows(path)) == (0, [1, 2])
    assert history.outcome_at(path, "results.new", "grant-1") == Outcome("results.new", 0)
    assert list((tmp_path / "warehouse" / ".new").iterdir()) == []


@pytest.mark.parametrize("there", ["empty folder", "files", "table"])
def test_what_is_at_the_place_of_a_new_table_stays(scratch: Path, tmp_path: Path, there: str) -> None:
    write_deltalake(str(scratch / PLACE), pa.table({"k": [1, 2]}))
    path = tmp_path / "warehouse" / "results" / "new"
    path.mkdir(parents=True)
    if there == "empty folder":
        assert publish.publish(Staged(scratch, PLACE), path, None, "create", MARK) == 0
        return
    (path / "x").write_text("x") if there == "files" else write_deltalake(str(path), pa.table({"k": [7]}))
    before = files(path)

    with pytest.raises(StatementRefused) as refused:
        publish.publish(Staged(scratch, PLACE), path, None, "create", MARK)

    assert refused.value.rule == "grant.dry_run_changed"
    assert files(path) == before


def test_a_change_is_the_next_version_with_the_mark(scratch: Path, path: Path) -> None:
    stage(scratch, path).delete("k = 1")

    version = publish.publish(Staged(scratch, PLACE), path, 0, "delete", MARK)

    newest = DeltaTable(str(path)).history(1)[0]
    assert (version, rows(path)) == (1, [2])
    assert json.loads(newest["userMetadata"])["grant_id"] == "grant-1"
    assert newest["operationMetrics"]["num_deleted_rows"] == 1
    assert DeltaTable(str(path), version=0).to_pyarrow_table().num_rows == 2
    assert not any(file.is_symlink() for file in path.rglob("*"))


def test_a_change_of_nothing_leaves_the_mark(scratch: Path, path: Path) -> None:
    stage(scratch, path)

    assert publish.publish(Staged(scratch, PLACE), path, 0, "update", MARK) == 1
    assert rows(path) == [1, 2]
    assert history.outcome_at(path, "results.t", "grant-1") == Outcome("results.t", 1)


def test_a_version_in_between_refuses_it_and_leaves_no_file(scratch: Path, path: Path) -> None:
    stage(scratch, path).delete("k = 1")
    write_deltalake(str(path), pa.table({"k": [3]}), mode="append")
    before = files(path)

    with pytest.raises(StatementRefused) as refused:
        publish.publish(Staged(scratch, PLACE), path, 0, "delete", MARK)

    assert refused.value.rule == "grant.dry_run_changed"
    assert files(path) == before


def test_a_version_that_lands_at_the_last_moment_refuses_it_too(
    scratch: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage(scratch, path).delete("k = 1")
    commit = publish.commit

    def late(*arguments: Any) -> int:
        write_deltalake(str(path), pa.table({"k": [3]}), mode="append")
        return commit(*arguments)

    monkeypatch.setattr(publish, "commit", late)  # the one moment that no test could hit otherwise

    with pytest.raises(StatementRefused) as refused:
        publish.publish(Staged(scratch, PLACE), path, 0, "delete", MARK)

    assert refused.value.rule == "grant.dry_run_changed"
    assert rows(path) == [1, 2, 3]
    assert len(list(path.glob("*.parquet"))) == 2


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("delete", lambda actions: of("remove", actions).update(path="part-other.parquet")),
        ("delete", lambda actions: of("remove", actions).update(path="../../tpch/nation/part.parquet")),
        ("delete", lambda actions: of("add", actions).update(path="../../../keys/secret.txt")),
        ("delete", lambda actions: of("add", actions).update(path="%2e%2e/%2e%2e/secret.txt")),
        ("delete", lambda actions: of("add", actions).update(path="/etc/passwd")),
        ("delete", lambda actions: of("add", actions).update(path="file:///etc/passwd")),
        ("delete", lambda actions: of("add", actions).update(path="_delta_log/00000000000000000001.json")),
        ("delete", lambda actions: of("add", actions).update(deletionVector={"storageType": "u"})),
        ("delete", lambda actions: actions.append({"metaData": {"schemaString": "{}"}})),
        ("delete", lambda actions: actions.append({"protocol": {"minReaderVersion": 3, "minWriterVersion": 7}})),
        ("delete", lambda actions: actions.append({"domainMetadata": {"domain": "x"}})),
        ("delete", lambda actions: actions.append({"cdc": {"path": "../../x"}})),
    ],
)  # fmt: skip
def test_what_an_entry_may_not_say(scratch: Path, path: Path, tmp_path: Path, kind: str, change: Any) -> None:
    """The entry is the word of a process in which other people's SQL runs."""
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "secret.txt").write_text("secret")
    stage(scratch, path).delete("k = 1")
    forge(scratch, change)
    before = files(tmp_path / "warehouse")

    with pytest.raises(StatementRefused) as refused:
        publish.publish(Staged(scratch, PLACE), path, 0, kind, MARK)

    assert refused.value.rule == "target.files"
    assert files(tmp_path / "warehouse") == before


@pytest.mark.parametrize("text", ["", "x", "[]", '{"add": 1}', '{"add": {}, "remove": {}}', "{}"])
def test_an_entry_that_is_none(scratch: Path, path: Path, text: str) -> None:
    stage(scratch, path)
    entry_path(scratch / PLACE, 1).write_text(text)
    if not text:
        assert publish.publish(Staged(scratch, PLACE), path, 0, "update", MARK) == 1
        return

    with pytest.raises(StatementFailed):
        publish.publish(Staged(scratch, PLACE), path, 0, "update", MARK)
    assert rows(path) == [1, 2]


@pytest.mark.parametrize("link", ["file", "folder", "entry", "stage"])
def test_links_are_not_followed(scratch: Path, path: Path, tmp_path: Path, link: str) -> None:
    """Whoever follows them reads with the rights of the process that holds keys."""
    vault = tmp_path / "keys"
    stage(scratch, path).delete("k = 1")
    added = next(file for file in (scratch / PLACE).glob("*.parquet") if not file.is_symlink())
    shutil.copytree(scratch / PLACE, vault, symlinks=True)
    if link == "file":
        added.unlink()
        added.symlink_to(vault / added.name)
    elif link == "entry":
        entry_path(scratch / PLACE, 1).unlink()
        entry_path(scratch / PLACE, 1).symlink_to(entry_path(vault, 1))
    else:
        place = scratch / PLACE if link == "folder" else scratch / PLACE.parent
        shutil.rmtree(place)
        place.symlink_to(vault if link == "folder" else vault.parent)
    before = files(path)

    with pytest.raises((StatementFailed, StatementRefused)):
        publish.publish(Staged(scratch, PLACE), path, 0, "delete", MARK)

    assert files(path) == before


def test_a_table_with_features_that_change_what_files_mean_is_not_written(scratch: Path, path: Path) -> None:
    stage(scratch, path).delete("k = 1")
    entry = entry_path(path, 0)
    entry.write_text(
        entry.read_text().replace(
            '"minReaderVersion":1,"minWriterVersion":2',
            '"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":["deletionVectors"],"writerFeatures":["deletionVectors"]',
        )
    )

    with pytest.raises(StatementRefused) as refused:
        publish.publish(Staged(scratch, PLACE), path, 0, "delete", MARK)

    assert refused.value.rule == "target.features"


def test_a_disk_that_fails_before_the_entry_leaves_nothing(
    scratch: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage(scratch, path).delete("k = 1")
    before = files(path)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(publish.shutil, "copyfileobj", full)  # a disk that is full

    with pytest.raises(StatementFailed, match="No space left"):
        publish.publish(Staged(scratch, PLACE), path, 0, "delete", MARK)

    assert files(path) == before


def test_a_disk_that_fails_after_the_entry_is_asked_what_it_holds(
    scratch: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage(scratch, path).delete("k = 1")
    link = os.link

    def torn(source: Any, to: Any) -> None:
        link(source, to)
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(publish.os, "link", torn)  # the answer is lost, not the entry

    assert publish.publish(Staged(scratch, PLACE), path, 0, "delete", MARK) == 1
    assert rows(path) == [2]


def test_where_the_log_does_not_say_it_nobody_knows(scratch: Path, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage(scratch, path).delete("k = 1")

    def lost(source: Any, to: Any) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(publish.os, "link", lost)

    with pytest.raises(OutcomeUnknown):
        publish.publish(Staged(scratch, PLACE), path, 0, "delete", MARK)
    assert rows(path) == [1, 2]


#: Publishes and kills itself at a step: before or after a call of the operating system.
KILLED = """
import os, signal, sys
from pathlib import Path
from workers.adapters.sandbox import publish
root, path, when, call = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4]
place = publish if hasattr(publish, call) else publish.os
real = getattr(place, call)
def killed(*arguments):
    if when == "after":
        real(*arguments)
    os.kill(os.getpid(), signal.SIGKILL)
setattr(place, call, killed)
mark = publish.Mark("grant-1", "0" * 64)
if sys.argv[5] == "drop":
    publish.drop(path, path.parents[1], 0, mark)
else:
    publish.publish(publish.Staged(root, Path("stage-1", "table")), path, 0, "delete", mark)
"""


def publish_and_die(scratch: Path, path: Path, when: str, call: str, what: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED, scratch, path, when, call, what], env={"PYTHONPATH": str(ROOT)}, check=False
    )
    assert done.returncode == -signal.SIGKILL


@pytest.mark.parametrize(
    ("when", "call", "happened"),
    [("after", "_copy", False), ("before", "link", False), ("after", "link", True)],
)
def test_killed_at_any_step_it_happened_whole_or_not_at_all(
    scratch: Path, path: Path, when: str, call: str, happened: bool
) -> None:
    stage(scratch, path).delete("k = 1")

    publish_and_die(scratch, path, when, call, "delete")

    found = history.outcome_anywhere(path, path.parents[1] / publish.DROPPED / "results.t", "results.t", "grant-1")
    assert rows(path) == ([2] if happened else [1, 2])
    assert found == (Outcome("results.t", 1) if happened else None)
    if not happened:  # and what was left behind is in nobody's way
        shutil.rmtree(scratch / PLACE)
        stage(scratch, path).delete("k = 1")
        assert publish.publish(Staged(scratch, PLACE), path, 0, "delete", Mark("grant-2", "0" * 64)) == 1


def test_a_drop_moves_the_table_to_where_undo_finds_it(path: Path) -> None:
    version = publish.drop(path, path.parents[1], 0, MARK)

    graves = path.parents[1] / publish.DROPPED / "results.t"
    assert not path.exists()
    assert version == 1
    assert history.outcome_anywhere(path, graves, "results.t", "grant-1") == Outcome("results.t", 1)
    assert DeltaTable(str(graves / "grant-1"), version=0).to_pyarrow_table().num_rows == 2


def test_a_drop_that_was_interrupted_is_known_as_one(scratch: Path, path: Path) -> None:
    publish_and_die(scratch, path, "before", "bury", "drop")

    assert history.dropped_by(path) == "grant-1"
    assert rows(path) == []


def test_every_tenth_version_has_a_checkpoint(path: Path) -> None:
    for base in range(10):
        publish.commit(path, base, Mark(f"grant-{base}", "0" * 64).actions(publish.Entry(), base), MARK)

    assert entry_path(path, 10).with_suffix(".checkpoint.parquet").exists()
    assert (rows(path), DeltaTable(str(path)).version()) == ([1, 2], 10)


def test_a_large_result_is_kept_as_a_file_that_nobody_changes(scratch: Path, tmp_path: Path) -> None:
    (scratch / "stage-1" / "part.parquet").write_bytes(b"rows")
    warehouse = tmp_path / "warehouse"

    reference = publish.keep_result(scratch, Path("stage-1", "part.parquet"), warehouse, "grant-1")

    assert reference == "warehouse/.results/grant-1.parquet"
    assert (tmp_path / reference).read_bytes() == b"rows"
    assert (tmp_path / reference).stat().st_mode & 0o777 == 0o444
    with pytest.raises(StatementRefused, match=r"grant\.used"):
        publish.keep_result(scratch, Path("stage-1", "part.parquet"), warehouse, "grant-1")
    with pytest.raises(StatementRefused, match=r"grant\.id"):
        publish.keep_result(scratch, Path("stage-1", "part.parquet"), warehouse, "../../keys/x")

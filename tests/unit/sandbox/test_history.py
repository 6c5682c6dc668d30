from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import CommitProperties, Transaction, write_deltalake

from workers.adapters.sandbox.history import (
    Outcome,
    app_id,
    outcome_at,
    refuse_foreign_table,
    user_metadata,
    version_at,
)
from workers.ports import StatementRefused

ROWS = pa.table({"a": [1]})


def write_as(path: Path, grant_id: str) -> None:
    marks = CommitProperties(
        custom_metadata={"userMetadata": user_metadata(grant_id, "0" * 64)},
        app_transactions=[Transaction(app_id(grant_id), 1)],
    )
    write_deltalake(str(path), ROWS, mode="overwrite", commit_properties=marks)


def test_each_grant_is_found_with_the_version_it_wrote(tmp_path: Path) -> None:
    write_as(tmp_path / "t", "one")
    write_as(tmp_path / "t", "two")

    assert outcome_at(tmp_path / "t", "results.t", "one") == Outcome("results.t", 0)
    assert outcome_at(tmp_path / "t", "results.t", "two") == Outcome("results.t", 1)
    assert outcome_at(tmp_path / "t", "results.t", "three") is None
    assert version_at(tmp_path / "t") == 1


@pytest.mark.parametrize("folder", ["missing", "empty", "started"])
def test_where_nothing_was_committed_nothing_was_written(tmp_path: Path, folder: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "started" / "_delta_log").mkdir(parents=True)

    assert outcome_at(tmp_path / folder, "results.t", "one") is None
    assert version_at(tmp_path / folder) is None


def test_only_the_mark_is_left_when_the_entry_is_not_ours_to_read(tmp_path: Path) -> None:
    marks = CommitProperties(
        custom_metadata={"userMetadata": "no JSON"}, app_transactions=[Transaction(app_id("one"), 1)]
    )
    write_deltalake(str(tmp_path / "t"), ROWS, commit_properties=marks)

    assert outcome_at(tmp_path / "t", "results.t", "one") == Outcome("results.t", None)


def test_a_run_may_replace_what_a_run_made(tmp_path: Path) -> None:
    write_as(tmp_path / "t", "one")
    (tmp_path / "empty").mkdir()

    refuse_foreign_table(tmp_path / "t", "results.t")
    refuse_foreign_table(tmp_path / "missing", "results.missing")
    refuse_foreign_table(tmp_path / "empty", "results.empty")


def test_it_may_not_replace_what_somebody_else_made(tmp_path: Path) -> None:
    write_deltalake(str(tmp_path / "table"), ROWS)
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "x.csv").write_text("1")

    for name in ("table", "files"):
        with pytest.raises(StatementRefused) as refused:
            refuse_foreign_table(tmp_path / name, f"results.{name}")
        assert refused.value.rule == "target.protected"

from pathlib import Path

import pytest

from workers.adapters.sandbox.names import delta_tables, target_path
from workers.ports import StatementRefused

SCHEMAS = ("tpch", "results")


@pytest.mark.parametrize("target", ["results.best", "results.top_10_customers", "results.orders"])
def test_a_good_target_is_a_folder_of_the_lakehouse(tmp_path: Path, target: str) -> None:
    assert target_path(tmp_path, target, SCHEMAS) == tmp_path / target.replace(".", "/")


@pytest.mark.parametrize(
    "target",
    [
        "", ".", "results", "results.", ".best", "results.best.x", "a.results.best", "Results.best", "results.Best", "results.1st",
        "results._x", "results.a-b", "results.a b", " results.best", "results.best\n", "results.`best`", "results.best;--",
        "../keys.x", "results./etc", "results.bеst", "results.ｂest", "results." + "x" * 64,  # noqa: RUF001  # look-alikes
    ],
)  # fmt: skip
def test_anything_else_is_no_name(tmp_path: Path, target: str) -> None:
    with pytest.raises(StatementRefused) as refused:
        target_path(tmp_path, target, SCHEMAS)

    assert refused.value.rule == "target.name"


@pytest.mark.parametrize("target", ["tpch.nation", "tpch.orders", "tpch.mine"])
def test_a_schema_of_source_tables_is_never_written(tmp_path: Path, target: str) -> None:
    with pytest.raises(StatementRefused) as refused:
        target_path(tmp_path, target, SCHEMAS)

    assert refused.value.rule == "target.protected"


def test_which_schemas_may_be_written_is_said(tmp_path: Path) -> None:
    assert target_path(tmp_path, "tpch.mine", SCHEMAS, ("tpch",)) == tmp_path / "tpch" / "mine"
    with pytest.raises(StatementRefused):
        target_path(tmp_path, "results.best", SCHEMAS, ("tpch",))


def test_a_schema_must_be_declared(tmp_path: Path) -> None:
    with pytest.raises(StatementRefused) as refused:
        target_path(tmp_path, "finance.best", SCHEMAS)

    assert refused.value.rule == "target.schema"
    assert "results" in refused.value.reason


@pytest.mark.parametrize("link", ["results", "results/best"])
def test_a_link_is_no_target(tmp_path: Path, link: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / link).parent.mkdir(exist_ok=True)
    (tmp_path / link).symlink_to(tmp_path / "elsewhere")

    with pytest.raises(StatementRefused) as refused:
        target_path(tmp_path, "results.best", SCHEMAS)

    assert refused.value.rule == "target.protected"


def test_only_delta_tables_with_a_plain_name_in_a_declared_schema_are_found(tmp_path: Path) -> None:
    for folder in ("tpch/nation", "tpch/Upper", "tpch/no-name", "other/table", "results/best"):
        (tmp_path / folder / "_delta_log").mkdir(parents=True)
    (tmp_path / "tpch" / "files").mkdir()
    (tmp_path / "tpch" / "linked").symlink_to(tmp_path / "other" / "table")

    assert [name for name, _ in delta_tables(tmp_path, SCHEMAS)] == ["tpch.nation", "results.best"]

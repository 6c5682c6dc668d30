import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.adapters.code_sandbox.desk import Desk
from workers.adapters.code_sandbox.limits import PYTHON
from workers.adapters.sandbox import publish
from workers.ports import StatementFailed, StatementRefused

NATIONS = pa.table({"n_nationkey": [0, 1, 2], "n_name": ["ALGERIA", "ARGENTINA", "BRAZIL"]})
CODE = "result = tables['tpch.nation']"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    write_deltalake(str(tmp_path / "home/warehouse/tpch/nation"), NATIONS)
    return tmp_path / "home"


class Run:
    """One run whose code gave `result`, as the clerk sees it."""

    def __init__(self, home: Path, name: str = "run", **limits: Any) -> None:
        self.home = home
        self.scratch = home / f"scratch-{name}"
        self.scratch.mkdir()
        self.desk = Desk(
            {
                "home": str(home),
                "scratch": str(self.scratch),
                "schemas": ["tpch", "results"],
                "writable": ["results"],
                "limits": replace(PYTHON, **limits).as_dict(),
            }
        )

    def gave(
        self,
        result: pa.Table | bytes = NATIONS,
        code: str = CODE,
        language: str = "python",
        target: str | None = None,
        reads: tuple[str, ...] = ("tpch.nation",),
        **taking: Any,
    ) -> dict[str, Any]:
        self.desk.prepare(language, code, target, list(reads))
        written = result if isinstance(result, bytes) else streamed(result)
        (self.scratch / "result").write_bytes(written)
        answer = self.desk.take(**{"digest": None, "grant_id": "grant-1", "row_limit": 10, **taking})
        json.dumps(answer)  # it goes through a pipe
        return answer

    def published(self, answer: dict[str, Any], target: str, grant: str = "grant-1") -> int:
        staged = answer["staged"]
        path = self.home / "warehouse" / Path(*target.split("."))
        mark = publish.Mark(grant, "0" * 64)
        return publish.publish(
            publish.Staged(self.scratch, Path(staged["folder"])), path, staged["version"], staged["verb"], mark
        )


def streamed(table: pa.Table, **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as stream:
        stream.write_table(table)
    return sink.getvalue().to_pybytes()


def refused(run: Run, **how: Any) -> str:
    with pytest.raises(StatementRefused) as error:
        run.gave(**how)
    return error.value.rule


def test_declared_tables_are_laid_out_and_no_others(home: Path) -> None:
    write_deltalake(str(home / "warehouse/tpch/salary"), NATIONS)
    run = Run(home)

    run.desk.prepare("python", CODE, None, ["tpch.nation"])

    laid_out = {str(file.relative_to(run.scratch)) for file in run.scratch.rglob("*") if file.is_file()}
    assert laid_out == {"in/code.py", "in/tables/tpch.nation.arrow"}
    with pa.memory_map(str(run.scratch / "in/tables/tpch.nation.arrow")) as source:
        assert pa.ipc.open_file(source).read_all().equals(NATIONS)


def test_spark_gets_parquet(home: Path) -> None:
    import pyarrow.parquet as pq

    run = Run(home)

    run.desk.prepare("pyspark", CODE, None, ["tpch.nation"])

    assert pq.read_table(run.scratch / "in/tables/tpch.nation.parquet").to_pylist() == NATIONS.to_pylist()


def test_the_digest_stands_for_code_language_tables_target_and_columns(home: Path) -> None:
    other_type = NATIONS.set_column(0, "n_nationkey", pa.array([0.0, 1.0, 2.0]))
    found = {
        "as it is": Run(home, "1").gave()["digest"],
        "code": Run(home, "2").gave(code=CODE + " # x")["digest"],
        "language": Run(home, "3").gave(language="pyspark")["digest"],
        "target": Run(home, "4").gave(target="results.x")["digest"],
        "no table": Run(home, "5").gave(reads=())["digest"],
        "another column": Run(home, "6").gave(NATIONS.rename_columns(["a", "b"]))["digest"],
        "another type": Run(home, "7").gave(other_type)["digest"],
    }
    write_deltalake(str(home / "warehouse/tpch/nation"), NATIONS, mode="append")
    found["another version"] = Run(home, "8").gave()["digest"]
    made = Run(home, "9")
    made.published(made.gave(target="results.x"), "results.x")
    found["another version of the target"] = Run(home, "10").gave(target="results.x", grant_id="grant-2")["digest"]

    assert len(set(found.values())) == len(found)


def test_rows_are_not_what_is_approved(home: Path) -> None:
    """Code may look at the clock: what it gives then is shown, and can never be the same again."""
    first = Run(home, "1").gave(NATIONS)
    second = Run(home, "2").gave(NATIONS.slice(1), digest=first["digest"])

    assert first["digest"] == second["digest"]
    assert second["row_count"] == 2


def test_what_was_not_approved_is_refused_before_it_is_staged(home: Path) -> None:
    run = Run(home)

    assert refused(run, digest="0" * 64, target="results.x") == "grant.dry_run_changed"
    assert not (run.scratch / "stage").exists()


def test_a_grant_writes_once(home: Path) -> None:
    run = Run(home, "1")
    run.published(run.gave(target="results.x"), "results.x")

    assert refused(Run(home, "2"), target="results.x") == "grant.used"
    assert refused(Run(home, "3"), target="results.x", digest="0" * 64) == "grant.dry_run_changed"


def test_other_columns_take_the_place_of_the_old_ones(home: Path) -> None:
    first = Run(home, "1")
    first.published(first.gave(target="results.x"), "results.x")
    second = Run(home, "2")

    answer = second.gave(pa.table({"a": [1.5], "b": [[1, 2]]}), target="results.x", grant_id="grant-2")
    version = second.published(answer, "results.x", "grant-2")

    written = DeltaTable(str(home / "warehouse/results/x"))
    assert (answer["statement_class"], answer["table_versions"]) == ("write", {"results.x": 0, "tpch.nation": 0})
    assert answer["effect"]["removed"] == 3
    assert answer["effect"]["sample_removed"]["columns"] == ["n_nationkey", "n_name"]
    assert (version, written.version()) == (1, 1)
    assert written.to_pyarrow_table().to_pylist() == [{"a": 1.5, "b": [1, 2]}]
    assert DeltaTable(str(home / "warehouse/results/x"), version=0).to_pyarrow_table().num_rows == 3


def test_a_table_that_moved_meanwhile_is_not_written(home: Path) -> None:
    first = Run(home, "1")
    first.published(first.gave(target="results.x"), "results.x")
    one, two = Run(home, "2"), Run(home, "3")
    staged = one.gave(target="results.x", grant_id="grant-2"), two.gave(target="results.x", grant_id="grant-3")
    one.published(staged[0], "results.x", "grant-2")

    with pytest.raises(StatementRefused) as moved:
        two.published(staged[1], "results.x", "grant-3")
    assert moved.value.rule == "grant.dry_run_changed"


def test_a_partitioned_table_is_compared_with_its_partitions(home: Path) -> None:
    first = Run(home, "1")
    first.published(first.gave(target="results.x"), "results.x")
    path = str(home / "warehouse/results/x")
    write_deltalake(path, NATIONS, mode="overwrite", partition_by=["n_name"], schema_mode="overwrite")

    answer = Run(home, "2").gave(NATIONS.slice(1), target="results.x", grant_id="grant-2")

    assert (answer["effect"]["added"], answer["effect"]["removed"]) == (0, 1)
    assert answer["effect"]["sample_removed"]["rows"] == [[0, "ALGERIA"]]


@pytest.mark.parametrize("rule", ["delta.constraints.positive", "delta.appendOnly"])
def test_a_table_with_rules_for_its_rows_is_not_replaced(home: Path, rule: str) -> None:
    first = Run(home, "1")
    first.published(first.gave(target="results.x"), "results.x")
    table = DeltaTable(str(home / "warehouse/results/x"))
    if rule == "delta.appendOnly":
        table.alter.set_table_properties({rule: "true"})
    else:
        table.alter.add_constraint({"positive": "n_nationkey >= 0"})

    assert refused(Run(home, "2"), target="results.x", grant_id="grant-2") == "target.features"


def test_no_rows_are_a_result_as_well(home: Path) -> None:
    first = Run(home, "1")
    first.published(first.gave(target="results.x"), "results.x")
    second = Run(home, "2")

    answer = second.gave(NATIONS.slice(0, 0), target="results.x", grant_id="grant-2")
    second.published(answer, "results.x", "grant-2")

    assert (answer["row_count"], answer["effect"]["removed"], answer["effect"]["rows_after"]) == (0, 3, 0)
    assert DeltaTable(str(home / "warehouse/results/x")).to_pyarrow_table().num_rows == 0
    third = Run(home, "3")
    assert third.published(third.gave(NATIONS.slice(0, 0), target="results.y"), "results.y") == 0


def test_long_results_are_kept_whole(home: Path) -> None:
    import pyarrow.parquet as pq

    run = Run(home)

    answer = run.gave(row_limit=2)

    assert (answer["row_count"], len(answer["rows"]), answer["truncated"]) == (3, 2, True)
    assert pq.read_table(run.scratch / answer["whole"]).num_rows == 3


def test_a_dry_run_of_a_question_gives_no_rows_away(home: Path) -> None:
    answer = Run(home).gave(grant_id=None)

    assert (answer["rows"], answer["columns"], answer["row_count"]) == ([], ["n_nationkey", "n_name"], 3)
    assert answer["whole"] is None


@pytest.mark.parametrize(
    ("how", "rule"),
    [
        ({"reads": ("tpch.nothing",)}, "reads.missing"),
        ({"reads": ("../keys",)}, "reads.missing"),
        ({"reads": ("tpch.linked",)}, "reads.missing"),
        ({"reads": ("tpch.pointing",)}, "reads.files"),
        ({"target": "tpch.nation"}, "target.protected"),
        ({"target": "results.x; drop"}, "target.name"),
        ({"target": "elsewhere.x"}, "target.schema"),
        ({"target": "results.foreign"}, "target.protected"),
        ({"target": "results.x", "result": pa.table({"a b": [1]})}, "target.columns"),
        ({"target": "results.x", "result": pa.table({"a": [None]})}, "target.columns"),
        ({"target": "results.x", "result": pa.table({"a": [1], "A": [2]})}, "target.columns"),
        ({"target": "results.x", "result": pa.table({"a": pa.array([1], pa.time64("us"))})}, "target.columns"),
        ({"code": "import subprocess\nresult = 1"}, "code.import"),
    ],
)
def test_it_is_refused_with_its_rule(home: Path, how: dict[str, Any], rule: str) -> None:
    write_deltalake(str(home / "warehouse/results/foreign"), NATIONS)
    (home / "warehouse/tpch/linked").symlink_to(home / "warehouse/tpch/nation")
    pointing = home / "warehouse/tpch/pointing"
    write_deltalake(str(pointing), NATIONS)
    log = pointing / "_delta_log" / f"{0:020}.json"
    log.write_text(log.read_text().replace(next(pointing.glob("*.parquet")).name, (home / "tables/secret").as_uri()))

    assert refused(Run(home), **how) == rule


def test_tables_too_large_are_refused_before_they_are_copied(home: Path) -> None:
    run = Run(home, snapshot=100)

    assert refused(run) == "reads.size"
    assert not list((run.scratch / "in" / "tables").iterdir())


def test_a_table_that_grows_when_it_is_unpacked_is_refused_too(home: Path) -> None:
    write_deltalake(str(home / "warehouse/tpch/same"), pa.table({"a": ["x" * 1000] * 10_000}))

    assert refused(Run(home, snapshot=100_000), reads=("tpch.same",)) == "reads.size"


def test_types_are_made_such_that_a_table_holds_them(home: Path) -> None:
    from datetime import date, datetime
    from decimal import Decimal

    result = pa.table(
        {
            "small": pa.array([1], pa.uint8()),
            "large": pa.array([1], pa.uint64()),
            "word": pa.array(["x"]).dictionary_encode(),
            "long": pa.array(["x"], pa.large_string()),
            "nano": pa.array([datetime(2026, 1, 2)], pa.timestamp("ns")),  # noqa: DTZ001  # a time without a zone is the point
            "money": pa.array([Decimal("1.10")]),
            "day": pa.array([date(2026, 1, 2)]),
            "raw": pa.array([b"x"], pa.binary(1)),
            "part": pa.array([{"a": 1}]),
        }
    )
    run = Run(home)

    answer = run.gave(result, target="results.types")
    run.published(answer, "results.types")

    assert answer["rows"] == [[1, 1, "x", "x", "2026-01-02T00:00:00+00:00", "1.10", "2026-01-02", "eA==", {"a": 1}]]
    kinds = [str(field.type.type) for field in DeltaTable(str(home / "warehouse/results/types")).schema().fields[:5]]
    assert kinds == ["short", "long", "string", "string", "timestamp"]


def test_a_number_that_fits_no_table_is_an_error(home: Path) -> None:
    with pytest.raises(StatementFailed, match="the result is no table: "):
        Run(home).gave(pa.table({"a": pa.array([2**64 - 1], pa.uint64())}))


@pytest.mark.parametrize("result", [pa.table({}), pa.Table.from_arrays([pa.array([1]), pa.array([2])], ["a", "a"])])
def test_columns_have_names_of_their_own(home: Path, result: pa.Table) -> None:
    with pytest.raises(StatementFailed, match="the columns of the result need names"):
        Run(home).gave(result)


def test_a_result_that_grows_when_it_is_unpacked_is_refused(home: Path) -> None:
    written = streamed(pa.table({"a": pa.array([b"\0" * (1 << 20)])}), compression="zstd")
    assert len(written) < 5000

    with pytest.raises(StatementFailed, match="the result has more than"):
        Run(home, result=1 << 17).gave(written)


WHOLE = streamed(NATIONS)


@settings(deadline=None, max_examples=60)
@given(at=st.integers(0, len(WHOLE) - 1), byte=st.integers(0, 255), cut=st.integers(0, len(WHOLE)))
def test_a_hostile_result_is_a_table_or_refused(
    tmp_path_factory: pytest.TempPathFactory, at: int, byte: int, cut: int
) -> None:
    """Whatever the code wrote: never another error, and never a table that says more than it has."""
    from workers.adapters.code_sandbox import taking

    file = tmp_path_factory.mktemp("hostile") / "result"
    file.write_bytes((WHOLE[:at] + bytes([byte]) + WHOLE[at + 1 :])[: cut or None])

    try:
        table = taking.taken(file, 1 << 20)
    except StatementFailed:
        return
    table.validate(full=True)
    assert len(taking.rows(table, 10)) == min(10, table.num_rows)

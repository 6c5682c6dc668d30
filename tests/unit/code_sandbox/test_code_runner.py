import errno
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from workers.adapters.code_sandbox import limits, places, runner
from workers.adapters.code_sandbox.process import printable
from workers.ports import StatementRefused


class Odd(Exception):
    def __str__(self) -> str:
        raise Odd


def described(code: str) -> dict[str, object]:
    try:
        exec(compile(code, runner.CODE, "exec"), {"Odd": Odd, "NoResult": runner.NoResult})
    except BaseException as error:
        return runner.describe(error)
    raise AssertionError("it did not fail")


def test_an_error_is_told_by_its_last_line_and_the_line_of_the_code() -> None:
    assert described("x = 1\ndef f():\n    raise ValueError('no\\nmore')\nf()") == {
        "message": "ValueError: no\nmore",
        "line": 3,
        "limit": None,
    }


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("raise SystemExit(0)", "SystemExit: 0"),
        ("raise Odd()", "Odd"),
        ("raise NoResult('give a table')", "give a table"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("1 +", "SyntaxError: invalid syntax"),
    ],
)
def test_odd_errors_are_told_as_well(code: str, message: str) -> None:
    found = described(code)

    assert (found["message"].endswith(message), found["line"]) == (True, 1)


def test_a_long_error_is_cut() -> None:
    assert len(described("raise ValueError('x' * 10_000_000)")["message"]) == 2000


@pytest.mark.parametrize(
    ("error", "limit"),
    [
        (MemoryError(), "memory"),
        (pa.ArrowMemoryError("malloc failed"), "memory"),
        (OSError(errno.EFBIG, "x"), "result"),
        (OSError(errno.ENOSPC, "x"), "scratch"),
        (OSError(errno.EMFILE, "x"), "files"),
        (OSError(errno.ENETUNREACH, "x"), "network"),
        (RuntimeError("can't start new thread"), "processes"),
        (ValueError("x"), None),
    ],
)
def test_a_limit_is_known_by_its_error(error: BaseException, limit: str | None) -> None:
    assert runner.describe(error)["limit"] == limit


@pytest.mark.parametrize(
    "value",
    [
        pa.table({"a": [1, None], "b": [None, "x"]}),
        pa.record_batch({"a": [1, None], "b": [None, "x"]}),
        [{"a": 1}, {"b": "x"}],
    ],
)
def test_rows_come_in_several_forms(value: object) -> None:
    assert runner.as_table(value).to_pylist() == [{"a": 1, "b": None}, {"a": None, "b": "x"}]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (3, "`result` is a int"),
        (None, "`result` is a NoneType"),
        ([], "`result` is an empty list"),
        ([1], "`result` is a list"),
        ([{1: 2}], "have to be strings"),
    ],
)
def test_what_is_no_table_is_said_so(value: object, said: str) -> None:
    with pytest.raises(runner.NoResult, match=said):
        runner.as_table(value)


def test_spark_gives_a_data_frame() -> None:
    with pytest.raises(runner.NoResult, match="give a DataFrame"):
        runner.spark_table([{"a": 1}])


def test_only_declared_tables_are_there(tmp_path: Path) -> None:
    table = pa.table({"a": [1]})
    for name in ("tpch.b", "tpch.a"):
        with pa.OSFile(str(tmp_path / f"{name}.arrow"), "wb") as file, pa.ipc.new_file(file, table.schema) as written:
            written.write_table(table)

    tables = runner.Tables(tmp_path)

    assert list(tables) == ["tpch.a", "tpch.b"]
    assert tables["tpch.a"].equals(table)
    with pytest.raises(KeyError) as missing:
        tables["../keys"]
    assert str(missing.value) == "../keys is not among the declared tables (tpch.a, tpch.b): add it to `reads`"


def test_what_is_printed_drives_no_terminal() -> None:
    text = printable("ok\t\x1b[31mred\x07\r\n\u202eabc".encode() + b"\xff")

    assert not set(text) & set("\x1b\x07\r\u202e")
    assert text.startswith("ok\t")


def test_places_hold_no_other_and_no_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readable, links = places.readable("python")

    assert sys.prefix in readable
    assert not [a for a in readable for b in readable if a != b and Path(a).is_relative_to(b)]
    assert not set(links) & set(readable)
    places.refuse_inside(readable, tmp_path)
    (tmp_path / "link").symlink_to(sys.prefix)
    with pytest.raises(StatementRefused, match="keep it elsewhere"):
        places.refuse_inside(readable, tmp_path / "link" / "home")


def test_limits_go_through_a_pipe() -> None:
    assert limits.Limits.of(limits.PYSPARK.as_dict()) == limits.PYSPARK

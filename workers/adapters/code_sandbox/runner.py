"""Inside the walls: runs the code with its tables, takes what it calls `result`, and says where it failed.

Imports the standard library alone before it runs: the rest is not there any more, and what is there, the code can reach.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import sys
import traceback
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from workers.adapters.code_sandbox import spark_runner

#: Names that no interpreter is installed under.
INPUT = Path("/sandbox/in")
WORK = Path("/sandbox/work")

#: How the code is called in a traceback.
CODE = "<code>"

_LONGEST = 2000


class NoResult(Exception):
    """The code did not give a result that can be handed over; the message says what to do."""


def run(language: str, result: int, report: int, engine: Mapping[str, Any]) -> int:
    """The exit code. The report is for people: whoever reads it must not believe it, for the code can write it as well."""
    try:
        _run(language, result, engine)
        said: dict[str, Any] = {"done": True}
    except BaseException as error:  # of the code: also an exit, an interrupt, or what it invented
        said = {"error": describe(error)}
    with contextlib.suppress(BaseException):
        sys.stdout.flush()
        sys.stderr.flush()
    with contextlib.suppress(BaseException):
        os.write(report, json.dumps(said).encode())
    return 0 if "done" in said else 1


def _run(language: str, result: int, engine: Mapping[str, Any]) -> None:
    os.chdir(WORK)
    # The same code on the same tables should give the same result: whoever wants chance takes a seed of their own.
    random.seed(0)
    source = (INPUT / "code.py").read_text(encoding="utf-8")
    main = types.ModuleType("__main__")
    sys.argv = [CODE]
    sys.modules["__main__"] = main
    names = main.__dict__
    if language == "pyspark":
        spark = spark_runner.start(engine, WORK)
        names.update(spark=spark, tables=SparkTables(INPUT / "tables", spark))
    else:
        names.update(tables=Tables(INPUT / "tables"))
    exec(compile(source, CODE, "exec", dont_inherit=True), names)  # running it is what all these walls are for
    if "result" not in names:
        raise NoResult("the code ended without a result: assign it to the name `result`")
    write(spark_table(names["result"]) if language == "pyspark" else as_table(names["result"]), result)


class Undeclared(KeyError):
    """The code asks for a table that was not declared."""

    def __str__(self) -> str:
        return str(self.args[0])


class Tables(Mapping[str, Any]):
    """The declared tables by `schema.table`, as they were at one version, each read when it is asked for."""

    suffix = ".arrow"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names = sorted(file.name.removesuffix(self.suffix) for file in folder.glob(f"*{self.suffix}"))

    def __getitem__(self, name: str) -> Any:
        if name not in self._names:
            there = ", ".join(self._names) or "none are"
            raise Undeclared(f"{name} is not among the declared tables ({there}): add it to `reads`")
        return self._read(str(self._folder / f"{name}{self.suffix}"))

    def _read(self, path: str) -> Any:
        import pyarrow as pa

        with pa.memory_map(path) as source:
            return pa.ipc.open_file(source).read_all()

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class SparkTables(Tables):
    """The same as DataFrames."""

    suffix = ".parquet"

    def __init__(self, folder: Path, spark: Any) -> None:
        super().__init__(folder)
        self._spark = spark

    def _read(self, path: str) -> Any:
        return self._spark.read.parquet(path)


def spark_table(value: Any) -> Any:
    """Raises NoResult for what is no DataFrame."""
    if not hasattr(value, "toArrow"):
        raise NoResult(f"`result` is a {type(value).__name__}: give a DataFrame")
    return value.toArrow()


def as_table(value: Any) -> Any:
    """Raises NoResult for what is no table."""
    import pyarrow as pa

    if isinstance(value, pa.Table):
        return value
    if isinstance(value, pa.RecordBatch):
        return pa.Table.from_batches([value])
    if isinstance(value, list) and all(isinstance(row, dict) for row in value):
        if not value:
            raise NoResult("`result` is an empty list, which has no columns: give a pyarrow Table with a schema")
        names = list(dict.fromkeys(name for row in value for name in row))
        if not all(isinstance(name, str) for name in names):
            raise NoResult("the keys of the rows in `result` are column names, and have to be strings")
        return pa.table({name: [row.get(name) for row in value] for name in names})
    if hasattr(value, "__arrow_c_stream__"):
        return pa.table(value)
    raise NoResult(f"`result` is a {type(value).__name__}: give a pyarrow Table or a list of dicts")


def write(table: Any, to: int) -> None:
    import pyarrow as pa

    with os.fdopen(os.dup(to), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
        stream.write_table(table)


def describe(error: BaseException) -> dict[str, Any]:
    """The last line of the traceback, the line of the code that led there, and the limit it ran into, if it was one."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == CODE]
    line = frames[-1].lineno if frames else getattr(error, "lineno", None)
    try:
        last, limit = traceback.format_exception_only(type(error), error)[-1].strip(), _limit_of(error)
    except BaseException:  # its own words may fail
        last, limit = type(error).__name__, None
    if isinstance(error, NoResult):
        last = str(error)
    last = last.removeprefix(f"{__name__}.")
    return {"message": last[:_LONGEST], "line": line, "limit": limit}


def _limit_of(error: BaseException) -> str | None:
    if isinstance(error, MemoryError) or type(error).__name__ == "ArrowMemoryError":
        return "memory"
    number = getattr(error, "errno", None)
    innermost = traceback.extract_tb(error.__traceback__)[-1:]
    where = Path(innermost[0].filename).name if innermost else ""
    if number == errno.EFBIG:
        return "result"
    if number == errno.ENOSPC:
        return "scratch"
    if number == errno.EMFILE:
        return "files"
    if where in ("socket.py", "ssl.py") or number in (errno.ENETUNREACH, errno.ENETDOWN):
        return "network"
    if "start new thread" in str(error) or (number == errno.EPERM and where in ("subprocess.py", "popen_fork.py")):
        return "processes"
    return None

"""PySpark behind the same walls: its parts talk with each other, and reach nothing else. Each run is a virtual machine."""

from dataclasses import replace
from pathlib import Path

import pytest
from deltalake import DeltaTable

from workers.adapters.code_sandbox.engine import CodeSandbox
from workers.adapters.code_sandbox.limits import PYSPARK
from workers.ports import Statement, StatementFailed

#: What is tried where Spark runs: by Python itself, by Spark, and by the Python workers that Spark starts.
CODE = """
import asyncio
import os
from pyspark.sql import functions as F
from pyspark.sql.types import LongType

home = {home!r}

def went(attempt):
    try:
        found = attempt()
    except BaseException as error:
        return type(error).__name__
    return "done" if found in (None, 0) or found else "nothing"

async def connect():
    await asyncio.open_connection("127.0.0.1", {port})

def key():
    return open(home + "/keys/secret.txt").read()

@F.udf("string")
def in_a_worker(_):
    return went(key)

print("begun")
tables["tpch.nation"].write.parquet(os.environ["TMPDIR"] + "/tailrace-own")  # a folder of its own run
os.system("sleep 604799 &")
outcomes = {{
    "a key": went(key),
    "a key by Spark": went(lambda: spark.read.text(home + "/keys/secret.txt").count()),
    "a table by Spark": went(lambda: spark.read.parquet(home + "/warehouse/tpch/salary").count()),
    "write into the input by Spark": went(lambda: tables["tpch.nation"].write.parquet("/sandbox/in/x")),
    "a table that was not declared": went(lambda: tables["tpch.salary"]),
    "the input": went(lambda: open("/sandbox/in/code.py", "a")),
    "the loopback of the machine": went(lambda: asyncio.run(connect())),
    "a key by a program": went(lambda: os.waitstatus_to_exitcode(os.system("cat " + home + "/keys/secret.txt")) and 1 / 0),
    "the first process": went(lambda: os.listdir("/proc/1")),
    "a worker's key": tables["tpch.nation"].limit(1).select(in_a_worker("n_name")).collect()[0][0],
}}
for name, outcome in outcomes.items():
    print("tried", name + ":", outcome)
double = F.udf(lambda x: x * 2, LongType())
result = tables["tpch.nation"].withColumn("double", double("n_nationkey")).orderBy("n_nationkey")
"""


@pytest.mark.timeout(300)
async def test_spark_computes_with_its_tables_and_reaches_nothing_else(own_home: Path, world: dict[str, str]) -> None:
    sandbox = CodeSandbox(own_home)
    code = CODE.format(home=str(own_home), port=world["port"])
    done = await sandbox.run(Statement("pyspark", code, "results.double", ("tpch.nation",)), "grant-1", 2)

    lines = done.output.splitlines()
    went = dict(line.removeprefix("tried ").split(": ") for line in lines if line.startswith("tried "))
    assert lines[0] == "begun", done.output
    assert len(went) == 10, done.output
    assert "done" not in went.values(), done.output
    assert done.result.rows == ((0, "ALGERIA", 0), (1, "ARGENTINA", 2))
    assert (done.table_version, done.row_count) == (0, 3)
    written = DeltaTable(str(own_home / "warehouse" / "results" / "double")).to_pyarrow_table()
    assert sorted(written["double"].to_pylist()) == [0, 2, 4]
    assert left_behind() == []
    assert not Path("/tmp/tailrace-own").exists()


async def test_all_processes_together_keep_to_one_limit(own_home: Path) -> None:
    sandbox = CodeSandbox(own_home, limits={"pyspark": replace(PYSPARK, memory=96 << 20)})

    with pytest.raises(StatementFailed, match="it may use 96 MiB of memory"):
        await sandbox.dry_run(Statement("pyspark", "result = tables['tpch.nation']", None, ("tpch.nation",)))


def left_behind() -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                found += [entry.name] if b"604799" in (entry / "cmdline").read_bytes().split(b"\0") else []
            except OSError:
                continue
    return found

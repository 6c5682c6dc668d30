"""One lakehouse and one sandboxed Spark for every test of a run that needs them: starting Spark is most of their time."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

if TYPE_CHECKING:
    from workers.adapters.sandbox.engine import SparkSandbox

SECRET = "the private half of ada's key"


@pytest.fixture(scope="session")
def lakehouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the sample's eight tables, and with keys and bus tables that nobody may read."""
    return make_lakehouse(tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("tpch"))


def make_lakehouse(home: Path, files: Path) -> Path:
    import pyarrow.parquet as pq
    from deltalake import write_deltalake

    generator = Path(sys.executable).with_name("tpchgen-cli")
    subprocess.run([generator, "parquet", "-s", "0.01", f"--output-dir={files}"], check=True, capture_output=True)
    for file in sorted(files.glob("*.parquet")):
        write_deltalake(str(home / "warehouse" / "tpch" / file.stem), pq.read_table(file))
    shutil.rmtree(files)
    for folder in ("keys", "tables", "checkpoints", "logs"):
        (home / folder).mkdir(parents=True)
        (home / folder / "secret.txt").write_text(SECRET)
    source = pq.ParquetFile(next((home / "warehouse" / "tpch" / "nation").glob("*.parquet"))).read()
    write_deltalake(str(home / "tables" / "agent_messages"), source)
    point_at_bus_table(home)
    return home


def point_at_bus_table(home: Path) -> None:
    """A table of the lakehouse whose log names a file of a bus table."""
    bus_table, pointing = home / "tables" / "agent_messages", home / "warehouse" / "results" / "pointing"
    (pointing / "_delta_log").mkdir(parents=True)
    first = f"{0:020}.json"
    actions = [json.loads(line) for line in (bus_table / "_delta_log" / first).read_text().splitlines()]
    for action in actions:
        if "add" in action:
            action["add"]["path"] = (bus_table / action["add"]["path"]).as_uri()
    (pointing / "_delta_log" / first).write_text("\n".join(json.dumps(action) for action in actions))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def spark_sandbox(lakehouse: Path) -> AsyncIterator[SparkSandbox]:
    from workers.adapters.sandbox.engine import SparkSandbox

    sandbox = SparkSandbox(lakehouse, timeout_s=120)
    await sandbox.warm()
    yield sandbox
    await sandbox.close()

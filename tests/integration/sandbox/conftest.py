import json
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import pytest_asyncio
from deltalake import write_deltalake

from workers.adapters.sandbox.engine import SparkSandbox

SECRET = "the private half of ada's key"


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the sample's eight tables, and with keys and bus tables that nobody may read."""
    home = tmp_path_factory.mktemp("home")
    files = tmp_path_factory.mktemp("tpch")
    generator = Path(sys.executable).with_name("tpchgen-cli")
    subprocess.run([generator, "parquet", "-s", "0.01", f"--output-dir={files}"], check=True, capture_output=True)
    for file in sorted(files.glob("*.parquet")):
        write_deltalake(str(home / "warehouse" / "tpch" / file.stem), pq.read_table(file))
    shutil.rmtree(files)
    for folder in ("keys", "tables", "checkpoints", "logs"):
        (home / folder).mkdir()
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
async def sandbox(home: Path) -> AsyncIterator[SparkSandbox]:
    """One engine for all tests: starting Spark is most of their time."""
    sandbox = SparkSandbox(home, timeout_s=120)
    await sandbox.warm()
    yield sandbox
    await sandbox.close()

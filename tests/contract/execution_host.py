"""An execution process that is its own murderer: `python -m tests.contract.execution_host HOME POINT`.

Its engine writes real Delta tables with the grant's mark. At POINT it kills itself with SIGKILL: nothing is told to anybody.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pyarrow as pa
from deltalake import CommitProperties, Transaction, write_deltalake

from config.settings import Settings
from jobs.agents import Agent
from jobs.bootstrap import System
from tests.fakes import FakeEngine, FixedRoles
from workers.adapters.remains import Remains
from workers.adapters.sandbox import history
from workers.execution.agent import ExecutionAgent
from workers.ports import Executed, Outcome, Rows, Statement
from workers.runtime.host import Host
from workers.runtime.whereabouts import whereabouts

#: When it can die: claimed and nothing written yet; written and nobody told.
POINTS = ("claimed", "written")
ENVIRONMENT = "dev"


class DeltaEngine(FakeEngine):
    """Writes one row to the target, as the real engines do: with the grant in the commit."""

    def __init__(self, home: Path, point: str = "never") -> None:
        super().__init__()
        self._warehouse = home / "warehouse"
        self._point = point

    async def run(self, statement: Statement, grant_id: str, row_limit: int, *, digest: str | None = None) -> Executed:
        self._pass("claimed")
        path, target = self._path(statement.target or ""), statement.target
        mark = {"userMetadata": history.user_metadata(grant_id, "0" * 64)}
        transaction = Transaction(history.app_id(grant_id), history.TXN_VERSION)
        properties = CommitProperties(custom_metadata=mark, app_transactions=[transaction])
        write_deltalake(str(path), pa.table({"n": [1]}), mode="overwrite", commit_properties=properties)
        self._pass("written")
        self.ran.append((statement.text, target, grant_id))
        return Executed(Rows(("n",), ((1,),), False), 1, target, history.version_at(path), 1.0)

    async def outcome_of(self, grant_id: str, target: str, since: int | None = None) -> Outcome | None:
        return history.outcome_at(self._path(target), target, grant_id)

    def _path(self, target: str) -> Path:
        return self._warehouse.joinpath(*target.split("."))

    def _pass(self, point: str) -> None:
        if point == self._point:
            os.kill(os.getpid(), signal.SIGKILL)


def host_of(home: Path, engine: DeltaEngine) -> Host:
    system = System(Settings.load(home=str(home)))
    worker = ExecutionAgent(
        engine, FixedRoles(), ENVIRONMENT, process=whereabouts(), gone=Remains(system.home.root).gone
    )
    return system.host([Agent(worker.name, "execution", "execution", lambda _: worker, "tail")], "tail")


async def main() -> None:
    home = Path(sys.argv[1])
    await host_of(home, DeltaEngine(home, sys.argv[2])).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())

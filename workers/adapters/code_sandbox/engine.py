"""The engine for Python and PySpark: a clerk copies the tables, the code runs behind walls, and what it gave is published here."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import structlog

from schemas.payloads import EffectPreview
from workers.adapters.code_sandbox import places, runner
from workers.adapters.code_sandbox.limits import GIB, MIB, PYSPARK, PYTHON, Limits
from workers.adapters.code_sandbox.process import Clerk, Ended, Walls, printable
from workers.adapters.sandbox import history, landlock, publish
from workers.adapters.sandbox.commits import local_path
from workers.adapters.sandbox.engine import SCHEMAS
from workers.adapters.sandbox.names import WRITABLE, target_path
from workers.ports import DryRun, Executed, Outcome, Rows, Statement, StatementFailed, StatementRefused

log = structlog.get_logger(__name__)

#: Runs at once: each may take the memory that its limits say.
AT_ONCE = 2

#: Characters of what was printed that whoever approves sees with the plan.
SHOWN = 4000

#: Seconds that copying tables, or taking a result, may take.
CLERK_S = 300.0

#: Bytes that the clerk may address, at least: its readers have many threads, each with room of its own.
CLERK_MEMORY = 16 * GIB

_REMEDY = (
    "run the execution process on Linux 5.13 or later, where namespaces may be made (kernel.unprivileged_userns_clone, "
    "user.max_user_namespaces; in a container its seccomp and AppArmor profiles), or ask for SQL instead"
)


class CodeSandbox:
    """`Engine` for `python` and `pyspark`. What the code is given are copies; what it gives is data; it writes nothing."""

    def __init__(
        self,
        home: Path,
        python: str = sys.executable,
        schemas: Sequence[str] = SCHEMAS,
        writable: Sequence[str] = WRITABLE,
        limits: Mapping[str, Limits] | None = None,
        at_once: int = AT_ONCE,
    ) -> None:
        self._home = Path(os.path.realpath(home))
        self._python = python
        self._schemas = tuple(schemas)
        self._writable = tuple(writable)
        self._limits = {"python": PYTHON, "pyspark": PYSPARK, **(limits or {})}
        self._turns = asyncio.Semaphore(at_once)
        #: By grant: what runs, and those of them that somebody has ended.
        self._running: dict[str, Walls | None] = {}
        self._cancelled: set[str] = set()

    async def warm(self) -> None:
        """Nothing is kept from one run to the next."""

    async def dry_run(self, statement: Statement) -> DryRun:
        """The code is run, on copies and with the same limits, and what it gives is compared and thrown away."""
        began = time.perf_counter()
        async with self._tried(statement, None, 0, None) as (answer, output, _):
            return DryRun(
                statement_class=answer["statement_class"],
                columns=tuple(answer["columns"]),
                table_versions=answer["table_versions"],
                plan=answer["plan"] + (f"\nprinted:\n{output[:SHOWN]}" if output else ""),
                digest=answer["digest"],
                elapsed_ms=(time.perf_counter() - began) * 1000,
                writes=statement.target,
                estimated_rows=answer["estimated_rows"],
                estimated_bytes=answer["estimated_bytes"],
                effect=EffectPreview.model_validate(answer["effect"]) if answer["effect"] else None,
                output=output,
            )

    async def run(self, statement: Statement, grant_id: str, row_limit: int, *, digest: str | None = None) -> Executed:
        began = time.perf_counter()
        if grant_id in self._running:
            raise StatementRefused("grant.used", f"grant {grant_id} is being used already")
        self._running[grant_id] = None
        try:
            async with self._tried(statement, grant_id, row_limit, digest) as (answer, output, scratch):
                if grant_id in self._cancelled:
                    raise _cancelled()
                # From here on nobody can cancel it: it is a matter of milliseconds, and it happens whole or not at all.
                del self._running[grant_id]
                mark = publish.Mark(grant_id, hashlib.sha256(statement.text.encode()).hexdigest())
                publishing = asyncio.ensure_future(
                    asyncio.to_thread(self._publish, answer, statement.target, mark, scratch)
                )
                try:
                    published = await asyncio.shield(publishing)
                except asyncio.CancelledError:
                    await asyncio.wait([publishing])
                    raise
        finally:
            self._running.pop(grant_id, None)
            self._cancelled.discard(grant_id)
        return Executed(
            result=Rows(tuple(answer["columns"]), tuple(tuple(row) for row in answer["rows"]), answer["truncated"]),
            row_count=answer["row_count"],
            elapsed_ms=(time.perf_counter() - began) * 1000,
            output=output,
            **published,
        )

    async def outcome_of(self, grant_id: str, target: str, since: int | None = None) -> Outcome | None:
        path = target_path(self._home / "warehouse", target, self._schemas, self._writable)
        graves = self._home / "warehouse" / publish.DROPPED / target
        return await asyncio.to_thread(history.outcome_anywhere, path, graves, target, grant_id)

    async def cancel(self, grant_id: str) -> bool:
        """Ends the code and all its kin. False when nothing runs under this grant, or when it is being published already."""
        if grant_id not in self._running:
            return False
        self._cancelled.add(grant_id)
        walls = self._running[grant_id]
        if walls is not None:
            walls.stop()
        return True

    async def close(self) -> None:
        for grant_id in list(self._running):
            await self.cancel(grant_id)

    # --- one run -----------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _tried(
        self, statement: Statement, grant_id: str | None, row_limit: int, digest: str | None
    ) -> AsyncIterator[tuple[dict[str, Any], str, Path]]:
        """What the code gave, staged in a scratch folder that is there as long as this lasts."""
        limits = self._limits.get(statement.language)
        if limits is None:
            raise StatementRefused(
                "execution.language", f"{statement.language} is not run here; python and pyspark are"
            )
        readable, links = await asyncio.to_thread(places.readable, statement.language)
        places.refuse_inside(readable, self._home)
        async with self._turns:
            for schema in self._schemas:
                (self._home / "warehouse" / schema).mkdir(parents=True, exist_ok=True)
            # Named like the SQL sandbox's, which removes those of agents that died.
            scratch = Path(tempfile.mkdtemp(prefix=f"scratch-{os.getpid()}-", dir=self._home))
            clerk = Clerk(self._clerk_settings(scratch, limits), self._python)
            walls = Walls(self._wall_settings(statement.language, scratch, limits, readable, links), self._python)
            try:
                async with asyncio.timeout(CLERK_S):
                    await clerk.ask(
                        "prepare", language=statement.language, text=statement.text, target=statement.target,
                        reads=sorted(statement.reads),
                    )  # fmt: skip
                if grant_id is not None:
                    self._running[grant_id] = walls
                    if grant_id in self._cancelled:
                        raise _cancelled()
                ended = await walls.run()
                _check(ended, limits)
                async with asyncio.timeout(CLERK_S):
                    answer = await clerk.ask("take", digest=digest, grant_id=grant_id, row_limit=row_limit)
                yield answer, ended.output, scratch
            except TimeoutError:
                raise StatementFailed(f"copying tables or taking the result took longer than {CLERK_S:g} s") from None
            finally:
                await asyncio.shield(self._tidy(clerk, scratch))

    async def _tidy(self, clerk: Clerk, scratch: Path) -> None:
        await clerk.close()
        await asyncio.to_thread(shutil.rmtree, scratch, ignore_errors=True)

    def _clerk_settings(self, scratch: Path, limits: Limits) -> dict[str, Any]:
        return {
            "home": str(self._home),
            "scratch": str(scratch),
            "schemas": self._schemas,
            "writable": self._writable,
            "limits": limits.as_dict(),
            "memory": max(CLERK_MEMORY, 4 * limits.memory),
            "protect": landlock.available(),
        }

    def _wall_settings(
        self, language: str, scratch: Path, limits: Limits, readable: list[str], links: Mapping[str, str]
    ) -> dict[str, Any]:
        return {
            "language": language,
            "folder": str(scratch),
            "work": str(runner.WORK),
            "readable": readable,
            "links": dict(links),
            "limits": limits.as_dict(),
            "engine": {}
            if language == "python"
            else {**places.spark(), "cores": 2, "memory": f"{limits.memory // 4 // MIB}m"},
        }

    def _publish(self, answer: dict[str, Any], target: str | None, mark: publish.Mark, scratch: Path) -> dict[str, Any]:
        """What the clerk staged, as part of the lakehouse: the table and its version, or the file with a large result."""
        staged, warehouse = answer["staged"], self._home / "warehouse"
        if staged is None or target is None:
            whole = answer["whole"]
            kept = publish.keep_result(scratch, local_path(whole), warehouse, mark.grant_id) if whole else None
            return {"table": None, "table_version": None, "reference": kept}
        place = publish.Staged(scratch, local_path(staged["folder"]))
        path = target_path(warehouse, target, self._schemas, self._writable)
        version = publish.publish(place, path, staged["version"], staged["verb"], mark)
        return {"table": target, "table_version": version, "table_version_before": staged["version"]}


def _check(ended: Ended, limits: Limits) -> None:
    """Raises StatementRefused or StatementFailed unless the code ended well."""
    if ended.missing is not None:
        raise StatementRefused(
            "execution.sandbox", f"this machine lacks what code is held by: {ended.missing}; {_REMEDY}"
        )
    if ended.limit == "cancelled":
        raise _cancelled()
    if ended.limit is not None:
        raise StatementFailed(f"the code was stopped: {_limit(ended.limit, limits)}{_last_printed(ended)}")
    if ended.status == 0 and ended.report.get("done") is True:
        return
    error = ended.report.get("error")
    if isinstance(error, dict):
        raise StatementFailed(_error(error, limits))
    raise StatementFailed(f"the code ended without a result: {_how(ended.status, limits)}{_last_printed(ended)}")


def _error(error: Mapping[str, Any], limits: Limits) -> str:
    """The code's own word for what went wrong, made fit to be shown."""
    line, limit = error.get("line"), error.get("limit")
    message = printable(str(error.get("message", ""))[:1000].encode(errors="replace"))
    where = f"line {line}: " if isinstance(line, int) else ""
    why = f" ({_limit(limit, limits)})" if isinstance(limit, str) else ""
    return f"{where}{message}{why}"


def _how(status: int | None, limits: Limits) -> str:
    if status is None:
        return "its sandbox died"
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number == signal.SIGXCPU:
            return _limit("cpu_seconds", limits)
        if number in (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS):
            return f"{signal.Signals(number).name}, as when memory runs out: {_limit('memory', limits)}"
        if number == signal.SIGKILL:
            return f"it was killed, as when time runs out: {_limit('cpu_seconds', limits)}"
        return f"signal {number}"
    return f"it left with exit code {os.waitstatus_to_exitcode(status)}"


def _limit(name: str, limits: Limits) -> str:
    match name:
        case "seconds":
            return f"it took longer than {limits.seconds:g} s"
        case "cpu_seconds":
            return f"it used more than {limits.cpu_seconds:g} s of processor time"
        case "memory":
            return f"it may use {limits.memory // MIB} MiB of memory"
        case "processes":
            return f"it may have {limits.processes} threads, and Python no other processes"
        case "files":
            return f"it may have {limits.files} files open"
        case "scratch":
            return f"it may keep {limits.scratch // MIB} MiB of files"
        case "result":
            return f"the result, and any file, may have {limits.result // MIB} MiB"
        case "flood":
            return f"it printed more than {limits.flood // MIB} MiB"
        case "network":
            return "there is no network here"
    return "a limit"


def _last_printed(ended: Ended) -> str:
    lines = ended.output.strip().splitlines()
    return f"; it last printed: {lines[-1][:300]}" if lines else ""


def _cancelled() -> StatementFailed:
    return StatementFailed("it was cancelled, and changed nothing")

"""The engine: a sandboxed child process with Spark, started on demand, asked one thing at a time, and replaced when it fails.

The child computes and cannot write the lakehouse; what it computed is checked and published here. So a child that dies, hangs or
is cancelled has changed nothing, whatever it was doing.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import structlog

import workers
from schemas.payloads import EffectPreview
from workers.adapters.sandbox import history, landlock, protocol, publish
from workers.adapters.sandbox.commits import local_path
from workers.adapters.sandbox.names import SCHEMAS, WRITABLE, target_path
from workers.ports import DryRun, Executed, Outcome, Rows, StatementFailed, StatementRefused

log = structlog.get_logger(__name__)

#: What the child needs to know of our environment. Everything else, tokens above all, stays here.
_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "TZ", "JAVA_HOME", "TAILRACE_JARS", "SPARK_LOCAL_IP")

#: Folders below the home that a child may write besides the lakehouse; the number is the process that made it.
_SCRATCH = "scratch-"

#: Bytes. What a dry run reads to show an effect is read again by the run.
TRIED_BYTES = 256 * 1024 * 1024

#: Seconds that a killed process may take to be gone.
_GONE_WITHIN_S = 10.0


class SparkSandbox:
    """`SqlEngine` over a child process that can read the lakehouse and neither keys nor bus tables.

    `protection` is `landlock`, or `none` where the kernel has no Landlock: then only the guard over the plan protects.
    """

    def __init__(
        self,
        home: Path,
        python: str = sys.executable,
        timeout_s: float = 300.0,
        schemas: Sequence[str] = SCHEMAS,
        cores: int = 2,
        memory: str = "1g",
        writable: Sequence[str] = WRITABLE,
        tried_bytes: int = TRIED_BYTES,
    ) -> None:
        self._home = Path(os.path.realpath(home))
        self._python = python
        #: Seconds one request may take, including the start of Spark where there is none yet.
        self.timeout_s = timeout_s
        self._schemas = tuple(schemas)
        self._writable = tuple(writable)
        #: Bytes of tables up to which a dry run tries a change on a snapshot.
        self._tried_bytes = tried_bytes
        self._cores = cores
        self._memory = memory
        self._lock = asyncio.Lock()
        self._process: asyncio.subprocess.Process | None = None
        self._scratch: Path | None = None
        self._said: deque[str] = deque(maxlen=40)
        self._listener: asyncio.Task[None] | None = None
        self._asked = 0
        #: The grant that is being run.
        self._running: str | None = None
        self._cancelled = False
        #: Grants that wait for their turn, and whether somebody has cancelled them meanwhile.
        self._waiting: dict[str, bool] = {}
        self.protection = "landlock" if landlock.available() else "none"

    async def warm(self) -> None:
        """Start Spark and load what a first request needs."""
        async with self._lock:
            await self._ask("warm")

    async def dry_run(self, sql: str, target: str | None) -> DryRun:
        began = time.perf_counter()
        async with self._lock:
            answer = await self._ask("dry_run", sql=sql, target=target)
        return DryRun(
            statement_class=answer["statement_class"],
            columns=tuple(answer["columns"]),
            table_versions=answer["table_versions"],
            plan=answer["plan"],
            digest=answer["digest"],
            elapsed_ms=(time.perf_counter() - began) * 1000,
            writes=answer.get("writes"),
            estimated_rows=answer.get("estimated_rows"),
            estimated_bytes=answer.get("estimated_bytes"),
            effect=EffectPreview.model_validate(answer["effect"]) if answer.get("effect") else None,
        )

    async def run(
        self, sql: str, target: str | None, grant_id: str, row_limit: int, digest: str | None = None
    ) -> Executed:
        """With `digest`, the child refuses to run what is not the approved dry run, at the moment it runs it."""
        began = time.perf_counter()
        asked = {"sql": sql, "target": target, "grant_id": grant_id, "row_limit": row_limit, "digest": digest}
        self._waiting[grant_id] = False
        async with self._lock:
            if self._waiting.pop(grant_id, False):
                raise StatementFailed("it was cancelled before it began, and changed nothing")
            self._running, self._cancelled = grant_id, False
            try:
                answer = await self._ask("run", **asked)
            finally:
                self._running = None
            # From here on nobody can cancel it: it is a matter of milliseconds, and it happens whole or not at all.
            mark = publish.Mark(grant_id, hashlib.sha256(sql.encode()).hexdigest())
            publishing = asyncio.ensure_future(asyncio.to_thread(self._publish, answer, sql, target, mark))
            try:
                published = await asyncio.shield(publishing)
            except asyncio.CancelledError:
                await asyncio.wait([publishing])
                raise
        return Executed(
            result=Rows(tuple(answer["columns"]), tuple(tuple(row) for row in answer["rows"]), answer["truncated"]),
            row_count=answer["row_count"],
            elapsed_ms=(time.perf_counter() - began) * 1000,
            **published,
        )

    def outcome_of(self, grant_id: str, target: str) -> Outcome | None:
        """What a grant left in the lakehouse, read without Spark. After OutcomeUnknown, None proves that nothing was written."""
        path = self._path_of(target)
        if history.dropped_by(path) == grant_id:
            publish.bury(path, self._warehouse, grant_id)
        return history.outcome_anywhere(path, self._warehouse / publish.DROPPED / target, target, grant_id)

    async def cancel(self, grant_id: str) -> bool:
        """End the process that runs it, and Spark with it: nothing of the run goes on, and its `run` raises StatementFailed.

        False when nothing runs under this grant, or when it is being published already.
        """
        if self._running != grant_id:
            if grant_id in self._waiting:
                self._waiting[grant_id] = True
                return True
            return False
        self._cancelled = True
        await self._end()
        return True

    async def close(self) -> None:
        async with self._lock:
            await self._end()

    # --- publishing --------------------------------------------------------------------------------------------------

    def _publish(self, answer: dict[str, Any], sql: str, declared: str | None, mark: publish.Mark) -> dict[str, Any]:
        """What the child staged, as part of the lakehouse: the table and its version, or the file with a large result."""
        staged = answer.get("staged")
        if staged is None:
            whole = answer.get("whole")
            reference = (
                publish.keep_result(self._scratch, local_path(whole), self._warehouse, mark.grant_id) if whole else None
            )
            return {"table": None, "table_version": None, "reference": reference}
        target, base, verb = staged["target"], staged["version"], staged["verb"]
        if declared is not None and target != declared:
            raise StatementRefused("target.mismatch", f"the engine answered for {target} instead of {declared}")
        path = self._path_of(target)
        if verb == "drop":
            if "drop" not in sql.lower():
                raise StatementRefused("target.files", f"the engine would drop {target}, and the statement does not")
            version = publish.drop(path, self._warehouse, base, mark)
        else:
            place = publish.Staged(self._scratch, local_path(staged["folder"]))
            version = publish.publish(place, path, base, verb, mark)
        return {"table": target, "table_version": version, "table_version_before": base}

    @property
    def _warehouse(self) -> Path:
        return self._home / "warehouse"

    def _path_of(self, target: str) -> Path:
        return target_path(self._warehouse, target, self._schemas, self._writable)

    # --- asking ------------------------------------------------------------------------------------------------------

    async def _ask(self, what: str, **arguments: Any) -> Any:
        try:
            async with asyncio.timeout(self.timeout_s):
                process = await self._started()
                self._asked += 1
                process.stdin.write(protocol.encode({"id": self._asked, "ask": what, **arguments}))
                await process.stdin.drain()
                document = await self._heard(process)
                if document.get("id") != self._asked:
                    raise EOFError("it answered another question")
        except TimeoutError:
            await self._end()
            raise StatementFailed(f"it took longer than {self.timeout_s:g} s and was stopped") from None
        except _NotStarted as error:
            await self._end()
            raise StatementFailed(f"the engine did not start: {error}") from error
        except (EOFError, OSError, ValueError) as error:
            await self._end()
            if self._cancelled:
                raise StatementFailed("it was cancelled, and changed nothing") from error
            raise StatementFailed(f"the engine's process ended: {self._last_words(error)}") from error
        except asyncio.CancelledError:
            # Whoever asked has gone; an effect must not go on behind their back.
            await self._end()
            raise
        if "error" in document:
            raise protocol.error_from(document)
        return document["answer"]

    async def _heard(self, process: asyncio.subprocess.Process) -> dict[str, Any]:
        line = await process.stdout.readline()
        if not line.endswith(b"\n"):
            raise EOFError("no answer")
        document = json.loads(line)
        if not isinstance(document, dict):
            raise ValueError("no document")
        return document

    # --- the child's life ----------------------------------------------------------------------------------------------

    async def _started(self) -> asyncio.subprocess.Process:
        if self._process is not None and self._process.returncode is None:
            return self._process
        await self._end()
        if self.protection == "none":
            log.warning(
                "sandbox.unprotected",
                unprotected=[str(self._home / name) for name in ("keys", "tables")],
                reason="this system has no Landlock: only the check of each statement's plan keeps SQL away from them",
                remedy="run the execution process on Linux 5.13 or later, or as a user who cannot read these folders",
            )
        for schema in self._schemas:
            (self._warehouse / schema).mkdir(parents=True, exist_ok=True)
        _remove_scratch_of_the_dead(self._home)
        self._scratch = Path(tempfile.mkdtemp(prefix=f"{_SCRATCH}{os.getpid()}-", dir=self._home))
        settings = {
            "home": str(self._home),
            "scratch": str(self._scratch),
            "schemas": self._schemas,
            "writable": self._writable,
            "tried_bytes": self._tried_bytes,
            "cores": self._cores,
            "memory": self._memory,
            "protect": self.protection == "landlock",
        }
        command = [self._python, "-m", f"{__package__}.child", json.dumps(settings)]
        pipe = asyncio.subprocess.PIPE
        try:
            self._process = await asyncio.create_subprocess_exec(
                *command, stdin=pipe, stdout=pipe, stderr=pipe, limit=protocol.LONGEST_LINE, cwd=self._scratch,
                env=self._environment(self._scratch), start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise _NotStarted(error) from error
        self._listener = asyncio.create_task(self._listen(self._process.stderr))
        hello = await self._heard(self._process)
        if "error" in hello:
            raise _NotStarted(hello["reason"])
        network = hello.get("network")
        if network in ("ports", "open"):
            log.warning(
                "sandbox.network",
                network=network,
                reason="this system gives no network namespace to a user: "
                + ("only TCP ports of services are closed" if network == "ports" else "the network is open"),
                remedy="allow user namespaces to the execution process, or cut its network off outside",
            )
        log.info(
            "sandbox.started", protection=self.protection, abi=hello["abi"], network=network, pid=self._process.pid
        )
        return self._process

    def _environment(self, scratch: Path) -> dict[str, str]:
        environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        return environment | {
            "HOME": str(scratch),
            "TMPDIR": str(scratch),
            "PYTHONPATH": str(Path(workers.__path__[0]).parent),
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    async def _listen(self, stderr: asyncio.StreamReader) -> None:
        while line := await stderr.readline():
            text = line.decode(errors="replace").rstrip()
            self._said.append(text)
            log.debug("sandbox.said", text=text)

    def _last_words(self, error: Exception) -> str:
        return str(self._said[-1]) if self._said else str(error)

    async def _end(self) -> None:
        """Kill the child and its JVM, and return when neither can write any more."""
        process, self._process = self._process, None
        if process is not None:
            await asyncio.shield(self._kill(process))
        if self._listener is not None:
            self._listener.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._listener
            self._listener = None
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)
            self._scratch = None

    async def _kill(self, process: asyncio.subprocess.Process) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        process.stdin.close()
        await asyncio.to_thread(_wait_until_gone, process.pid)
        process._transport.close()


def _remove_scratch_of_the_dead(home: Path) -> None:
    """An engine that was killed could not tidy up after itself."""
    for folder in home.glob(f"{_SCRATCH}*-*"):
        owner = folder.name.removeprefix(_SCRATCH).partition("-")[0]
        if owner.isdigit() and int(owner) != os.getpid():
            try:
                os.kill(int(owner), 0)
            except ProcessLookupError:
                shutil.rmtree(folder, ignore_errors=True)
            except PermissionError:
                continue


class _NotStarted(Exception):
    """The child said why it cannot serve, or there is no child."""


def _wait_until_gone(group: int) -> None:
    deadline = time.monotonic() + _GONE_WITHIN_S
    while _group_lives(group) and time.monotonic() < deadline:
        time.sleep(0.01)


def _group_lives(group: int) -> bool:
    """Whether any process of the group can still do something; a zombie that nobody collects cannot."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    if not sys.platform.startswith("linux"):
        return True
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                state, _, its_group = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
                if int(its_group) == group and state not in "ZX":
                    return True
    return False

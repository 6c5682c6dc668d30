"""A run seen from outside: the two processes beside it, the clerk and the walls, each asked, heard and ended."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import workers
from workers.adapters.code_sandbox import limits as limited
from workers.adapters.sandbox import protocol
from workers.ports import StatementFailed

#: Seconds that processes which were told to end may take.
GONE_WITHIN_S = 10.0

#: What processes of ours need to know of our environment. Everything else, tokens above all, stays here.
_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG")

#: What Java says before any code runs, whatever it is told.
_NOISE = (b"WARNING: Using incubator modules: jdk.incubator.vector",)

#: Others reserve gigabytes that they do not use, and a limit counts what is reserved.
_ALLOCATING = {"MALLOC_ARENA_MAX": "2", "ARROW_DEFAULT_MEMORY_POOL": "system"}

_PIECE = 64 * 1024


def environment(**more: str) -> dict[str, str]:
    kept = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    root = str(Path(workers.__path__[0]).parent)
    return kept | {"PYTHONPATH": root, "PYTHONDONTWRITEBYTECODE": "1", "TZ": "UTC", **more}


class Clerk:
    """One clerk for one run."""

    def __init__(self, settings: Mapping[str, Any], python: str) -> None:
        self._settings = settings
        self._python = python
        self._process: asyncio.subprocess.Process | None = None

    async def ask(self, what: str, **arguments: Any) -> Any:
        """Raises what the clerk raised, or StatementFailed when it is no more."""
        try:
            process = await self._started()
            process.stdin.write(protocol.encode({"ask": what, **arguments}))
            await process.stdin.drain()
            line = await process.stdout.readline()
            document = json.loads(line) if line.endswith(b"\n") else None
        except (OSError, ValueError, RecursionError) as error:
            raise StatementFailed(f"the process that reads tables and results failed: {error}") from error
        if not isinstance(document, dict):
            said = (await process.stderr.read()).decode(errors="replace").strip().splitlines()
            raise StatementFailed(f"the process that reads tables and results ended: {said[-1] if said else 'no word'}")
        if "error" in document:
            raise protocol.error_from(document)
        return document["answer"]

    async def close(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
            self._process.stdin.close()
            self._process._transport.close()

    async def _started(self) -> asyncio.subprocess.Process:
        if self._process is None:
            pipe = asyncio.subprocess.PIPE
            self._process = await asyncio.create_subprocess_exec(
                self._python, "-P", "-m", f"{__package__}.clerk", json.dumps(self._settings),
                stdin=pipe, stdout=pipe, stderr=pipe, limit=protocol.LONGEST_LINE, cwd=self._settings["scratch"],
                env=environment(**_ALLOCATING), start_new_session=True,
            )  # fmt: skip
        return self._process


@dataclass(frozen=True)
class Ended:
    """How the code ended. `missing`: what this machine lacks, so that it was never started. `report` is the code's own word."""

    missing: str | None
    limit: str | None
    status: int | None
    report: Mapping[str, Any]
    output: str


class Walls:
    """The code in its sandbox. Whoever stops it can be sure that nothing of it lives on when `run` returns."""

    def __init__(self, settings: Mapping[str, Any], python: str) -> None:
        self._settings = settings
        self._python = python
        self._process: asyncio.subprocess.Process | None = None
        self._stopped: str | None = None

    def stop(self, why: str = "cancelled") -> None:
        """The end of its input is the launcher's sign to kill everything; it ends when all of it has."""
        self._stopped = self._stopped or why
        if self._process is not None:
            self._process.stdin.close()

    async def run(self) -> Ended:
        limits = limited.Limits.of(self._settings["limits"])
        folder = Path(self._settings["folder"])
        pipe = asyncio.subprocess.PIPE
        work = str(self._settings["work"])
        self._process = process = await asyncio.create_subprocess_exec(
            self._python, "-P", "-m", f"{__package__}.jail", json.dumps(self._settings),
            stdin=pipe, stdout=pipe, stderr=pipe, cwd=folder, env=code_environment(work), start_new_session=True,
        )  # fmt: skip
        if self._stopped:
            process.stdin.close()
        printed = asyncio.create_task(self._printed(process.stderr, limits))
        try:
            async with asyncio.timeout(
                limits.seconds + GONE_WITHIN_S
            ):  # the launcher has its own clock; this is for its death
                said = await process.stdout.read()
                output = await printed
                await process.wait()
        except TimeoutError:
            said, output = b'{"ended": {"limit": "seconds", "status": null}}', ""
        finally:
            await asyncio.shield(self._end(process, printed))
        document = _last_document(said)
        ended = document.get("ended") or {}
        limit = self._stopped or ended.get("limit")
        return Ended(document.get("missing"), limit, ended.get("status"), _report(folder / "report"), output)

    async def _end(self, process: asyncio.subprocess.Process, printed: asyncio.Task[str]) -> None:
        process.stdin.close()
        try:
            async with asyncio.timeout(GONE_WITHIN_S):
                await process.wait()
        except TimeoutError:
            process.kill()  # the first process inside dies with its parent, and all others with it
            await process.wait()
        printed.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await printed
        process._transport.close()

    async def _printed(self, stream: asyncio.StreamReader, limits: limited.Limits) -> str:
        """The beginning and the end of what was printed, and how much is missing between them."""
        half = limits.output // 2
        head, tail, total = b"", b"", 0
        while piece := await stream.read(_PIECE):
            total += len(piece)
            free = half - len(head)
            head, tail = head + piece[:free], (tail + piece[free:])[-half:]
            if total > limits.flood:
                self.stop("flood")
        cut = total - len(head) - len(tail)
        if self._settings["language"] == "pyspark":
            head = b"".join(line for line in head.splitlines(keepends=True) if line.strip() not in _NOISE)
        gap = f"\n[{cut} bytes are not kept]\n".encode() if cut else b""
        return printable(head + gap + tail)


def code_environment(work: str) -> dict[str, str]:
    """Few threads, one allocator that keeps to its limit, and nothing that makes two runs differ."""
    return environment(
        PATH="/usr/bin:/bin",
        HOME=work,
        TMPDIR=work,
        LANG="C.UTF-8",
        PYTHONHASHSEED="0",
        PYTHONUNBUFFERED="1",
        OPENBLAS_NUM_THREADS="2",
        OMP_NUM_THREADS="2",
        **_ALLOCATING,
    )


def printable(text: bytes) -> str:
    """Nothing that drives a terminal."""
    return "".join(
        c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text.decode(errors="replace")
    )


def _last_document(said: bytes) -> dict[str, Any]:
    lines = said.splitlines()
    try:
        found = json.loads(lines[-1]) if lines else {}
    except ValueError:
        found = {}
    return found if isinstance(found, dict) else {}


def _report(path: Path) -> dict[str, Any]:
    """What the code says of itself: it may have written anything here."""
    try:
        with open(path, "rb") as file:
            found = json.loads(file.read(_PIECE))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}

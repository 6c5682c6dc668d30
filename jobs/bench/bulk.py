"""Bulk append: the same rows from the same dictionaries into PostgreSQL by COPY and into the log, 5,000 a commit."""

from __future__ import annotations

import json
import statistics
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from jobs.bench.echo import Ping, agent
from jobs.bench.home import USER_NAME, BenchSystem
from jobs.bench.servers import Missing, Postgres
from jobs.bench.table import Measurements
from jobs.bench.work import TEXT
from schemas.envelope import USER

Say = Callable[[str], None]
Row = Mapping[str, Any]
#: Appends the rows of one commit. A future: they are durable when it is done, and the next ones may be prepared meanwhile.
Append = Callable[[Sequence[Row]], Future[int] | None]

#: Rows of one commit.
COMMIT = 5_000
#: Commits that may wait at once.
IN_FLIGHT = 2
#: What differs from row to row: keys of the dictionaries, and columns on both sides.
COLUMNS = ("message_id", "correlation_id", "to_agent", "kind", "content", "priority", "timestamp")
#: What is the same in all of them. PostgreSQL has it as defaults of its columns, so that no row carries it.
COMMON = {"from_agent": USER + USER_NAME, "message_type": "request", "principal": USER_NAME}

#: No key and no index: the least a database does for a row.
TABLE = f"""
CREATE TABLE messages (
    message_id text, correlation_id text, causation_id text, from_agent text DEFAULT '{COMMON["from_agent"]}', to_agent text,
    message_type text DEFAULT 'request', kind text, schema_version int DEFAULT 1, content text, priority int,
    timestamp bigint, attempt int DEFAULT 1, principal text DEFAULT '{USER_NAME}'
)
"""


def rows(count: int) -> list[dict[str, Any]]:
    now = time.time_ns() // 1000
    return [
        {
            "message_id": str(uuid.uuid4()),
            "correlation_id": str(uuid.uuid4()),
            "to_agent": "Echo",
            "kind": Ping.kind(),
            "content": json.dumps({"number": number, "text": TEXT, "answer": False}),
            "priority": 5,
            "timestamp": now,
        }
        for number in range(count)
    ]


def measure(
    scratch: Path, postgres: Postgres | None, say: Say, out: Measurements, count: int = 50_000, rounds: int = 5
) -> None:
    """Rounds alternate between all ways; medians."""
    ways: dict[str, Append] = {}
    closing: list[Callable[[], None]] = []
    try:
        if postgres is not None:
            try:
                copy = Copy(postgres.dsn)
                ways["COPY"] = copy.append
                closing.append(copy.close)
            except Missing as error:
                out.figure("bulk append, PostgreSQL COPY", f"left out: {error}")
        for name, signed in (("unsigned", False), ("signed", True)):
            system = BenchSystem(scratch / f"bulk-{name}", signed=signed)
            system.make([agent()])
            bus = system.sending_bus()
            closing.append(bus.close)
            ways[name] = lambda found, bus=bus: bus.submit_rows(found, COMMON)
        rates = _alternate(ways, count, rounds, say)
    finally:
        for close in closing:
            close()
    for name, per_second in rates.items():
        what = "PostgreSQL COPY" if name == "COPY" else f"Tailrace, {name}"
        out.figure(f"bulk append, {what}", f"{per_second:,.0f} rows/s")
    for name in ("unsigned", "signed"):
        if "COPY" in rates:
            ratio = rates[name] / rates["COPY"]
            out.ratio(f"bulk append, {name} / COPY", ratio, "at least 1 x", ratio >= 1)


def _alternate(ways: Mapping[str, Append], count: int, rounds: int, say: Say) -> dict[str, float]:
    found: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, append in ways.items():
            say(f"bulk append, {name}")
            messages = rows(count if number else COMMIT)  # new ids each time; the first round only warms up
            started = time.perf_counter()
            _append_all(messages, append)
            if number:
                found[name].append(count / (time.perf_counter() - started))
    return {name: statistics.median(rates) for name, rates in found.items()}


def _append_all(messages: Sequence[Row], append: Append) -> None:
    waiting: deque[Future[int]] = deque()
    for start in range(0, len(messages), COMMIT):
        if (done := append(messages[start : start + COMMIT])) is not None:
            waiting.append(done)
        if len(waiting) >= IN_FLIGHT:
            waiting.popleft().result()
    for done in waiting:
        done.result()


class Copy:
    """COPY .. FROM STDIN by psycopg, row by row as its documentation shows."""

    def __init__(self, dsn: str) -> None:
        try:
            import psycopg
        except ImportError:
            raise Missing("psycopg is not installed: pip install 'tailrace[bench]'") from None
        self._line = psycopg.connect(dsn)
        self._line.execute(TABLE)
        self._line.commit()

    def append(self, messages: Sequence[Row]) -> None:
        with (
            self._line.cursor() as cursor,
            cursor.copy(f"COPY messages ({', '.join(COLUMNS)}) FROM STDIN") as copy,
        ):
            for one in messages:
                copy.write_row([one[name] for name in COLUMNS])
        self._line.commit()

    def close(self) -> None:
        self._line.close()

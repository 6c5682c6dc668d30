"""One message a commit: our append with both durabilities, deltalake's, Spark's."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from bus.log import rows as codec
from bus.log.bus import LogBus
from bus.log.store import Durability
from bus.log.table import DeltaLog
from jobs.bench.table import Measurements
from schemas.envelope import Message
from schemas.tables import AGENT_MESSAGES

Say = Callable[[str], None]


def sample(number: int = 0) -> Message:
    """About 400 bytes, as everywhere in the measurements."""
    return Message(
        message_id=str(uuid.uuid4()),
        correlation_id=str(uuid.uuid4()),
        from_agent="user:bench",
        to_agent="Echo",
        message_type="request",
        kind="Ping",
        content=json.dumps({"number": number, "text": "x" * 200}),
        timestamp=time.time_ns() // 1000,
        principal="bench",
    )


def measure(scratch: Path, say: Say, out: Measurements, count: int = 200, slow_count: int = 20) -> None:
    """Four ways to append one message to a table of the same schema."""
    medians: dict[str, float] = {}
    for durability in ("os", "disk"):
        say(f"append, durability {durability}")
        medians[durability] = out.times(
            f"append one message, durability={durability}", _ours(scratch / durability, durability, count)
        )
    say("append, write_deltalake")
    medians["deltalake"] = out.times(
        "append one message, write_deltalake", _deltalake(scratch / "deltalake", slow_count * 2)
    )
    say("append, Spark")
    medians["spark"] = out.times("append one message, Spark", _spark(scratch / "spark", slow_count))
    ours = medians["os"]
    out.ratio(
        "write_deltalake / os append", medians["deltalake"] / ours, "at least 10 x", medians["deltalake"] >= 10 * ours
    )
    out.ratio("Spark append / os append", medians["spark"] / ours, "at least 100 x", medians["spark"] >= 100 * ours)


def _ours(path: Path, durability: Durability, count: int) -> list[float]:
    table = DeltaLog(path, AGENT_MESSAGES, durability)
    table.create()
    bus = LogBus(table)
    try:
        return _timed(count, lambda: bus.submit([sample()]).result())
    finally:
        bus.close()


def _deltalake(path: Path, count: int) -> list[float]:
    from deltalake import write_deltalake

    rows = codec.to_arrow([sample()], 0)
    write_deltalake(str(path), rows)
    return _timed(count, lambda: write_deltalake(str(path), codec.to_arrow([sample()], 0), mode="append"))


def _spark(path: Path, count: int) -> list[float]:
    from bus.streaming.session import spark_session

    spark = spark_session("tailrace-bench")

    def append() -> None:
        frame = spark.createDataFrame([("id", "x" * 400)], "message_id string, content string")
        frame.write.format("delta").mode("append").save(str(path))

    for _ in range(5):
        append()
    times = _timed(count, append)
    spark.stop()
    return times


def _timed(count: int, work: Callable[[], object]) -> list[float]:
    work()
    found = []
    for _ in range(count):
        started = time.perf_counter()
        work()
        found.append((time.perf_counter() - started) * 1000)
    return found

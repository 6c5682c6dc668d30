"""The table `replays`: what every message came to, written some hundred rows at a time."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from bus.log.table import DeltaLog
from jobs.replay.report import Finding
from schemas.envelope import Message
from workers.runtime.replaying import Recording, Replayed

#: Rows of one commit.
ROWS = 500

_OUTPUT = ("message_type", "kind", "to_agent", "causation_id", "priority", "not_before", "expires_at", "content")


class Book:
    """`replaced`: what was read in the place of the usual files; `now`: UTC microseconds."""

    def __init__(self, table: DeltaLog, replay_id: str, replaced: Mapping[str, Path], now: int) -> None:
        self._table = table
        self._replay_id = replay_id
        self._replaced = json.dumps({name: str(path) for name, path in replaced.items()})
        self._now = now
        self._rows: list[dict[str, Any]] = []

    def add(self, finding: Finding, recording: Recording, replayed: Replayed | None, worker: str) -> None:
        self._rows.append(
            {
                "replay_id": self._replay_id,
                "message_id": finding.message_id,
                "correlation_id": finding.correlation_id,
                "agent": finding.agent,
                "kind": finding.kind,
                "worker": worker,
                "verdict": finding.verdict,
                "reason": finding.reason,
                "recorded_outcome": finding.recorded_outcome,
                "replayed_outcome": finding.replayed_outcome,
                "recorded": _outputs(recording.outputs),
                "replayed": _outputs(replayed.outputs) if replayed else None,
                "difference_count": len(finding.differences),
                "differences": json.dumps([vars(one) for one in finding.differences], ensure_ascii=False),
                "recorded_ms": finding.recorded_ms,
                "replayed_ms": finding.replayed_ms,
                "replaced": self._replaced,
                "timestamp": self._now,
                "log_version": recording.receipt.log_version,
                "seq": recording.receipt.seq,
            }
        )
        if len(self._rows) >= ROWS:
            self.write()

    def write(self) -> None:
        """Write what has not been written yet."""
        if self._rows:
            schema = self._table.schema.file_schema
            columns = [pa.array([row[field.name] for row in self._rows], type=field.type) for field in schema]
            self._table.append(pa.Table.from_arrays(columns, schema=schema))
            self._rows = []


def _outputs(rows: Sequence[Message]) -> str:
    return json.dumps([{name: getattr(row, name) for name in _OUTPUT} for row in rows], ensure_ascii=False)

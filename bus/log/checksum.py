"""Version checksums (`_delta_log/N.crc`): what a Delta reader would otherwise compute by a job over the whole log.

Spark asks for protocol and metadata with every micro-batch. Without a checksum of the newest version it runs a Spark job
for that, which is more than half of a Structured Streaming hop. They are a hint: readers do without one that is missing.
"""

from __future__ import annotations

import json
import threading
from typing import Any

import structlog

from bus.log.entry import entry_path
from bus.log.table import DeltaLog

log = structlog.get_logger(__name__)


class Checksums:
    """Writes the checksum of the newest version, in a thread of its own; whoever appends does not wait for it."""

    def __init__(self, table: DeltaLog) -> None:
        self._table = table
        self._protocol, self._metadata = table.definition()
        self._version, self._files, self._bytes = -1, 0, 0
        self._wanted = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="log-checksums", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Idempotent."""
        self._stopping = True
        self._wanted.set()
        if self._thread.is_alive():
            self._thread.join()

    def advance(self) -> None:
        """Something was committed."""
        self._wanted.set()

    def _run(self) -> None:
        try:
            self._load()
            while not self._stopping:
                self._wanted.wait()
                self._wanted.clear()
                self._follow()
        except Exception:
            log.exception("checksums.stopped", table=self._table.uri)

    def _load(self) -> None:
        """The counts once, from an ordinary reader's snapshot."""
        import pyarrow as pa
        import pyarrow.compute as pc

        opened = self._table.open()
        sizes = pa.table(opened.get_add_actions(flatten=True)).column("size_bytes")
        self._version, self._files = opened.version(), len(sizes)
        self._bytes = pc.sum(sizes).as_py() or 0

    def _follow(self) -> None:
        moved = False
        while (data := self._table.store.get(entry_path(self._version + 1))) is not None:
            for line in data.splitlines():
                if not self._count(action := json.loads(line)):
                    raise ValueError(f"version {self._version + 1} changes the table's protocol")
                self._metadata = action.get("metaData", self._metadata)
            self._version += 1
            moved = True
        if moved:
            self._table.store.put_if_absent(f"_delta_log/{self._version:020d}.crc", self._checksum())

    def _count(self, action: dict[str, Any]) -> bool:
        if add := action.get("add"):
            self._files += 1
            self._bytes += add["size"]
        elif remove := action.get("remove"):
            self._files -= 1
            self._bytes -= remove["size"]
        return "protocol" not in action

    def _checksum(self) -> bytes:
        return json.dumps(
            {
                "tableSizeBytes": self._bytes,
                "numFiles": self._files,
                "numMetadata": 1,
                "numProtocol": 1,
                "metadata": self._metadata,
                "protocol": self._protocol,
            }
        ).encode()

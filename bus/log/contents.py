"""What a table consists of at a version: its files, transactions and definition; loaded from a checkpoint and the entries after."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from bus.errors import ForeignLog, LogMissing
from bus.log import entry as entries
from bus.log.entry import Added, Entry, entry_path

if TYPE_CHECKING:
    from bus.log.table import DeltaLog

_STRINGS = pa.map_(pa.string(), pa.string())
#: The classic checkpoint's columns, as the Delta protocol names them.
_SCHEMA = pa.schema(
    [
        pa.field("txn", pa.struct([("appId", pa.string()), ("version", pa.int64()), ("lastUpdated", pa.int64())])),
        pa.field(
            "add",
            pa.struct(
                [
                    ("path", pa.string()),
                    ("partitionValues", _STRINGS),
                    ("size", pa.int64()),
                    ("modificationTime", pa.int64()),
                    ("dataChange", pa.bool_()),
                    ("stats", pa.string()),
                    ("tags", _STRINGS),
                ]
            ),
        ),
        pa.field(
            "remove",
            pa.struct(
                [
                    ("path", pa.string()),
                    ("deletionTimestamp", pa.int64()),
                    ("dataChange", pa.bool_()),
                    ("extendedFileMetadata", pa.bool_()),
                    ("partitionValues", _STRINGS),
                    ("size", pa.int64()),
                ]
            ),
        ),
        pa.field(
            "metaData",
            pa.struct(
                [
                    ("id", pa.string()),
                    ("name", pa.string()),
                    ("description", pa.string()),
                    ("format", pa.struct([("provider", pa.string()), ("options", _STRINGS)])),
                    ("schemaString", pa.string()),
                    ("partitionColumns", pa.list_(pa.string())),
                    ("configuration", _STRINGS),
                    ("createdTime", pa.int64()),
                ]
            ),
        ),
        pa.field(
            "protocol",
            pa.struct(
                [
                    ("minReaderVersion", pa.int32()),
                    ("minWriterVersion", pa.int32()),
                    ("readerFeatures", pa.list_(pa.string())),
                    ("writerFeatures", pa.list_(pa.string())),
                ]
            ),
        ),
    ]
)


def checkpoint_path(version: int) -> str:
    return f"_delta_log/{version:020d}.checkpoint.parquet"


@dataclass
class Contents:
    """The replay of a log up to `version`. `checkpoint`: the version of the newest checkpoint known, or -1."""

    version: int = -1
    checkpoint: int = -1
    protocol: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    files: dict[str, Added] = field(default_factory=dict)
    txns: dict[str, int] = field(default_factory=dict)

    def apply(self, entry: Entry) -> None:
        """The next entry. A file keeps the version it came with: nothing else will know it after a clean-up."""
        for gone in entry.removed:
            self.files.pop(gone.path, None)
        for one in entry.added:
            # Whatever it is tagged with: new rows stand in the entry that brings them.
            self.files[one.path] = _spanning(one, entry.version)
        for one in entry.compacted:
            self.files[one.path] = one if one.span is not None else _spanning(one, entry.version)
        self.txns.update(entry.txns)
        self.version = entry.version

    def follow(self, table: DeltaLog, limit: int | None = None) -> list[Entry]:
        """Apply the entries that exist above `version`, at most `limit`."""
        found: list[Entry] = []
        while limit is None or len(found) < limit:
            entry = self._next(table)
            if entry is None:
                break
            found.append(entry)
        return found

    def _next(self, table: DeltaLog) -> Entry | None:
        data = table.store.get(entry_path(self.version + 1))
        if data is None:
            return None
        entry = entries.parse(self.version + 1, data)
        defined = entries.definition(entry.version, data)
        if "protocol" in defined:
            entries.check_protocol(defined["protocol"])
            self.protocol = defined["protocol"]
        self.metadata = defined.get("metaData", self.metadata)
        self.apply(entry)
        return entry

    # --- checkpoints -----------------------------------------------------------------------------------------------

    def write_checkpoint(self, table: DeltaLog) -> None:
        """Write down this version, then point readers at it. Files that left are not in it: what is to be deleted is
        written elsewhere, and a million tombstones would make every reader's start slow."""
        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pylist(self._actions(), schema=_SCHEMA), sink, compression="snappy")
        data = sink.getvalue().to_pybytes()
        table.store.put_if_absent(checkpoint_path(self.version), data)
        self.point_readers(table, len(data))
        self.checkpoint = self.version

    def point_readers(self, table: DeltaLog, size: int) -> None:
        newest = table.checkpoint_version()
        if newest is None or newest < self.version:
            pointer = {
                "version": self.version,
                "size": len(self.files) + len(self.txns) + 2,
                "sizeInBytes": size,
                "numOfAddFiles": len(self.files),
            }
            table.store.replace("_delta_log/_last_checkpoint", json.dumps(pointer, separators=(",", ":")).encode())

    def _actions(self) -> list[dict[str, Any]]:
        metadata = {**self.metadata, "format": {"provider": "parquet", "options": []}}
        metadata["configuration"] = list(dict(self.metadata.get("configuration") or {}).items())
        rows: list[dict[str, Any]] = [{"protocol": self.protocol}, {"metaData": metadata}]
        rows += [{"txn": {"appId": app, "version": version}} for app, version in self.txns.items()]
        for one in self.files.values():
            # `dataChange` of a checkpoint's actions is false, as the protocol wants it: nothing changes by them.
            body = entries.add_action(one, one.modified_ms, data_change=False)
            body["partitionValues"] = list(one.partition.items())
            body["tags"] = list(body["tags"].items()) if "tags" in body else None
            rows.append({"add": body})
        return rows


def load(table: DeltaLog, upto_checkpoint: bool = False) -> Contents:
    """The contents now, or at the newest checkpoint (version -1 when there is none).

    Raises LogMissing, or ForeignLog when the newest checkpoint is not there.
    """
    for _ in range(10):
        version = table.checkpoint_version()
        if version is None:
            found: Contents | None = Contents()
        else:
            found = _read_checkpoint(table, version)
        if found is not None:
            if upto_checkpoint:
                return found
            found.follow(table)
            if found.version < 0:
                raise LogMissing(f"no log at {table.uri}: run `tailrace init`")
            return found
    raise ForeignLog(f"{table.uri} has lost its checkpoint {version}; restore it from a backup")


def _read_checkpoint(table: DeltaLog, version: int) -> Contents | None:
    """None: it was replaced by a newer one meanwhile."""
    data = table.store.get(checkpoint_path(version))
    if data is None:
        return None
    found = Contents(version, version)
    columns = ["txn", "add", "metaData", "protocol"]
    for action in pq.read_table(pa.BufferReader(data), columns=columns).to_pylist(maps_as_pydicts="strict"):
        if add := action["add"]:
            one = entries.added_file(add)
            found.files[one.path] = one
        elif txn := action["txn"]:
            found.txns[txn["appId"]] = txn["version"]
        elif metadata := action["metaData"]:
            found.metadata = metadata
        elif protocol := action["protocol"]:
            found.protocol = {name: value for name, value in protocol.items() if value is not None}
    entries.check_protocol(found.protocol)
    return found


def _spanning(one: Added, version: int) -> Added:
    return Added(one.path, one.partition, one.size, one.rows, one.stats, one.modified_ms, (version, version))

"""A log entry: the JSON lines of one Delta commit, as this writer writes and reads them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import quote, unquote

from bus.errors import ForeignLog
from schemas.columns import TableSchema

ENGINE = "tailrace/0.1"
#: Tag of a file: the versions whose rows it holds.
SPAN = "tailrace.versions"
#: Made once: `json.dumps` makes one for each call that wants no spaces.
_json = json.JSONEncoder(separators=(",", ":")).encode

#: Readers open such a table with protocol 1. `tailraceLog` is a writer feature nobody else has: every other writer refuses.
PROTOCOL = {
    "protocol": {
        "minReaderVersion": 1,
        "minWriterVersion": 7,
        "writerFeatures": ["appendOnly", "invariants", "tailraceLog"],
    }
}


def entry_path(version: int) -> str:
    return f"_delta_log/{version:020d}.json"


@dataclass(frozen=True)
class Added:
    """A data file: path as stored in the log (URL-encoded), partition values, size in bytes, rows."""

    path: str
    partition: Mapping[str, str | None]
    size: int
    rows: int
    stats: Mapping[str, Any]
    modified_ms: int = 0
    #: First and last version whose rows it holds. None: not known; the entry that added it would say.
    span: tuple[int, int] | None = None

    @property
    def file(self) -> str:
        return unquote(self.path)


@dataclass(frozen=True)
class Removed:
    """A data file that left the table: by compaction, or because its day was archived. The file itself may stay a while."""

    path: str
    partition: Mapping[str, str | None]
    size: int
    removed_ms: int

    @property
    def file(self) -> str:
        return unquote(self.path)


@dataclass(frozen=True)
class Entry:
    """One commit. `commit_id` says whose it is; `txns` are appId -> version; `decided` lists receipts and claims.

    `added` are files with new rows. `compacted` are files with rows that other files held before, which `removed` lists.
    """

    version: int
    commit_id: str | None
    added: tuple[Added, ...]
    txns: Mapping[str, int]
    decided: Sequence[str]
    compacted: tuple[Added, ...] = ()
    removed: tuple[Removed, ...] = ()
    #: The rows of `added` once more, without nulls, when they are few: a follower then needs no second file.
    inline: Sequence[Mapping[str, Any]] = ()


def creation(schema: TableSchema, table_id: str, now_ms: int, commit_id: str) -> bytes:
    """Entry 0: protocol, metadata, commitInfo."""
    configuration = {"delta.appendOnly": "true"}
    if schema.stats:
        # Without it, deltalake takes a column that an entry gives no least and greatest value of for one that is null
        # throughout, and leaves the file out of every filtered read.
        configuration["delta.dataSkippingStatsColumns"] = ",".join(schema.stats)
    metadata = {
        "metaData": {
            "id": table_id,
            "name": schema.name,
            "description": schema.comment,
            "format": {"provider": "parquet", "options": {}},
            "schemaString": schema.delta,
            "partitionColumns": list(schema.partition_by),
            "configuration": configuration,
            "createdTime": now_ms,
        }
    }
    info = {"commitInfo": _info(now_ms, "CREATE TABLE", commit_id, ())}
    return _lines(info, PROTOCOL, metadata)


def missing_columns(metadata: Mapping[str, Any], schema: TableSchema) -> list[str]:
    """Columns that `schema` has and a table of an older release lacks, when that is the only difference; else none."""
    there = {field["name"]: field for field in json.loads(metadata["schemaString"])["fields"]}
    ours = {field["name"]: field for field in json.loads(schema.delta)["fields"]}
    kept = [name for name in ours if name in there]
    if list(there) != kept or any(there[name]["type"] != ours[name]["type"] for name in kept):
        return []
    return [name for name in ours if name not in there]


def widening(metadata: Mapping[str, Any], schema: TableSchema, now_ms: int, commit_id: str) -> bytes:
    """An entry that adds the missing columns to a table that is there; its rows have null in them."""
    info = _info(now_ms, "ADD COLUMNS", commit_id, ())
    info["tailrace"]["addsColumns"] = missing_columns(metadata, schema)
    wider = {**metadata, "schemaString": schema.delta, "description": schema.comment}
    return _lines({"commitInfo": info}, {"metaData": {key: value for key, value in wider.items() if value is not None}})


def append(
    added: Sequence[Added],
    now_ms: int,
    commit_id: str,
    txns: Mapping[str, int],
    decided: Sequence[str],
    inline: Sequence[Mapping[str, Any]] = (),
) -> bytes:
    """An append's entry. commitInfo comes first, as the protocol recommends."""
    info = _info(now_ms, "WRITE", commit_id, decided)
    if inline:
        info["tailrace"]["rows"] = list(inline)
    actions: list[dict[str, Any]] = [{"commitInfo": info}]
    actions += [{"txn": {"appId": app, "version": version, "lastUpdated": now_ms}} for app, version in txns.items()]
    actions += [{"add": add_action(one, now_ms, data_change=True)} for one in added]
    return _lines(*actions)


def rearrangement(
    operation: str, removed: Sequence[Added], added: Sequence[Added], now_ms: int, commit_id: str, rows_leave: bool
) -> bytes:
    """An entry of upkeep: files go, files come. `rows_leave`: the table loses rows; else it is the same rows elsewhere."""
    actions: list[dict[str, Any]] = [{"commitInfo": _info(now_ms, operation, commit_id, ())}]
    actions += [
        {
            "remove": {
                "path": one.path,
                "deletionTimestamp": now_ms,
                "dataChange": rows_leave,
                "extendedFileMetadata": True,
                "partitionValues": one.partition,
                "size": one.size,
            }
        }
        for one in removed
    ]
    actions += [{"add": add_action(one, now_ms, data_change=False)} for one in added]
    return _lines(*actions)


def add_action(one: Added, now_ms: int, data_change: bool) -> dict[str, Any]:
    body = {
        "path": one.path,
        "partitionValues": one.partition,
        "size": one.size,
        "modificationTime": now_ms,
        "dataChange": data_change,
        "stats": _json(one.stats),
    }
    return body if one.span is None else body | {"tags": {SPAN: f"{one.span[0]}-{one.span[1]}"}}


def parse(version: int, data: bytes) -> Entry:
    """Read an entry. Raises ForeignLog for one that isn't JSON lines, or that changes what a log must be."""
    commit_id: str | None = None
    decided: Sequence[str] = ()
    added: list[Added] = []
    compacted: list[Added] = []
    removed: list[Removed] = []
    txns: dict[str, int] = {}
    inline: Sequence[Mapping[str, Any]] = ()
    widens = False
    for action in _actions(version, data):
        if info := action.get("commitInfo"):
            ours = info.get("tailrace") or {}
            widens = bool(ours.get("addsColumns"))
            commit_id, decided = ours.get("commitId"), ours.get("decided") or ()
            inline = ours.get("rows") or ()
        elif add := action.get("add"):
            # Without a change of data it is compaction: the rows were seen where they were first written.
            (added if add.get("dataChange", True) else compacted).append(added_file(add))
        elif remove := action.get("remove"):
            partition = remove.get("partitionValues") or {}
            removed.append(
                Removed(remove["path"], partition, remove.get("size") or 0, remove.get("deletionTimestamp") or 0)
            )
        elif txn := action.get("txn"):
            txns[txn["appId"]] = txn["version"]
        elif "protocol" in action and version > 0:
            check_protocol(action["protocol"])
        elif "metaData" in action and version > 0 and not widens:
            raise ForeignLog(
                f"log entry {version} changes the table's metadata, which Tailrace does only to add columns of its own: "
                "another writer was here. Nothing was written; restore the log from a backup, or stop that writer and "
                "start anew elsewhere"
            )
    if len(inline) != sum(one.rows for one in added) or not all(isinstance(row, dict) for row in inline):
        inline = ()  # the files say it in any case
    if inline and b"\\ud" in data.lower() and not _is_text(inline):
        raise ForeignLog(f"log entry {version} holds half a character, which no text does; restore it from a backup")
    return Entry(version, commit_id, tuple(added), txns, decided, tuple(compacted), tuple(removed), inline)


def _is_text(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether no text in them holds half a character, which JSON can and no file of ours does."""
    try:
        json.dumps(rows, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def added_file(add: Mapping[str, Any]) -> Added:
    """An `add` action, of an entry or of a checkpoint."""
    stats = json.loads(add.get("stats") or "{}")
    first, _, last = ((add.get("tags") or {}).get(SPAN) or "").partition("-")
    return Added(
        add["path"],
        add.get("partitionValues") or {},
        add.get("size", 0),
        stats.get("numRecords", -1),
        stats,
        add.get("modificationTime") or 0,
        (int(first), int(last)) if last else None,
    )


def definition(version: int, data: bytes) -> dict[str, Any]:
    """The protocol and metadata that an entry sets, by action name; almost always none. Raises ForeignLog."""
    if b'"protocol"' not in data and b'"metaData"' not in data:
        return {}
    return {
        name: action[name] for action in _actions(version, data) for name in ("protocol", "metaData") if name in action
    }


def _actions(version: int, data: bytes) -> list[dict[str, Any]]:
    try:
        actions = [json.loads(line) for line in data.splitlines() if line.strip()]
    except ValueError as error:
        raise ForeignLog(f"log entry {version} is not JSON lines ({error}); restore it from a backup") from error
    if not actions or not all(isinstance(body, dict) for one in actions for body in _bodies(one)):
        raise ForeignLog(f"log entry {version} holds no actions; restore it from a backup")
    if any("path" not in one[verb] for one in actions for verb in ("add", "remove") if verb in one):
        raise ForeignLog(f"log entry {version} names a file without a path; restore it from a backup")
    return actions


def _bodies(action: object) -> list[object]:
    return list(action.values()) if isinstance(action, dict) else [None]


def check_protocol(protocol: Mapping[str, Any]) -> None:
    """Refuse to write what we do not understand. Raises ForeignLog."""
    ours = set(PROTOCOL["protocol"]["writerFeatures"])
    features = set(protocol.get("writerFeatures") or ()) | set(protocol.get("readerFeatures") or ())
    if protocol.get("minReaderVersion", 1) > 1 or "tailraceLog" not in features or features - ours:
        extra = ", ".join(sorted(features - ours)) or "none"
        raise ForeignLog(
            f"this is not a log that Tailrace writes: reader version {protocol.get('minReaderVersion')}, "
            f"writer version {protocol.get('minWriterVersion')}, features not known here: {extra}. Nothing was written."
        )


def check_metadata(metadata: Mapping[str, Any], schema: TableSchema) -> None:
    """Refuse to write what other writers may have made of a table. Raises ForeignLog, naming the first difference."""
    there, ours = (
        {field["name"]: field["type"] for field in json.loads(text)["fields"]}
        for text in (metadata["schemaString"], schema.delta)
    )
    different = ""
    if schema.widens and (lacking := missing_columns(metadata, schema)):
        different = f"is older than this release and lacks {', '.join(lacking)}: `tailrace init` adds them"
    elif list(there) != list(ours):
        different = f"has columns {list(there)}, not those of {schema.name}"
    elif changed := [name for name in ours if there[name] != ours[name]]:
        different = f"has another type of column {changed[0]} than {schema.name}: {there[changed[0]]}"
    elif list(metadata.get("partitionColumns") or ()) != list(schema.partition_by):
        different = f"is partitioned by {metadata.get('partitionColumns')}, not by {list(schema.partition_by)}"
    elif (metadata.get("configuration") or {}).get("delta.appendOnly") != "true":
        different = "is no longer append-only"
    if different:
        raise ForeignLog(f"the table {different}; nothing was written")


def data_path(partition: Mapping[str, str | None], name: str) -> str:
    return "/".join([*map(_folder, partition, partition.values()), name])


@lru_cache(maxsize=100)
def _folder(key: str, value: str | None) -> str:
    return f"{quote(key)}={quote(value or '__HIVE_DEFAULT_PARTITION__')}"


def _info(now_ms: int, operation: str, commit_id: str, decided: Sequence[str]) -> dict[str, Any]:
    return {
        "timestamp": now_ms,
        "operation": operation,
        "operationParameters": {"mode": "Append"} if operation == "WRITE" else {},
        "isBlindAppend": operation == "WRITE",
        "engineInfo": ENGINE,
        "tailrace": {"commitId": commit_id, "decided": list(decided)},
    }


def _lines(*actions: Mapping[str, Any]) -> bytes:
    return ("\n".join(map(_json, actions)) + "\n").encode()

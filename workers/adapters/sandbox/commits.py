"""One entry of a Delta log as data: what it adds and removes, and whether a table's features are ones that we can write."""

from __future__ import annotations

import json
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow.parquet as pq
from deltalake import DeltaTable

from workers.ports import StatementRefused

#: Bytes of one entry that is read whole. A hundred thousand files fit; more is no result of one statement.
LARGEST_ENTRY = 64 * 1024 * 1024

#: Table features whose rules hold for whoever adds and removes whole files the way Spark said.
_FEATURES = frozenset({"appendOnly", "invariants", "checkConstraints", "changeDataFeed", "generatedColumns"})
_NEWEST_READER, _NEWEST_WRITER = 1, 7


@dataclass(frozen=True)
class Entry:
    info: dict[str, Any] = field(default_factory=dict)
    adds: list[dict[str, Any]] = field(default_factory=list)
    removes: list[dict[str, Any]] = field(default_factory=list)
    changes: list[dict[str, Any]] = field(default_factory=list)
    metadata: dict[str, Any] | None = None
    protocol: dict[str, Any] | None = None
    #: Kinds of actions that nobody here knows.
    unknown: frozenset[str] = frozenset()

    @property
    def metrics(self) -> dict[str, int]:
        """Spark writes numbers as text, others as numbers."""
        found = self.info.get("operationMetrics") or {}
        return {name: int(value) for name, value in found.items() if str(value).isdigit()}


def entry_path(table: Path, version: int) -> Path:
    return table / "_delta_log" / f"{version:020}.json"


def read_entry(root: Path, table: Path, version: int) -> Entry | None:
    """The entry of a table below `root`, or None where there is none. Raises OSError, or ValueError for what is no entry."""
    place = entry_path(table, version)
    try:
        fd = open_below(root, place)
    except FileNotFoundError:
        return None
    with os.fdopen(fd, encoding="utf-8") as file:
        text = file.read(LARGEST_ENTRY + 1)
    if len(text) > LARGEST_ENTRY:
        raise ValueError(f"{place.name} is larger than {LARGEST_ENTRY} bytes")
    return parsed(text)


def open_below(root: Path, place: Path) -> int:
    """Open a plain file for reading, following no link on the way from `root`: one could lead to what only we may read."""
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        *folders, name = place.parts
        for part in folders:
            inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
            os.close(folder)
            folder = inner
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    finally:
        os.close(folder)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(f"{place} is no file")
    return fd


def parsed(text: str) -> Entry:
    found: dict[str, list[dict[str, Any]]] = {}
    for line in text.splitlines():
        action = json.loads(line)
        if not isinstance(action, dict) or len(action) != 1:
            raise ValueError("an action of the log has one name")
        ((kind, body),) = action.items()
        if not isinstance(body, dict):
            raise ValueError(f"{kind} has no content")
        found.setdefault(kind, []).append(body)
    known = {"commitInfo", "add", "remove", "cdc", "metaData", "protocol", "txn"}
    return Entry(
        info=(found.get("commitInfo") or [{}])[0],
        adds=found.get("add", []),
        removes=found.get("remove", []),
        changes=found.get("cdc", []),
        metadata=(found.get("metaData") or [None])[0],
        protocol=(found.get("protocol") or [None])[0],
        unknown=frozenset(found.keys() - known),
    )


def rows_in(action: dict[str, Any], folder: Path) -> int:
    """By its statistics, or by the file's own footer where there are none."""
    stats = action.get("stats")
    if stats:
        counted = json.loads(stats).get("numRecords")
        if isinstance(counted, int):
            return counted
    return int(pq.read_metadata(folder / local_path(action["path"])).num_rows)


def local_path(path: str) -> Path:
    """A data file's place below its table. Raises StatementRefused for one that leads anywhere else."""
    parts = unquote(path).split("/")
    if any(part in ("", ".", "..") or part == "_delta_log" or "\0" in part for part in parts):
        raise StatementRefused("target.files", f"{path!r} is no data file of a table: nothing was written")
    return Path(*parts)


def refuse_unknown_features(table: DeltaTable, target: str) -> None:
    """Deletion vectors, column mapping and the like change what a file means. Raises `target.features`."""
    protocol = table.protocol()
    features = {*(protocol.reader_features or ()), *(protocol.writer_features or ())}
    if (
        protocol.min_reader_version > _NEWEST_READER
        or protocol.min_writer_version > _NEWEST_WRITER
        or features - _FEATURES
    ):
        shown = ", ".join(sorted(features - _FEATURES)) or f"reader version {protocol.min_reader_version}"
        raise StatementRefused(
            "target.features", f"{target} uses {shown}, which is not written here: make a copy of it first"
        )

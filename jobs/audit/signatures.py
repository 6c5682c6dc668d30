"""Signatures of very many rows, checked by processes of their own: Ed25519 keeps one core of Python busy, not two."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from struct import error as StructError
from typing import Any, NamedTuple, cast

import pyarrow as pa

from bus import tree
from bus.errors import Untrusted
from bus.keys import TREE, Keyring
from jobs.audit import merkle
from schemas.envelope import Message
from schemas.tables import AGENT_MESSAGES

#: Rows that are checked at once, a commit never being split.
CHUNK = 4_000
#: Rows from which on a process of its own is worth its start.
MANY = 10_000
#: Shared signatures that are remembered.
_GROUPS = 2_000
#: Chunks that wait for a process at most.
_AHEAD = 3
_NAMES = AGENT_MESSAGES.file_schema.names
_nothing = Message.model_construct()


class Leaf(NamedTuple):
    """Where a row stands in the tree that was signed: `group` is its key and signature, `place` of `size` rows.

    Place -1: the row does not hold, and only says that it stands there.
    """

    group: str
    place: int
    size: int


@dataclass(frozen=True)
class Checked:
    """A chunk of rows in log order. `refused`: by index, rule and reason. `hashes`: 32 bytes a row, for the Merkle tree.

    `facts`: sha256 over what is signed, for audit facts. `leaves`: of rows that share a signature, by index.
    """

    rows: pa.Table
    refused: dict[int, tuple[str, str]]
    hashes: list[bytes]
    facts: dict[int, str]
    leaves: dict[int, Leaf]


def checked(rows: pa.Table, keys: Path, table_id: str, environment: str, many: int = MANY) -> Iterator[Checked]:
    """All rows in order, chunk by chunk. `rows` are sorted by place. `many`: from here on, in processes of their own."""
    place = (keys, table_id, environment)
    if rows.num_rows < many:
        check = _Check(*place)
        for chunk in chunks(rows):
            yield Checked(chunk, *check(chunk))
        return
    processes = min(2, os.cpu_count() or 1)
    # Arrow and deltalake have threads of their own: such a process cannot be forked.
    with ProcessPoolExecutor(processes, get_context("spawn"), initializer=_begin, initargs=place) as pool:
        waiting: deque[tuple[pa.Table, Future[Any]]] = deque()
        for chunk in chunks(rows):
            waiting.append((chunk, pool.submit(_work, _packed(chunk))))
            if len(waiting) > _AHEAD:
                done, answer = waiting.popleft()
                yield Checked(done, *answer.result())
        for done, answer in waiting:
            yield Checked(done, *answer.result())


def chunks(rows: pa.Table) -> Iterator[pa.Table]:
    """Pieces of about CHUNK rows; a commit stays whole."""
    versions = rows.column("log_version").to_pylist()
    start = 0
    while start < len(versions):
        end = min(start + CHUNK, len(versions))
        while end < len(versions) and versions[end] == versions[end - 1]:
            end += 1
        yield rows.slice(start, end - start)
        start = end


def raws(rows: pa.Table) -> list[dict[str, Any]]:
    """Rows as they are stored, times as the integers they are."""
    columns = [rows.column(name) for name in _NAMES]
    columns = [c.cast(pa.int64()) if pa.types.is_timestamp(c.type) else c for c in columns]
    return [dict(zip(_NAMES, row, strict=True)) for row in zip(*(c.to_pylist() for c in columns), strict=True)]


class _Check:
    """The work of one process: the keyring and what it remembers of signatures that many rows share."""

    def __init__(self, keys: Path, table_id: str, environment: str) -> None:
        self._keyring = Keyring.load(keys)
        self._place = (table_id, environment)
        #: Signatures that many rows share: the tree, its size, and where its leaves stand.
        self._groups: dict[tuple[str, str], tuple[str, int, dict[bytes, int]]] = {}

    def __call__(
        self, rows: pa.Table
    ) -> tuple[dict[int, tuple[str, str]], list[bytes], dict[int, str], dict[int, Leaf]]:
        refused: dict[int, tuple[str, str]] = {}
        hashes: list[bytes] = []
        facts: dict[int, str] = {}
        leaves: dict[int, Leaf] = {}
        for index, raw in enumerate(raws(rows)):
            try:
                # Whoever reads the report validates; here only bytes matter.
                data = _nothing.with_fields(**raw).signed_bytes(*self._place, raw["key_id"] or "")
                self._keyring.check(cast(Message, _Signed(raw, data)), *self._place)
                hashes.append(merkle.leaf_of_signed(data, raw))
            except Untrusted as error:
                refused[index] = (error.rule, error.reason)
                hashes.append(merkle.leaf_of(raw, *self._place))
                if (told := _told(raw)) is not None:
                    leaves[index] = told
                continue
            except (TypeError, AttributeError, ValueError, StructError) as error:
                refused[index] = ("message.malformed", f"the row is no message: {error}")
                hashes.append(merkle.leaf_of(raw, *self._place))
                continue
            if raw["kind"] == "AuditRecorded":
                facts[index] = hashlib.sha256(data).hexdigest()
            if raw["signature"].startswith(TREE):
                leaves[index] = self._leaf(raw["key_id"], raw["signature"], data)
        return refused, hashes, facts, leaves

    def _leaf(self, key_id: str, signature: str, data: bytes) -> Leaf:
        """Where this row's leaf stands in the group that its signature carries. The signature was checked."""
        known = self._groups.get((key_id, signature))
        if known is None:
            group, size, signed, path = signature[len(TREE) :].split(":")
            known = (f"{key_id}:{signed}", int(size), tree.places(int(group), int(size), path))
            if len(self._groups) >= _GROUPS:
                self._groups.clear()
            self._groups[key_id, signature] = known
        return Leaf(known[0], known[2][tree.leaf(data)], known[1])


class _Signed:
    """A row as the keyring looks at it, with its signed bytes, which nobody has to put together again."""

    __slots__ = ("_data", "from_agent", "key_id", "signature", "timestamp")

    def __init__(self, raw: Mapping[str, Any], data: bytes) -> None:
        self._data = data
        self.from_agent, self.timestamp = raw["from_agent"], raw["timestamp"]
        self.key_id, self.signature = raw["key_id"], raw["signature"]

    def signed_bytes(self, table_id: str, environment: str, key_id: str) -> bytes:
        return self._data


def _told(raw: dict[str, Any]) -> Leaf | None:
    """Which tree a row that does not hold says it stands in: it was altered there, not taken out."""
    form = str(raw["signature"] or "")
    if not form.startswith(TREE) or form.count(":") != 4:
        return None
    _, size, signed, _ = form[len(TREE) :].split(":")
    return Leaf(f"{raw['key_id']}:{signed}", -1, int(size)) if size.isdigit() and len(size) < 10 else None


_mine: _Check | None = None


def _begin(keys: Path, table_id: str, environment: str) -> None:
    global _mine  # noqa: PLW0603  # a process of the pool has one keyring for all its work
    _mine = _Check(keys, table_id, environment)


def _work(packed: bytes) -> Any:
    assert _mine is not None
    with pa.ipc.open_stream(packed) as stream:
        return _mine(stream.read_all())


def _packed(rows: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as stream:
        stream.write_table(rows)
    return sink.getvalue().to_pybytes()

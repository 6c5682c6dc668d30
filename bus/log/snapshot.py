"""The state written down beside the log, so that a start costs what is open, not what ever was.

`_tailrace/state-<V>.parquet` holds the state as of version V; `state-<V>.json`, written after it, its digest and who
vouches for it. A state decides what may still happen, so one that nobody trusted vouches for is passed over.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq
import structlog

from bus.fold import State
from bus.log import rows as codec
from bus.log.table import DeltaLog
from schemas.envelope import Message
from schemas.tables import AGENT_MESSAGES

log = structlog.get_logger(__name__)

FOLDER = "_tailrace"
FORMAT = 2
_OF_STATE = re.compile(r"state-(-?[0-9]{19,20})\.json")
_ROWS = AGENT_MESSAGES.file_schema
_SCHEMA = pa.schema([("section", pa.string()), ("name", pa.string()), ("data", pa.large_binary()), *_ROWS])


class Witness(Protocol):
    """Who vouches for bytes that decide."""

    def sign(self, data: bytes) -> str: ...

    def holds(self, data: bytes, signature: str) -> bool: ...


class NoWitness:
    """For tables without signatures."""

    def sign(self, data: bytes) -> str:
        return ""

    def holds(self, data: bytes, signature: str) -> bool:
        return True


class Snapshots:
    """Written states of one log. `write` is for upkeep; whoever starts asks for the `newest`."""

    def __init__(self, table: DeltaLog, witness: Witness | None = None) -> None:
        self._table = table
        self._witness = witness or NoWitness()

    def write(self, state: State) -> int:
        """Write the state as of its version, which must be one that this state has folded whole; returns the version."""
        data = _encode(state)
        digest = hashlib.sha256(data).hexdigest()
        self._table.store.put_if_absent(f"{_name(state.version)}.parquet", data)
        stored = self._table.store.get(f"{_name(state.version)}.parquet") or b""
        if hashlib.sha256(stored).hexdigest() != digest:  # another upkeep's, equal in meaning, or a torn one
            self._table.store.delete(f"{_name(state.version)}.json")
            self._table.store.delete(f"{_name(state.version)}.parquet")
            self._table.store.put_if_absent(f"{_name(state.version)}.parquet", data)
        facts = {"format": FORMAT, "version": state.version, "sha256": digest}
        facts["signature"] = self._witness.sign(_vouched(state.version, digest))
        self._table.store.put_if_absent(f"{_name(state.version)}.json", json.dumps(facts).encode())
        return state.version

    def versions(self) -> list[int]:
        """Of complete ones, the newest first."""
        found = filter(None, map(_OF_STATE.fullmatch, self._table.store.names(FOLDER)))
        return sorted((int(name[1]) for name in found), reverse=True)

    def newest(self, upto: int | None = None) -> State | None:
        """The newest state that holds, not above `upto`."""
        for version in self.versions():
            if upto is not None and version > upto:
                continue
            try:
                return self._read(version)
            except (ValueError, KeyError, TypeError, pa.ArrowException) as error:
                log.warning("state.passed_over", version=version, reason=str(error))
        return None

    def _read(self, version: int) -> State:
        facts = json.loads(self._table.store.get(f"{_name(version)}.json") or b"{}")
        data = self._table.store.get(f"{_name(version)}.parquet")
        if data is None or facts["format"] != FORMAT:
            raise ValueError("it is not complete, or of another format")
        digest = hashlib.sha256(data).hexdigest()
        if facts["sha256"] != digest or not self._witness.holds(_vouched(version, digest), str(facts["signature"])):
            raise ValueError("nobody who is trusted vouches for it")
        return _decode(version, data)

    def prune(self, keep: int = 2) -> int:
        """Delete all but the newest `keep` that are vouched for, by whatever numbers others go; returns how many went.

        Without any nothing goes: then it is us who cannot tell.
        """
        found = self.versions()
        vouched = [version for version in found if self._is_vouched(version)]
        kept = vouched[:keep]
        # Those above that another format's writer vouches for are none of our business; what nobody vouches for is nobody's.
        old = [v for v in found if v not in kept and (v < kept[-1] or not self._is_vouched(v, None))] if kept else []
        for version in old:
            self._table.store.delete(f"{_name(version)}.json")
            self._table.store.delete(f"{_name(version)}.parquet")
        return len(old)

    def _is_vouched(self, version: int, form: int | None = FORMAT) -> bool:
        """By its note alone, which is enough to keep it; whoever loads it looks at the rest."""
        try:
            facts = json.loads(self._table.store.get(f"{_name(version)}.json") or b"{}")
            digest, signature = str(facts["sha256"]), str(facts["signature"])
            return form in (None, facts["format"]) and self._witness.holds(_vouched(version, digest), signature)
        except (ValueError, KeyError, TypeError):
            return False


def _name(version: int) -> str:
    return f"{FOLDER}/state-{version:020d}"


def _vouched(version: int, digest: str) -> bytes:
    return f"tailrace.state/{version}/{digest}".encode()


@dataclass
class _Rows:
    """What is gathered for the file, column by column."""

    sections: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    data: list[bytes | None] = field(default_factory=list)
    messages: list[Message | None] = field(default_factory=list)

    def add(self, section: str, name: str, data: bytes | None = None, message: Message | None = None) -> None:
        self.sections.append(section)
        self.names.append(name)
        self.data.append(data)
        self.messages.append(message)

    def table(self) -> pa.Table:
        columns: list[pa.Array] = [
            pa.array(self.sections, pa.string()),
            pa.array(self.names, pa.string()),
            pa.array(self.data, pa.large_binary()),
        ]
        for one in _ROWS:
            values = [None if m is None else getattr(m, one.name) for m in self.messages]
            columns.append(pa.array(values, type=one.type))
        return pa.Table.from_arrays(columns, schema=_SCHEMA)


def _encode(state: State) -> bytes:
    rows = _Rows()
    for agent, kinds in state.subscriptions.items():
        rows.add("subscription", agent, json.dumps(sorted(kinds)).encode())
    for name in ("seen", "published", "begun"):
        for place, block in enumerate(_ids(state, name).dump()):
            rows.add("ids", f"{name}/{place}", block)
    for (_, agent), message in state.open.items():
        rows.add("open", agent, message=message)
    for grant, message in state.claims.items():
        rows.add("claim", grant, message=message)
    for instance, message in state.leases.items():
        rows.add("lease", instance, message=message)
    for conversation in state.conversations.open_ones():
        for message in state.conversations.get(conversation) or ():
            rows.add("conversation", conversation, message=message)
    sink = pa.BufferOutputStream()
    pq.write_table(rows.table(), sink, compression={"content": "zstd"}, use_dictionary=False, write_statistics=False)
    return sink.getvalue().to_pybytes()


def _ids(state: State, name: str) -> Any:
    return state.conversations.begun if name == "begun" else getattr(state, name)


def _decode(version: int, data: bytes) -> State:
    table = pq.ParquetFile(pa.BufferReader(data)).read()
    sections, names = table.column("section").to_pylist(), table.column("name").to_pylist()
    places: dict[str, list[int]] = {}
    for place, section in enumerate(sections):
        places.setdefault(section, []).append(place)
    blobs = {
        (sections[p], names[p]): table.column("data")[p] for s in ("subscription", "ids") for p in places.get(s, ())
    }
    subscriptions = {n: frozenset(json.loads(b.as_py())) for (s, n), b in blobs.items() if s == "subscription"}
    state = State(subscriptions, version=version)
    for name in ("seen", "published", "begun"):
        _ids(state, name).load(blobs["ids", f"{name}/{place}"].as_py() for place in range(2))
    conversations: dict[str, list[Message]] = {}
    for name, message in _messages(table, names, places.get("conversation", ())):
        conversations.setdefault(name, []).append(message)
    for name, rows in conversations.items():
        state.conversations.recall(name, rows)
    for agent, message in _messages(table, names, places.get("open", ())):
        state.opened(agent, message)
    state.claims = dict(_messages(table, names, places.get("claim", ())))
    state.leases = dict(_messages(table, names, places.get("lease", ())))
    return state


def _messages(table: pa.Table, names: list[str], places: Iterable[int]) -> list[tuple[str, Message]]:
    """In the order they were written: `from_arrow` sorts by position, and one position may stand here for two agents."""
    taken = list(places)
    part = table.take(pa.array(taken, pa.int64())).select(_ROWS.names)
    found = codec.from_arrow(codec.dated(part))
    by_position = {m.position: m for m in found}
    positions = zip(part.column("log_version").to_pylist(), part.column("seq").to_pylist(), strict=True)
    return [(names[p], by_position[position]) for p, position in zip(taken, positions, strict=True)]

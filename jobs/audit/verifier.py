"""Verifies a Tailrace log from its tables and public keys alone, with nothing but deltalake and cryptography.

It stands alone: copy this file anywhere, and run `python verifier.py PLACE`. PLACE is a bundle of `tailrace audit export`, or a
home. It shares no code with Tailrace on purpose, so that one mistake does not hide in both.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import heapq
import json
import struct
import sys
import tempfile
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from deltalake import DeltaTable, QueryBuilder

SIGNED = (
    "message_id", "correlation_id", "causation_id", "from_agent", "to_agent", "message_type", "kind", "schema_version",
    "content", "priority", "timestamp", "not_before", "expires_at", "attempt", "principal", "traceparent",
)  # fmt: skip
UNSIGNED = ("key_id", "signature", "log_version", "seq", "handling_id")
TIMES = ("timestamp", "not_before", "expires_at")
STANDS, FILE = "_standing_version", "_standing_file"  # columns of `standing_table`
ZEROS = "0" * 64
GOVERNANCE, EXECUTION, UPKEEP = "GovernanceAgent", "ExecutionAgent", "Upkeep"
EVERYONE = "*"
KEPT = 100  # problems of one rule that are shown; the others are counted

Row = dict[str, Any]


class Report:
    """Problems as (rule, where, what), and what was counted on the way."""

    def __init__(self) -> None:
        self.problems: list[tuple[str, str, str]] = []
        self.found: Counter[str] = Counter()
        self.checked: Counter[str] = Counter()

    def add(self, rule: str, where: str, what: str) -> None:
        self.found[rule] += 1
        if self.found[rule] <= KEPT:
            self.problems.append((rule, where, what))


# --- bytes ------------------------------------------------------------------------------------------------------------


def encoded(value: Any) -> bytes:
    """Eight bytes of length, then the value; length -1 stands for null, numbers are eight bytes."""
    if value is None:
        return struct.pack(">q", -1)
    if isinstance(value, int):
        return struct.pack(">qq", 8, value)
    data = value.encode()
    return struct.pack(">q", len(data)) + data


def signed_bytes(row: Row, table_id: str, environment: str) -> bytes:
    place = (table_id, environment, row["key_id"] or "")
    return b"".join(encoded(value) for value in (*place, *(row[name] for name in SIGNED)))


def leaf(row: Row, signed: bytes) -> bytes:
    """Of the Merkle tree over all rows (RFC 6962, SHA-256)."""
    return hashlib.sha256(b"\x00" + signed + b"".join(encoded(row[name]) for name in UNSIGNED)).digest()


class Mountains:
    """Roots of the perfect trees that so many leaves consist of; together they give the root."""

    def __init__(self, size: int = 0, peaks: Iterable[bytes] = ()) -> None:
        self.size, self.peaks = size, list(peaks)
        if len(self.peaks) != size.bit_count():
            raise ValueError(f"{len(self.peaks)} peaks cannot stand for {size} rows")

    def add(self, node: bytes) -> None:
        size = self.size
        while size % 2:
            node = hashlib.sha256(b"\x01" + self.peaks.pop() + node).digest()
            size //= 2
        self.peaks.append(node)
        self.size += 1

    def root(self) -> str:
        if not self.peaks:
            return hashlib.sha256(b"").hexdigest()
        root = self.peaks[-1]
        for peak in self.peaks[-2::-1]:
            root = hashlib.sha256(b"\x01" + peak + root).digest()
        return root.hex()


def root_of(leaves: Iterable[bytes]) -> str:
    mountains = Mountains()
    for one in leaves:
        mountains.add(one)
    return mountains.root()


# --- keys and signatures ----------------------------------------------------------------------------------------------


def blake(kind: bytes, data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=32, person=b"tailrace." + kind).digest()


class Keys:
    """The public keys that the root key vouches for, and the signatures that were checked already."""

    def __init__(self, folder: Path, report: Report) -> None:
        document = json.loads((folder / "keyring.json").read_text())
        root = base64.b64decode((folder / "root.pub").read_text())
        self.fingerprint = hashlib.sha256(root).hexdigest()
        try:
            signature = base64.b64decode(document["signature"])
            Ed25519PublicKey.from_public_bytes(root).verify(signature, document["keys"].encode())
        except InvalidSignature:
            report.add("keys.keyring", str(folder / "keyring.json"), "the root key did not sign it")
        self.keys = {key["key_id"]: key for key in json.loads(document["keys"])}
        self._groups: dict[tuple[str, str], list[bytes]] = {}
        self._roots: set[tuple[str, str, int, bytes]] = set()

    def _verify(self, key_id: str, signature: str, data: bytes) -> None:
        public = base64.b64decode(self.keys[key_id]["public"])
        Ed25519PublicKey.from_public_bytes(public).verify(base64.b64decode(signature, validate=True), data)

    def refused(self, row: Row, data: bytes) -> tuple[str, str] | None:
        """Rule and reason why nobody has to believe this row; None when it holds."""
        if not row["key_id"] or not row["signature"]:
            return "signature.missing", "the row is not signed"
        key = self.keys.get(row["key_id"])
        if key is None:
            return "signature.unknown_key", f"key {row['key_id']} is not in the keyring"
        if row["from_agent"] not in key["subjects"]:
            return "signature.sender", f"key {row['key_id']} does not speak for {row['from_agent']}"
        until = key.get("valid_until")
        if row["timestamp"] < key["valid_from"] or (until is not None and row["timestamp"] > until):
            return "signature.validity", f"key {row['key_id']} was not valid at the time of the row"
        try:
            if row["signature"].startswith("ed25519-tree:"):
                if blake(b"leaf", data) not in self._group(row["key_id"], row["signature"]):
                    raise ValueError("another row")
            elif row["signature"].startswith("ed25519:"):
                self._verify(row["key_id"], row["signature"].removeprefix("ed25519:"), data)
            else:
                return "signature.format", "the signature has an unknown form"
        except (InvalidSignature, ValueError, IndexError):
            return "signature.invalid", "the row was altered, or signed elsewhere"
        return None

    def _group(self, key_id: str, text: str) -> list[bytes]:
        """The rows' leaves that this signature carries, once its path led to a root that the key signed."""
        known = self._groups.get((key_id, text))
        if known is not None:
            return known
        place, size, signature, leaves, path = tree_parts(text)
        node, level, siblings = blake(b"group", b"".join(leaves)), -(-size // width_of(size)), iter(path)
        while level > 1:
            if place ^ 1 < level:
                sibling = next(siblings, b"")
                if len(sibling) != 32:
                    raise ValueError("a path too short")
                node = blake(b"node", sibling + node if place % 2 else node + sibling)
            place, level = place // 2, (level + 1) // 2
        if next(siblings, None) is not None:
            raise ValueError("a path too long")
        if (key_id, signature, size, node) not in self._roots:
            self._verify(key_id, signature, b"tailrace.tree\x00" + struct.pack(">Q", size) + node)
            self._roots.add((key_id, signature, size, node))
        if len(self._groups) > 20_000:
            self._groups.clear()
        self._groups[key_id, text] = leaves
        return leaves

    def place_in_tree(self, row: Row, data: bytes) -> tuple[str, int, int] | None:
        """Of a row that was signed with others: which tree, how many rows it has, which of them this is."""
        if not row["signature"].startswith("ed25519-tree:"):
            return None
        group, size, signature, leaves, _ = tree_parts(row["signature"])
        return f"{row['key_id']}:{signature}", size, group * width_of(size) + leaves.index(blake(b"leaf", data))

    def vouches(self, key_id: str, subject: str, data: bytes, signature: bytes) -> bool:
        if key_id not in self.keys or subject not in self.keys[key_id]["subjects"]:
            return False
        try:
            self._verify(key_id, base64.b64encode(signature).decode(), b"tailrace.statement\x00" + data)
        except (InvalidSignature, ValueError):
            return False
        return True


def width_of(size: int) -> int:
    return 8 if size <= 256 else 32


def tree_parts(text: str) -> tuple[int, int, str, list[bytes], list[bytes]]:
    """Group, rows of the tree, signature of its root, the group's leaves, the siblings on the way up."""
    _, group, size, signature, path = text.split(":")
    place, rows, width = int(group), int(size), width_of(int(size))
    count = min(width, rows - place * width)
    if count <= 0:
        raise ValueError("a place outside the tree")
    length = -(-32 * count // 3) * 4
    leaves, way = base64.b64decode(path[:length], validate=True), path[length:]
    siblings = [base64.b64decode(way[at : at + 44], validate=True) for at in range(0, len(way), 44)]
    return place, rows, signature, [leaves[at : at + 32] for at in range(0, len(leaves), 32)], siblings


# --- rows -------------------------------------------------------------------------------------------------------------


def rows_of(table: str, ordered: bool = True, only: str = "true") -> Iterator[Row]:
    """In log order, times as microseconds. With `STANDS`, which says where rows stand, if the table has it."""
    opened = DeltaTable(table)
    beside = [name for name in (STANDS, FILE) if name in opened.metadata().partition_columns]
    names = [f'cast("{n}" as bigint) as "{n}"' if n in TIMES else f'"{n}"' for n in (*SIGNED, *UNSIGNED, *beside)]
    version = f'coalesce("{STANDS}", log_version, -1)' if beside else "coalesce(log_version, -1)"
    order = f"order by {version}, coalesce(seq, -1)" if ordered else ""
    query = f"select {', '.join(names)} from log where {only} {order}"
    for batch in QueryBuilder().register("log", opened).execute(query):
        columns = {name: batch.column(name).to_pylist() for name in (*SIGNED, *UNSIGNED, *beside)}
        for place in range(batch.num_rows):
            yield {name: column[place] for name, column in columns.items()}


def standing_rows(table: str) -> Iterator[Row]:
    """Of a table with a log: where a row stands is what the entry that brought it says, not what the row says.

    Whoever can write a file, and has no key, could else put rows into a past that was anchored.
    """
    with tempfile.TemporaryDirectory() as scratch:
        beside = standing_table(table, Path(scratch))
        for version, found in groupby(rows_of(beside), key=lambda row: row[STANDS]):
            rows: Iterable[Row] = found
            if version is not None:
                files = defaultdict(list)
                for row in found:
                    files[row[FILE]].append(row)
                rows = [row for one in sorted(files) for row in in_file(beside, one, files[one])]
                rows.sort(key=lambda row: place_of(row)[1])
            for row in rows:
                if row.pop(STANDS) is not None:
                    row["log_version"] = version
                del row[FILE]
                yield row


def in_file(beside: str, file: int, rows: list[Row]) -> list[Row]:
    """Rows of one commit. Numbers that nobody vouches for, and that are none, are those in which they stand in the file."""
    seqs = [place_of(row)[1] for row in rows]
    if seqs == list(range(len(rows))) or any(row["signature"] is not None for row in rows):
        return rows
    return [row | {"seq": place} for place, row in enumerate(rows_of(beside, False, f'"{FILE}" = {file}'))]


def standing_table(table: str, scratch: Path) -> str:
    """A table of the same files, in which each file is a partition that says its number, and the version of its entry."""
    opened, spans = DeltaTable(table), spans_of(table, scratch)
    schema, files = json.loads(opened.schema().to_json()), opened.get_add_actions()
    schema["fields"] += [field(STANDS, "long"), field(FILE, "long")]
    columns = [files.column(name).to_pylist() for name in ("path", "size_bytes", "partition")]
    adds = []
    for number, (path, size, partition) in enumerate(zip(*columns, strict=True)):
        version = spans.get(unquote(path))
        values = {name: None if value is None else str(value) for name, value in (partition or {}).items()}
        values |= {STANDS: None if version is None else str(version), FILE: str(number)}
        adds.append((quote(unquote(path), safe="/="), size, values))
    folder = scratch / "rows"
    made_table(folder, schema, [*opened.metadata().partition_columns, STANDS, FILE], adds)
    for one in Path(table).iterdir():
        if not one.name.startswith("_"):
            (folder / one.name).symlink_to(one.resolve())
    return str(folder)


def spans_of(table: str, scratch: Path) -> dict[str, int]:
    """Data file -> the version of its rows, of files that hold one version's: an entry says it, or upkeep's tag."""
    log, found = Path(table) / "_delta_log", {}
    checkpoint = max(log.glob("*.checkpoint.parquet"), default=None)
    if checkpoint is not None:
        tags = {"type": "map", "keyType": "string", "valueType": "string", "valueContainsNull": True}
        add = field("add", {"type": "struct", "fields": [field("path", "string"), field("tags", tags)]})
        folder = scratch / "checkpoint"
        made_table(folder, {"type": "struct", "fields": [add]}, [], [("it", checkpoint.stat().st_size, {})])
        (folder / "it").symlink_to(checkpoint.resolve())
        query = "select add['path'] as path, add['tags']['tailrace.versions'] as span from log where add is not null"
        for batch in QueryBuilder().register("log", DeltaTable(str(folder))).execute(query):
            for path, span in zip(batch.column("path").to_pylist(), batch.column("span").to_pylist(), strict=True):
                first, _, last = (span or "").partition("-")
                if first and first == last:
                    found[unquote(path)] = int(first)
    for entry in log.glob("*.json"):
        for line in entry.read_text().splitlines() if entry.stem.isdigit() else ():
            added = json.loads(line).get("add")
            if added and added.get("dataChange", True):
                found[unquote(added["path"])] = int(entry.stem)
    return found


def field(name: str, kind: Any) -> dict[str, Any]:
    return {"name": name, "type": kind, "nullable": True, "metadata": {}}


def made_table(folder: Path, schema: Row, partitions: list[str], files: list[tuple[str, int, Row]]) -> None:
    """A Delta table's first entry over files (path, size, partition) that are there already."""
    about = {"id": "made", "format": {"provider": "parquet", "options": {}}, "schemaString": json.dumps(schema)}
    about |= {"partitionColumns": partitions, "configuration": {}, "createdTime": 0}
    actions = [{"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}}, {"metaData": about}]
    always = {"modificationTime": 0, "dataChange": True}
    actions += [{"add": {"path": p, "size": size, "partitionValues": values} | always} for p, size, values in files]
    (folder / "_delta_log").mkdir(parents=True)
    (folder / "_delta_log" / f"{0:020d}.json").write_text("\n".join(map(json.dumps, actions)) + "\n")


def place_of(row: Row) -> tuple[int, int]:
    version, seq = row["log_version"], row["seq"]
    return (-1 if version is None else version, -1 if seq is None else seq)


def all_rows(table: str) -> Iterator[Row]:
    """Those in archives too. A row that is in both is read once."""
    note = Path(table) / "_tailrace" / "archived.json"
    archives = [place for place in json.loads(note.read_text()) if place] if note.exists() else []
    is_log = not (Path(table).parent.parent / "bundle.json").exists()  # an export has put every row where it stands
    here = standing_rows(table) if is_log else rows_of(table)
    if not archives:
        yield from here
        return
    before: Row | None = None
    for row in heapq.merge(here, *(rows_of(place) for place in archives), key=place_of):
        if row != before:
            yield row
        before = row


def said(row: Row) -> dict[str, Any]:
    try:
        content = json.loads(row["content"])
    except (ValueError, TypeError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def addressee(row: Row, quarantined: bool = False) -> str | None:
    """Who may write a receipt for it. What is no message goes to its addressee, or else to governance, to be rejected."""
    to = row["to_agent"]
    if quarantined:
        return GOVERNANCE if not to or to == EVERYONE or to.startswith("user:") else str(to)
    return None if to == EVERYONE and row["message_type"] != "event" else to


def malformed_id(row: Row) -> str:
    """The name under which hosts reject a row that is no message: made of what it says, not of where it stands."""
    told = {name: row[name] for name in (*SIGNED, *UNSIGNED) if name not in ("log_version", "seq")}
    return f"malformed:{hashlib.sha256(json.dumps(told, default=str).encode()).hexdigest()[:32]}"


def where(row: Row) -> str:
    return f"({row['log_version']}, {row['seq']}) {row['kind']} from {row['from_agent']}"


# --- anchors ----------------------------------------------------------------------------------------------------------


class Anchors:
    """What upkeep signed of the log at some versions, and what the log is at those versions now."""

    def __init__(self, keys: Keys, table_id: str, environment: str, report: Report) -> None:
        self._keys, self._place, self._report = keys, (table_id, environment), report
        self.anchors: list[tuple[str, dict[str, Any]]] = []
        self._versions: list[int] = []
        self._ends: list[int] = []
        self._leaves: list[bytes] = []
        self.facts: dict[str, dict[int, str]] = defaultdict(dict)
        self.imitated: set[tuple[str, str, str]] = set()

    def add(self, name: str, lines: Iterable[str]) -> None:
        before: dict[str, Any] | None = None
        for number, line in enumerate(lines, 1):
            at = f"anchor {number} of {name}"
            self._report.checked["anchors"] += 1
            try:
                anchor = json.loads(line)
                body = {key: value for key, value in anchor.items() if key != "signature"}
                canonical = b"tailrace.anchor\x00" + json.dumps(body, sort_keys=True, separators=(",", ":")).encode()
                mountains = Mountains(anchor["rows"], [bytes.fromhex(peak) for peak in anchor["peaks"]])
                signature, place = bytes.fromhex(anchor["signature"]), (anchor["table_id"], anchor["environment"])
                _ = anchor["number"], anchor["previous"], anchor["log_version"], anchor["writers"], anchor["blocks"]
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                self._report.add("anchor.format", at, f"this is no anchor: {error}")
                continue
            data = b"".join(part.encode() + b"\x00" for part in self._place) + canonical
            if place != self._place:
                self._report.add("anchor.table", at, "it is of another table or environment")
            elif not self._keys.vouches(anchor["key_id"], UPKEEP, data, signature):
                self._report.add("anchor.signature", at, f"{UPKEEP}'s key did not sign it")
            elif mountains.root() != anchor["root"]:
                self._report.add("anchor.root", at, "its root is not that of its own peaks")
            else:
                anchor["digest"] = hashlib.sha256(canonical).hexdigest()
                if before is not None and (
                    anchor["number"] <= before["number"]
                    or anchor["log_version"] < before["log_version"]
                    or (anchor["number"] == before["number"] + 1 and anchor["previous"] != before["digest"])
                ):
                    self._report.add("anchor.order", at, "it does not follow the one before it")
                before = anchor
                self.anchors.append((at, anchor))

    def commit(self, version: int, leaves: list[bytes]) -> None:
        self._leaves += leaves
        self._versions.append(version)
        self._ends.append(len(self._leaves))

    def _upto(self, version: int) -> int:
        place = bisect_right(self._versions, version)
        return self._ends[place - 1] if place else 0

    def check(self, head: int, first: int, before: Mountains) -> None:
        """`first`: the version before the first that is here, where `before` stands for the rows up to it."""
        named = False
        mountains = Mountains(before.size, before.peaks)
        for at, anchor in sorted(self.anchors, key=lambda one: one[1]["log_version"]):
            version = anchor["log_version"]
            if version < first:
                continue
            if head < version:
                what = f"the log ends at version {head}; at version {version} it had {anchor['rows']} rows"
                self._report.add("anchor.truncated", at, what)
            for (start, counted, _), (last, rows, digest) in pairwise(anchor["blocks"]):
                here = self._leaves[self._upto(start) : self._upto(last)]
                if start < first or (len(here) == rows - counted and root_of(here) == digest):
                    continue  # it begins before what is here, or it holds
                named = True
                versions = f"version {last}" if last == start + 1 else f"versions {start + 1} to {last}"
                self._report.add(
                    "anchor.block", versions, f"{at}: {rows - counted} rows, other than the {len(here)} now"
                )
            for one in self._leaves[mountains.size - before.size : self._upto(version)]:
                mountains.add(one)
            if (mountains.size, mountains.root()) != (anchor["rows"], anchor["root"]) and not named:
                self._report.add("anchor.rows", f"versions up to {version}", f"{at} says other rows than there are")
            self._writers(at, anchor, first)

    def _writers(self, at: str, anchor: dict[str, Any], first: int) -> None:
        for writer, (sequence, digest) in anchor["writers"].items():
            if (writer, str(sequence), digest) in self.imitated:
                continue  # a person's word, which an anchor took for a fact before it counted for nothing
            chain = self.facts.get(writer)
            if first and (chain is None or sequence < min(chain)):
                continue  # it wrote this before what is here
            if chain is None:
                self._report.add("anchor.writer_missing", f"chain {writer}", f"{at} knows {sequence} facts of it")
            elif sequence not in chain:
                self._report.add("anchor.writer_truncated", f"chain {writer}", f"{at} knows fact {sequence} of it")
            elif chain[sequence] != digest:
                self._report.add("anchor.fork", f"chain {writer}, fact {sequence}", f"{at} knows another")


# --- the walk ---------------------------------------------------------------------------------------------------------


class Walk:
    """One pass over the rows of the log."""

    def __init__(self, keys: Keys, table_id: str, environment: str, first: int, report: Report) -> None:
        self._keys, self._place, self._report, self._first = keys, (table_id, environment), report, first
        self.anchors = Anchors(keys, table_id, environment, report)
        self.head = first
        self._seen: set[str] = set()
        self._addressed: dict[str, str | None] = {}
        self._roots: dict[str, str | None] = {}
        self._chains: dict[str, tuple[int, str]] = {}
        self._trees: dict[str, int] = {}
        self._settled: set[tuple[str | None, str]] = set()
        self._suspects: list[tuple[tuple[str, ...], str, str, str]] = []
        self._rejected: set[str | None] = set()
        self._anchored: list[str] = []
        self._said_yes: dict[str, list[tuple[str, Any, Any]]] = defaultdict(list)
        self._asked: dict[str, dict[str, Any]] = {}
        self._counted: dict[str, list[dict[str, Any]]] = {}
        self._escalated: dict[str, set[str]] = defaultdict(set)
        self._grants: dict[str, dict[str, Any]] = {}
        self._revoked: set[str] = set()
        self._claims: Counter[str] = Counter()

    def commit(self, version: int, rows: list[Row]) -> None:
        self.head = max(self.head, version)
        self._report.checked["commits"] += 1
        seqs = [row["seq"] for row in rows]
        if seqs != list(range(len(seqs))):
            what = f"its rows are numbered {seqs[:20]}: one is missing or was added"
            self._report.add("log.sequence", f"version {version}", what)
        leaves, trees, settling = [], defaultdict(list), set()
        for row in rows:
            data = signed_bytes(row, *self._place)
            try:
                refused = self._keys.refused(row, data)
            except TypeError:
                refused = ("message.malformed", "the row is no message")
            leaves.append(leaf(row, data))
            self._report.checked["rows"] += 1
            if refused is not None:
                names = (
                    row["message_id"],
                    malformed_id(row),
                )  # as what a host rejects it depends on what is wrong with it
                self._suspects += [(names, refused[0], where(row), refused[1])]
                self._addressed.setdefault(names[0], addressee(row))
                self._addressed.setdefault(names[1], addressee(row, quarantined=True))
                if str(row["signature"]).startswith("ed25519-tree:") and str(row["signature"]).count(":") == 4:
                    _, _, size, signature, _ = row["signature"].split(":")
                    trees[f"{row['key_id']}:{signature}"].append((int(size) if size.isdigit() else 0, None))
                continue
            self._report.checked["signatures"] += 1
            if (at := self._keys.place_in_tree(row, data)) is not None:
                trees[at[0]].append(at[1:])
            self._signed(row, data, settling)
        self._check_trees(version, trees)
        self.anchors.commit(version, leaves)

    def _check_trees(self, version: int, trees: dict[str, list[Any]]) -> None:
        for tree, members in trees.items():
            size, places = members[0][0], [place for _, place in members if place is not None]
            if len(members) < size:
                gone = sorted(set(range(size)) - set(places))[:10] if len(places) == len(members) else "some"
                what = f"{size} rows were signed together, {len(members)} are here; missing: {gone}"
                self._report.add("log.removed", f"version {version}", what)
            if any(later <= earlier for earlier, later in pairwise(places)):
                what = f"rows were signed in another order: now they stand as {places[:20]}"
                self._report.add("log.order", f"version {version}", what)
            if tree in self._trees:
                what = f"rows of it were signed together with rows of version {self._trees[tree]}"
                self._report.add("log.order", f"version {version}", what)
            self._trees[tree] = version

    def _signed(self, row: Row, data: bytes, settling: set[str]) -> None:
        if row["message_id"] in self._seen:
            self._report.add("log.repeated", where(row), "a row with this id stands before it: this one is a copy")
            return
        self._seen.add(row["message_id"])
        self._addressed.setdefault(row["message_id"], addressee(row))
        self._principal(row)
        if row["message_type"] == "receipt":
            self._receipt(row, settling)
            return
        if row["handling_id"] is not None and row["handling_id"] not in settling:
            self._report.add("log.without_receipt", where(row), "it does not stand behind the receipt it belongs to")
        payload = said(row)
        if row["kind"] == "AuditRecorded" and row["message_type"] == "event":
            if row["from_agent"].startswith("user:"):
                self._no_fact(payload, data)
            else:
                self._fact(row, payload, data)
        self._governed(row, payload)

    def _principal(self, row: Row) -> None:
        if row["causation_id"] and row["from_agent"].startswith("user:") and self._first_is_later():
            return  # somebody's word in a conversation that may have begun before what is here
        root = self._roots.setdefault(row["correlation_id"], row["principal"])
        person = row["from_agent"].removeprefix("user:") if row["from_agent"].startswith("user:") else None
        if row["principal"] != (person if person is not None else root):
            what = f"it acts for {row['principal']}, the root for {root}"
            self._suspects.append(((row["message_id"],), "principal.changed", where(row), what))

    def _receipt(self, row: Row, settling: set[str]) -> None:
        self._report.checked["receipts"] += 1
        key = (row["causation_id"], row["from_agent"])
        if row["from_agent"].startswith("user:"):
            self._report.checked["receipts of people, which are none"] += 1
            return
        wrong = ""
        if key in self._settled:
            wrong = f"{key[0]} had a receipt by {key[1]} already"
        elif key[0] not in self._addressed:
            wrong = "" if self._first_is_later() else f"{key[0]} is not in the log before it"
        elif self._addressed[key[0]] not in (key[1], EVERYONE):
            wrong = f"{key[0]} was not for {key[1]}"
        if wrong:
            self._report.add("receipt.second", where(row), wrong)
        self._settled.add(key)
        settling.add(row["handling_id"] or row["message_id"])
        if said(row).get("outcome") == "rejected" and not wrong:
            self._rejected.add(row["causation_id"])

    def _first_is_later(self) -> bool:
        """Whether only a later part of the log is here: what it refers to may stand before it."""
        return self._first > 0

    def _fact(self, row: Row, fact: dict[str, Any], data: bytes) -> None:
        self._report.checked["facts"] += 1
        writer, sequence, digest = str(fact.get("writer")), fact.get("sequence"), hashlib.sha256(data).hexdigest()
        if writer not in self._chains and self._first_is_later() and isinstance(sequence, int):
            self._chains[writer] = (sequence - 1, str(fact.get("previous")))
        known, previous = self._chains.get(writer, (0, ZEROS))
        if sequence != known + 1:
            what = f"fact {known + 1} is missing or out of order: {sequence} stands there"
            self._report.add("audit.sequence", f"chain {writer}, {where(row)}", what)
        elif fact.get("previous") != previous:
            self._report.add("audit.chain", f"chain {writer}, {where(row)}", "it does not name the fact before it")
        self._chains[writer] = (sequence if isinstance(sequence, int) else known, digest)
        self.anchors.facts[writer].setdefault(self._chains[writer][0], digest)
        if row["from_agent"] == UPKEEP and fact.get("action") == "log.anchored":
            self._anchored.append(json.dumps((fact.get("details") or {}).get("anchor")))

    def _no_fact(self, fact: dict[str, Any], data: bytes) -> None:
        """Agents state facts. What a person signed counts for nothing, though an old anchor may speak of it."""
        self._report.checked["facts of people, which are none"] += 1
        self.anchors.imitated.add(
            (str(fact.get("writer")), str(fact.get("sequence")), hashlib.sha256(data).hexdigest())
        )

    def _governed(self, row: Row, payload: dict[str, Any]) -> None:
        sender, kind = row["from_agent"], row["kind"]
        grant_id = str(payload.get("grant_id"))
        if kind == "Decide" and payload.get("decision") == "approve":
            vote = (sender.removeprefix("user:"), payload.get("digest"), payload.get("for_user"))
            self._said_yes[str(payload.get("approval_id"))].append(vote)
        elif sender == GOVERNANCE and kind == "ApprovalRequested":
            self._asked.setdefault(str(payload.get("approval_id")), payload)
        elif sender == GOVERNANCE and kind == "ApprovalEscalated":
            groups = {str(need.get("group")) for need in payload.get("to") or []}
            self._escalated[str(payload.get("approval_id"))] |= groups
        elif sender == GOVERNANCE and kind == "ApprovalDecided" and payload.get("decision") == "approved":
            self._counted[str(payload.get("approval_id"))] = payload.get("votes") or []
        elif sender == GOVERNANCE and kind in ("RunCode", "ApprovalGranted") and isinstance(payload.get("grant"), dict):
            self._grant(row, payload["grant"])
        elif sender == GOVERNANCE and kind == "GrantRevoked" and not self._claims[grant_id]:
            self._revoked.add(grant_id)
        elif sender == EXECUTION and kind == "ExecutionClaimed":
            self._claimed(row, payload, grant_id)
        elif (
            sender == EXECUTION
            and kind == "ExecutionSettled"
            and not self._claims[grant_id]
            and not self._first_is_later()
        ):
            self._report.add("execution.without_claim", where(row), f"grant {grant_id} has an outcome and no claim")

    def _grant(self, row: Row, grant: dict[str, Any]) -> None:
        self._report.checked["grants"] += 1
        self._grants.setdefault(str(grant.get("grant_id")), grant)
        if grant.get("approved_by") == "policy":
            if not grant.get("rule") or not grant.get("policy"):
                self._report.add("grant.rule", where(row), "no person approved it, and it names no rule of a policy")
            return
        if self._first_is_later() and grant.get("approval_id") not in self._asked:
            return
        approvers = grant.get("approvers") or [grant.get("approved_by")]
        yes = [v for v in self._said_yes[str(grant.get("approval_id"))] if v[1] == grant.get("dry_run_digest")]
        for approver in approvers:
            if not any(approver in (actor, for_user) for actor, _, for_user in yes):
                self._report.add("grant.approval", where(row), f"{approver} never signed an approval of it")
        if grant.get("requester") in approvers:
            self._report.add("grant.four_eyes", where(row), "requester and approver are one person")
        asked = self._asked.get(str(grant.get("approval_id")))
        if asked is None:
            self._report.add("grant.unasked", where(row), "nobody was asked for its approval")
        elif asked.get("needs") and self._counted.get(str(grant.get("approval_id"))):
            self._votes(row, grant, approvers, [(actor, for_user) for actor, _, for_user in yes], asked["needs"])
        elif len(set(approvers)) < max((need.get("count", 1) for need in asked.get("needs") or []), default=1):
            self._report.add("grant.votes", where(row), f"only {', '.join(sorted(set(approvers)))} approved it")

    def _votes(self, row: Row, grant: Row, approvers: list[str], yes: list[Any], needs: list[Row]) -> None:
        """Each person takes one place of a group they were in when it was decided, as governance wrote it down then."""
        votes = self._counted[str(grant.get("approval_id"))]
        who = [(vote.get("actor"), vote.get("for_user")) for vote in votes]
        people = [person for actor, for_user in who for person in {actor, for_user or actor}]
        if sorted(str(actor) for actor, _ in who) != sorted(map(str, approvers)) or len(people) != len(set(people)):
            self._report.add("grant.votes", where(row), "its approvers are not the different people who were counted")
        for actor, _ in (one for one in who if one not in yes):
            self._report.add("grant.approval", where(row), f"{actor} never signed this yes")
        places = [str(need.get("group")) for need in needs for _ in range(int(need.get("count") or 1))]
        anywhere = self._escalated[str(grant.get("approval_id"))]
        groups = [set(vote.get("groups") or []) for vote in votes]
        may_take = [[at for at, place in enumerate(places) if place in own or own & anywhere] for own in groups]
        taken: dict[int, int] = {}

        def takes(person: int, tried: set[int]) -> bool:
            for place in may_take[person]:
                if place not in tried:
                    tried.add(place)
                    if place not in taken or takes(taken[place], tried):
                        taken[place] = person
                        return True
            return False

        for person in range(len(votes)):
            takes(person, set())
        if len(taken) < len(places):
            missing = ", ".join(place for at, place in enumerate(places) if at not in taken)
            self._report.add("grant.votes", where(row), f"{', '.join(approvers)} approved it; nobody did of {missing}")

    def _claimed(self, row: Row, payload: dict[str, Any], grant_id: str) -> None:
        self._report.checked["executions"] += 1
        self._claims[grant_id] += 1
        grant = self._grants.get(grant_id)
        if self._claims[grant_id] > 1:
            self._report.add("execution.twice", where(row), f"grant {grant_id} was claimed before")
        if grant is None:
            if not self._first_is_later():
                self._report.add("execution.without_grant", where(row), f"there is no grant {grant_id}")
            return
        if grant_id in self._revoked:
            self._report.add("execution.revoked", where(row), f"grant {grant_id} had been revoked")
        if hashlib.sha256(str(payload.get("code")).encode()).hexdigest() != grant.get("code_sha256"):
            self._report.add("execution.code", where(row), f"grant {grant_id} is for other code")

    def end(self, before: Mountains) -> None:
        for names, rule, at, what in self._suspects:
            if any(name in self._rejected for name in names):
                self._report.checked["rejected rows"] += 1
            else:
                self._report.add(rule, at, what)
        self.anchors.add("the log", self._anchored)
        self.anchors.check(self.head, self._first, before)


def entries(table: str, counts: Counter[int], walk: Walk, report: Report) -> None:
    """As long as a log entry is there, it says how many rows it brought."""
    versions = sorted(int(path.stem) for path in (Path(table) / "_delta_log").glob("*.json") if path.stem.isdigit())
    walk.head = max(versions, default=walk.head)
    archived = (Path(table) / "_tailrace" / "archived.json").exists()
    for version in versions:
        brought = 0
        for line in (Path(table) / "_delta_log" / f"{version:020d}.json").read_text().splitlines():
            add = json.loads(line).get("add")
            if add and add.get("dataChange", True):
                brought += json.loads(add.get("stats") or "{}").get("numRecords", 0)
        there = counts[version]
        if brought != there and not (archived and there < brought):
            what = f"its log entry brought {brought} rows, {there} are in the table"
            report.add("log.removed" if brought > there else "log.inserted", f"version {version}", what)


def _readable(table: str, report: Report) -> Iterator[Row]:
    """What can be read of it: a file or an entry that is gone is a problem that is named."""
    log = Path(table) / "_delta_log"
    there = sorted(int(path.stem) for path in log.glob("*.json") if path.stem.isdigit())
    written = max((int(path.name[:20]) for path in log.glob("*.checkpoint*.parquet")), default=-1)
    for version in sorted(set(range(max(written + 1, 0), max(there, default=0))) - set(there)):
        report.add("log.gap", f"version {version}", "its log entry is missing, and later ones are there")
    try:
        yield from all_rows(table)
    except Exception as error:  # whatever deltalake raises for a table that somebody broke
        report.add("log.unreadable", table, " ".join(str(error).split())[:300])


def id_of(table: str) -> str:
    """Part of what is signed: with another one, nothing holds."""
    try:
        return str(DeltaTable(table).metadata().id)
    except Exception:  # a table that somebody broke; its first entry says it too
        lines = (Path(table) / "_delta_log" / f"{0:020d}.json").read_text().splitlines()
        return str(next(json.loads(line)["metaData"]["id"] for line in lines if "metaData" in line))


def verify(place: Path, environment: str | None, anchors: list[Path]) -> tuple[Report, dict[str, Any]]:
    """`place`: a bundle or a home."""
    report = Report()
    bundle = json.loads((place / "bundle.json").read_text()) if (place / "bundle.json").exists() else {}
    table = str(place / ("rows" if bundle else "tables") / "agent_messages")
    table_id = bundle.get("table_id") or id_of(table)
    env = environment or bundle.get("environment") or "dev"
    keys = Keys(place / "keys", report)
    first = int(bundle.get("from_version", 1)) - 1
    before = bundle.get("before") or {"rows": 0, "peaks": []}
    walk = Walk(keys, table_id, env, first, report)
    if bundle and (place / "anchors.jsonl").exists():
        anchors = [*anchors, place / "anchors.jsonl"]
    for path in anchors:
        walk.anchors.add(str(path), [line for line in path.read_text().split("\n") if line.strip()])
    counts: Counter[int] = Counter()
    commit: list[Row] = []
    for row in _readable(table, report):
        if commit and commit[0]["log_version"] != row["log_version"]:
            walk.commit(place_of(commit[0])[0], commit)
            commit = []
        counts[place_of(row)[0]] += 1
        commit.append(row)
    if commit:
        walk.commit(place_of(commit[0])[0], commit)
    if bundle:
        walk.head = max(walk.head, int(bundle.get("to_version", walk.head)))
    else:
        entries(table, counts, walk, report)
    walk.end(Mountains(before["rows"], [bytes.fromhex(peak) for peak in before["peaks"]]))
    return report, {
        "table_id": table_id,
        "environment": env,
        "root_key": keys.fingerprint,
        "versions": [first + 1, walk.head],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("place", type=Path, help="a bundle of `tailrace audit export`, or a home")
    parser.add_argument("--environment", help="what rows were signed for; a bundle says it, else dev")
    parser.add_argument("--anchor", type=Path, action="append", default=[], help="anchors that were kept elsewhere")
    parser.add_argument("--root-key", help="sha256 of the root's public key, known from elsewhere")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    words = parser.parse_args()
    report, about = verify(words.place, words.environment, words.anchor)
    if words.root_key and words.root_key != about["root_key"]:
        report.add("keys.root", "keys/root.pub", f"its sha256 is {about['root_key']}, not {words.root_key}")
    ok = not report.found
    if words.json:
        problems = [dict(zip(("rule", "where", "what"), one, strict=True)) for one in report.problems]
        document = {"ok": ok, **about, "checked": report.checked, "found": report.found, "problems": problems}
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
        return 0 if ok else 1
    lines = [f"{rule}: {at}: {what}" for rule, at, what in report.problems]
    counted = ", ".join(f"{count:,} {what}" for what, count in report.checked.items())
    head = "the log holds" if ok else f"{report.found.total():,} problems"
    told = f"versions {about['versions'][0]} to {about['versions'][1]}, environment {about['environment']}"
    sys.stdout.write(
        "\n".join([*lines, f"{head}: {told}", counted, f"sha256 of the root key: {about['root_key']}"]) + "\n"
    )
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())

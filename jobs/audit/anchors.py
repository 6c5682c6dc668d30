"""Anchors: signed statements of what the log was at a version. The log is held against those in it, and those kept elsewhere.

An anchor says how many rows there were, their Merkle root, and the last fact of every writer that wrote since the anchor
before. Its blocks, the rows since then in at most BLOCKS pieces, say where a difference begins. Each names the digest of
the anchor before it.
"""

from __future__ import annotations

import base64
import hashlib
import json
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bus.audit import GENESIS, is_audit
from bus.keys import Keyring, KeyWitness
from bus.log import rows as codec
from bus.projections.projector import payload_of
from jobs.agents import UPKEEP
from jobs.audit.chains import Chains
from jobs.audit.merkle import Peaks, root_of
from jobs.audit.report import AuditReport

#: What the audit fact that holds an anchor says it did.
ACTION = "log.anchored"
#: Pieces of the rows between two anchors whose digests an anchor says.
BLOCKS = 256
#: Before what is signed, so that it cannot be taken for anything else that upkeep vouches for.
_SIGNED = b"tailrace.anchor\x00"
_HEX = r"^[0-9a-f]{64}$"


class Anchor(BaseModel):
    """One anchor. Hashes are in hexadecimal, `time` is UTC microseconds.

    `writers`: the number and hash of the last fact of each writer that wrote since the anchor before. `blocks`: last
    version, rows up to it, and the Merkle root of the rows since the block before. `peaks`: from them the root follows,
    and the next anchor goes on.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format: int = Field(default=1, ge=1, le=1)
    number: int = Field(ge=1)
    previous: str = Field(pattern=_HEX)
    table_id: str
    environment: str
    log_version: int
    time: int
    rows: int = Field(ge=0)
    root: str = Field(pattern=_HEX)
    peaks: list[str]
    writers: dict[str, tuple[int, str]]
    blocks: list[tuple[int, int, str]]
    key_id: str
    signature: str = ""

    @property
    def signed_bytes(self) -> bytes:
        document = self.model_dump(mode="json", exclude={"signature"})
        return _SIGNED + json.dumps(document, sort_keys=True, separators=(",", ":")).encode()

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.signed_bytes).hexdigest()

    def holds(self, witness: KeyWitness) -> bool:
        """Whether its key signed it, for this table and environment. The signature is hexadecimal."""
        try:
            signature = base64.b64encode(bytes.fromhex(self.signature)).decode()
        except ValueError:
            return False
        return witness.holds(self.signed_bytes, f"{self.key_id}:{signature}")

    @property
    def line(self) -> str:
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))

    @classmethod
    def parse(cls, line: str) -> Anchor:
        """Raises ValueError naming what is wrong."""
        try:
            # From JSON, where a pair is a list.
            return cls.model_validate_json(line)
        except ValidationError as error:
            first = error.errors()[0]
            raise ValueError(f"{'.'.join(map(str, first['loc'])) or 'the line'}: {first['msg']}") from None


@dataclass(frozen=True)
class Source:
    """Anchors of one place, in the order in which they stand there, each as JSON. `name`: for the auditor."""

    name: str
    lines: Sequence[str]


def of_log(rows: pa.Table, keyring: Keyring, place: tuple[str, str]) -> Source:
    """Those that stand in the log itself. `rows`: all of them, in order."""
    return Source("the log", [json.dumps(found) for _, found in recorded(rows, keyring, place)])


def recorded(rows: pa.Table, keyring: Keyring, place: tuple[str, str]) -> Iterator[tuple[int, Any]]:
    """Version of the fact, and the anchor it holds, in log order. A row that upkeep's key did not sign holds none."""
    mine = pc.and_(pc.equal(rows.column("kind"), "AuditRecorded"), pc.equal(rows.column("from_agent"), UPKEEP))
    told = pc.and_(mine, pc.match_substring(rows.column("content"), f'"{ACTION}"'))
    for message in codec.from_arrow(rows.filter(told)):
        if not is_audit(message) or message.from_agent != UPKEEP or not keyring.accepts(message, *place):
            continue
        fact = payload_of(message)
        if fact.get("action") == ACTION and isinstance(fact.get("details"), dict):
            yield message.log_version, fact["details"].get("anchor")


class Anchors:
    """What anchors say, held against the walk over the log. `place`: table id and environment."""

    def __init__(
        self, sources: Sequence[Source], keyring: Keyring, place: tuple[str, str], report: AuditReport
    ) -> None:
        self._report = report
        self._witness = KeyWitness(keyring, UPKEEP, place)
        self._place = place
        self._anchors: list[tuple[str, Anchor]] = []
        known: dict[str, str] = {}
        for source in sources:
            for where, anchor in self._trusted(source):
                if known.setdefault(anchor.digest, where) == where:
                    self._anchors.append((where, anchor))
        #: Commits of the walk: version, and rows before and in it; and every row's hash.
        self._versions: list[int] = []
        self._ends: list[int] = []
        self._hashes: list[bytes] = []

    def _trusted(self, source: Source) -> Iterator[tuple[str, Anchor]]:
        """Those that upkeep signed for this log, if they stand in order."""
        before: Anchor | None = None
        for number, line in enumerate(source.lines, 1):
            where = f"anchor {number} of {source.name}"
            self._report.checked["anchors"] += 1
            try:
                anchor = Anchor.parse(line)
                peaks = Peaks(anchor.rows, [bytes.fromhex(peak) for peak in anchor.peaks])
            except ValueError as error:
                self._report.add("anchor.format", where, f"this is no anchor: {error}")
                continue
            if (anchor.table_id, anchor.environment) != self._place:
                what = f"it is of table {anchor.table_id} in {anchor.environment}, not of this one"
                self._report.add("anchor.table", where, what)
                continue
            if not anchor.holds(self._witness):
                self._report.add("anchor.signature", where, f"{UPKEEP}'s key did not sign it: it was forged or altered")
                continue
            if peaks.root.hex() != anchor.root:
                self._report.add("anchor.root", where, "its root is not that of its own peaks")
                continue
            if before is not None and not _follows(anchor, before):
                what = f"number {anchor.number} does not follow number {before.number}: one was altered, or they are out of order"
                self._report.add("anchor.order", where, what)
            before = anchor
            yield where, anchor

    def writers(self) -> set[tuple[str, int]]:
        """Facts whose hashes the walk has to remember."""
        return {(name, sequence) for _, one in self._anchors for name, (sequence, _) in one.writers.items()}

    # --- the walk ----------------------------------------------------------------------------------------------------

    def take(self, version: int, hashes: Sequence[bytes]) -> None:
        """The rows of the next commit."""
        if not self._anchors:
            return
        self._hashes += hashes
        self._versions.append(version)
        self._ends.append(len(self._hashes))

    def end(self, head: int, chains: Chains) -> None:
        different: set[tuple[int, int]] = set()
        peaks = Peaks()
        for where, anchor in sorted(self._anchors, key=lambda one: one[1].log_version):
            self._writers(where, anchor, chains)
            if head < anchor.log_version:
                what = f"the log ends at version {head}; at version {anchor.log_version} it had {anchor.rows} rows"
                self._report.add("anchor.truncated", where, what)
            named = self._blocks(where, anchor, different)
            rows = self._rows_upto(anchor.log_version)
            for at in range(peaks.size, rows):
                peaks.add(self._hashes[at])
            if (rows, peaks.root.hex()) != (anchor.rows, anchor.root) and not named and not different:
                what = f"up to version {anchor.log_version} there were {anchor.rows} rows, other ones than the {rows} of today"
                self._report.add("anchor.rows", f"versions up to {anchor.log_version}, {where}", what)

    def _rows_upto(self, version: int) -> int:
        place = bisect_right(self._versions, version)
        return self._ends[place - 1] if place else 0

    def _blocks(self, where: str, anchor: Anchor, different: set[tuple[int, int]]) -> bool:
        """Name each block whose rows are not those of today. A block ends where the next begins, whatever was taken out."""
        named = False
        if not anchor.blocks:
            return named
        first, counted = _begin(anchor)
        for last, rows, digest in anchor.blocks:
            span, size = (first, last), rows - counted
            first, counted = last, rows
            start, end = self._rows_upto(span[0]), self._rows_upto(last)
            if end - start == size and root_of(self._hashes[start:end]).hex() == digest:
                continue
            named = True
            if span in different:
                continue
            different.add(span)
            place = bisect_right(self._versions, span[0])
            there = self._versions[place : bisect_right(self._versions, last)]
            named_versions = (
                f"version {last}" if last - span[0] == 1 or there == [last] else f"versions {span[0] + 1} to {last}"
            )
            what = f"{where} says {size} rows, and " + (
                f"{end - start} are there" if end - start != size else "they were others, or stood in another order"
            )
            self._report.add("anchor.block", named_versions, what)
        return named

    def _writers(self, where: str, anchor: Anchor, chains: Chains) -> None:
        for writer, (sequence, digest) in anchor.writers.items():
            found = chains.remembered.get((writer, sequence))
            if found == digest or (writer, sequence, digest) in chains.imitated:
                continue
            known = chains.ends.get(writer)
            if known is None:
                self._report.add("anchor.writer_missing", f"chain {writer}", f"{where} knows {sequence} facts of it")
            elif found is None:
                what = f"{where} knows fact {sequence}, and the chain ends at fact {known[0]}"
                self._report.add("anchor.writer_truncated", f"chain {writer}", what)
            else:
                what = f"it is not the fact that {where} knows: there were two histories"
                self._report.add("anchor.fork", f"chain {writer}, fact {sequence}", what)


def _follows(anchor: Anchor, before: Anchor) -> bool:
    if anchor.number <= before.number or anchor.log_version < before.log_version or anchor.rows < before.rows:
        return False
    return anchor.number != before.number + 1 or anchor.previous == before.digest


def _begin(anchor: Anchor) -> tuple[int, int]:
    """Version and rows after which the blocks of an anchor begin: the first block says it, being an empty one."""
    version, rows, _ = anchor.blocks[0]
    return version, rows


def extended(
    before: Anchor | None,
    commits: Sequence[tuple[int, Sequence[bytes]]],
    facts: Mapping[str, tuple[int, str]],
    place: tuple[str, str],
    head: int,
    now: int,
    key_id: str,
) -> Anchor:
    """The anchor of the log at `head`. `commits`: version and hashes of the rows since `before`; `facts`: last ones since.

    It goes on from the anchor before, and never looks at older rows again: what was altered there since stays detectable.
    """
    peaks = Peaks(before.rows, [bytes.fromhex(p) for p in before.peaks]) if before else Peaks()
    start = (before.log_version, before.rows) if before else (-1, 0)
    blocks = [(*start, root_of(()).hex())]
    step = max(1, -(-len(commits) // BLOCKS))
    for first in range(0, len(commits), step):
        piece = commits[first : first + step]
        hashes = [leaf for _, leaves in piece for leaf in leaves]
        for leaf in hashes:
            peaks.add(leaf)
        blocks.append((piece[-1][0], peaks.size, root_of(hashes).hex()))
    return Anchor(
        number=before.number + 1 if before else 1,
        previous=before.digest if before else GENESIS,
        table_id=place[0],
        environment=place[1],
        log_version=head,
        time=now,
        rows=peaks.size,
        root=peaks.root.hex(),
        peaks=[peak.hex() for peak in peaks.peaks],
        writers=dict(facts),
        blocks=blocks,
        key_id=key_id,
    )

"""Verifies the audit trail where Spark writes the log: rows that lost a race stay there, and the table says who changed it.

What our own log proves by its entries is proven here by the rows and by the table's history: rows that were signed
together must all be there, chains have no holes, and nobody but the bus and maintenance has written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bus.audit import is_audit, says_fact
from bus.keys import Keyring
from bus.projections.projector import payload_of
from bus.projections.tables import PROJECTIONS
from jobs.audit import signatures
from jobs.audit.anchors import Anchors, Source, of_log
from jobs.audit.projections import compared
from jobs.audit.report import AuditReport
from jobs.audit.signatures import Leaf
from jobs.audit.verification import Walk, outcome_of, where
from schemas.envelope import Message

if TYPE_CHECKING:
    from jobs.bootstrap import System

#: What leaves every row as it was written. Whatever else stands in the table's history is named.
HARMLESS = frozenset(
    (
        "CREATE TABLE",
        "WRITE",
        "STREAMING UPDATE",
        "OPTIMIZE",
        "VACUUM START",
        "VACUUM END",
        "SET TBLPROPERTIES",
        "COMPUTE STATS",
        "UPGRADE PROTOCOL",
        "ADD DELETION VECTOR TOMBSTONES",
        "CLUSTER BY",
    )
)


def verification(system: System, anchors: Sequence[Source] = (), many: int | None = None) -> AuditReport:
    """Everything that is in the table. Raises LogMissing, ForeignLog, MissingKey, or Untrusted for the keyring."""
    report = AuditReport()
    log = system.unity.log
    place = (system.unity.check(), system.settings.env)
    keyring = Keyring.load(system.home.keys)
    _history(system.unity.table.history(), report)
    # Before the rows, since hosts go on writing: what is looked at first is in them.
    projections = list(compared(PROJECTIONS, system.log, report).values())
    rows, head = log.scan()
    anchored = Anchors([of_log(rows, keyring, place), *anchors], keyring, place, report)
    walk = _Walk(system, place[1], anchored, _NoEntries(head), projections, report)
    for chunk in signatures.checked(rows, system.home.keys, *place, many=signatures.MANY if many is None else many):
        walk.take(chunk)
    walk.end()
    if walk.lost:
        report.checked["rows that lost a race"] = walk.lost
    if walk.copies:
        report.checked["copies"] = walk.copies
    return report


def _history(done: Sequence[dict[str, Any]], report: AuditReport) -> None:
    for one in done:
        report.checked["table operations"] += 1
        operation, said = str(one["operation"]), dict(one.get("operationParameters") or {})
        by = one.get("userName") or "somebody"
        version = f"table version {one['version']}"
        if operation not in HARMLESS or said.get("mode") == "Overwrite":
            what = f"{operation} by {by}: rows may have been changed or removed"
            report.add("table.changed", version, what)
        elif operation == "SET TBLPROPERTIES" and "appendOnly" in str(said.get("properties", "")):
            what = f"{by} changed whether rows may only be appended: {said['properties']}"
            report.add("table.changed", version, what)
    if done and int(done[0]["version"]) > 0:
        report.notes.append(
            f"the table's history goes back to version {done[0]['version']}: what was done to it before, nobody says any more"
        )


@dataclass
class _NoEntries:
    """Entries of this log are the engine's, and say nothing of ours."""

    head: int

    def take(self, version: int, rows: Sequence[Message]) -> None:
        return

    def end(self) -> None:
        return


@dataclass
class _Tree:
    """Rows that were signed together, as far as they came by."""

    size: int
    where: str
    by: str
    leaves: list[tuple[int, int]] = field(default_factory=list)


class _Walk(Walk):
    """A row counts for nothing when its handling lost, and a producer may have sent one twice: both are no problem."""

    lost = 0
    copies = 0

    def __init__(self, *what: Any) -> None:
        super().__init__(*what)
        self._groups: dict[str, _Tree] = {}
        #: By message id: the digest of what the first row with it says, where that row stands alone.
        self._said: dict[str, int] = {}
        #: Facts that were taken, by writer and number: copies of one are no second one.
        self._facts: set[str] = set()

    def _positions(self, version: int, rows: Sequence[Message]) -> None:
        """Others than the bus may append too, and number nothing: what is missing, the trees and chains say."""

    def _trees_of(self, version: int, commit: list[tuple[int, Message]], leaves: dict[int, Leaf]) -> None:
        """One signature may cover rows of several commits: who delivers them decides where to cut."""
        for index, message in commit:
            if (leaf := leaves.get(index)) is not None:
                tree = self._groups.setdefault(leaf.group, _Tree(leaf.size, f"version {version}", message.from_agent))
                tree.leaves.append((version, leaf.place))

    def _signed(self, message: Message, is_valid: bool, digest: str | None) -> None:
        is_new = self._seen.add(message.message_id)
        self._principal(message)
        if says_fact(message) and digest is not None:
            if not is_audit(message):
                self._chains.ignore(payload_of(message), digest)
            elif digest not in self._facts:
                # A handling that lost said what it did all the same: its facts are links of its writer's chain.
                self._facts.add(digest)
                self._chains.take(payload_of(message), digest, where(message))
        if message.message_type == "receipt":
            self._report.checked["receipts"] += 1
        if not is_valid:
            self._worthless(message, is_new)
            return
        self._said[message.message_id] = hash(message.signed_bytes("", "", ""))
        if message.message_type != "receipt":
            self._grants.take(message, payload_of(message))
        elif outcome_of(message).get("outcome") == "rejected":
            self._rejected.add(message.causation_id)

    def _worthless(self, message: Message, is_new: bool) -> None:
        if message.message_type == "receipt" or message.handling_id is not None or is_new:
            self.lost += 1  # of a handling, a claim or a lease that another came before
        elif self._said.get(message.message_id) == hash(message.signed_bytes("", "", "")):
            self.copies += 1
        else:
            what = "a row with this id stands in the log before and says something else: nobody obeys this one"
            self._report.add("log.repeated", where(message), what)

    def end(self) -> None:
        for tree in self._groups.values():
            there = {place for _, place in tree.leaves if place >= 0}
            altered = sum(1 for _, place in tree.leaves if place < 0)
            if len(there) + altered < tree.size:
                gone = sorted(set(range(tree.size)) - there)[:10] if not altered else []
                which = f", number {', '.join(map(str, gone))} of them" if gone else ""
                what = f"{tree.by}'s key signed {tree.size} rows together, and {len(there)} are in the log{which}"
                self._report.add("log.removed", tree.where, what)
        super().end()

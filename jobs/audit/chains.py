"""The audit chains: every writer's facts are 1, 2, 3, ..., each naming the hash of the one before, in the log's order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from bus.audit import GENESIS
from jobs.audit.report import AuditReport


class Chains:
    """`wanted`: (writer, sequence) whose hashes are to be remembered, because an anchor speaks of them."""

    def __init__(self, report: AuditReport, wanted: Iterable[tuple[str, int]] = ()) -> None:
        self._report = report
        self._ends: dict[str, tuple[int, str]] = {}
        self._wanted = frozenset(wanted)
        self.remembered: dict[tuple[str, int], str] = {}
        #: What people signed as facts of these places: nothing of a chain, but an old anchor may speak of it.
        self.imitated: set[tuple[str, int, str]] = set()

    def take(self, fact: Mapping[str, Any], digest: str, where: str) -> None:
        """The next fact of the log. `digest`: sha256 over what is signed of it."""
        writer, sequence = str(fact.get("writer")), fact.get("sequence")
        self._report.checked["facts"] += 1
        if not isinstance(sequence, int):
            self._report.add("audit.sequence", where, f"chain {writer}: a fact without a number")
            return
        known, previous = self._ends.get(writer, (0, GENESIS))
        if writer not in self._ends:
            self._report.checked["chains"] += 1
        if sequence != known + 1:
            what = f"fact {known + 1} is missing or out of order: {sequence} stands there"
            if sequence > known + 2:
                what = f"facts {known + 1} to {sequence - 1} are missing or out of order: {sequence} stands there"
            self._report.add("audit.sequence", f"chain {writer}, {where}", what)
        elif fact.get("previous") != previous:
            self._report.add(
                "audit.chain", f"chain {writer}, fact {sequence}, {where}", "it does not name the fact before it"
            )
        self._ends[writer] = (sequence, digest)
        if (writer, sequence) in self._wanted:
            self.remembered.setdefault((writer, sequence), digest)

    def ignore(self, fact: Mapping[str, Any], digest: str) -> None:
        """What looks like a fact and was signed by a person. Before it counted for nothing, anchors took it for one."""
        self._report.checked["facts of people, which are none"] += 1
        writer, sequence = str(fact.get("writer")), fact.get("sequence")
        if isinstance(sequence, int) and (writer, sequence) in self._wanted:
            self.imitated.add((writer, sequence, digest))

    @property
    def ends(self) -> Mapping[str, tuple[int, str]]:
        """Writer -> its last fact's number and hash."""
        return self._ends

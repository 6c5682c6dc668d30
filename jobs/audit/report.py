"""What a verification found: every kind of problem counted, the first of each kept with its place."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

#: Problems of one rule that are kept with their places; the others are counted.
KEPT = 100


@dataclass(frozen=True)
class Problem:
    """`rule` is the check that failed, `where` the row or table, `what` a sentence for the auditor."""

    rule: str
    where: str
    what: str


@dataclass
class AuditReport:
    """`found`: how many problems there are by rule, whether kept or not. `notes`: what could not be checked, and why."""

    problems: list[Problem] = field(default_factory=list)
    checked: Counter[str] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.found

    @property
    def unnamed(self) -> int:
        """Problems that were counted only."""
        return self.found.total() - len(self.problems)

    def add(self, rule: str, where: str, what: str) -> None:
        self.found[rule] += 1
        if self.found[rule] <= KEPT:
            self.problems.append(Problem(rule, where, what))

    def document(self) -> dict[str, Any]:
        """As JSON says it."""
        return {
            "ok": self.ok,
            "checked": dict(self.checked),
            "found": dict(self.found),
            "problems": [vars(one) for one in self.problems],
            "notes": self.notes,
        }

"""What the verification of the audit trail found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from rich.console import Group, RenderableType
from rich.text import Text

from apps.cli.views.rows import plain_table
from apps.cli.views.safe import safe


class Finding(Protocol):
    rule: str
    where: str
    what: str


class Report(Protocol):
    problems: Sequence[Finding]
    checked: Mapping[str, int]


def audit_report(report: Report) -> RenderableType:
    counted = Text(" · ".join(_counted(count, what) for what, count in report.checked.items()), style="quiet")
    if not report.problems:
        return Group(Text.assemble(("✓ ", "good"), "the audit trail holds"), Text.assemble("  ", counted))
    table = plain_table("rule", "where", "what")
    for problem in report.problems:
        table.add_row(Text(problem.rule, style="warn"), Text(safe(problem.where)), Text(safe(problem.what)))
    head = Text.assemble(("✗ ", "bad"), f"{len(report.problems)} problems in the audit trail")
    return Group(head, table, Text.assemble("  ", counted))


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what.removesuffix('s') if count == 1 else what}"

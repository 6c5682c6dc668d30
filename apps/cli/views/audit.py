"""What the verification of the audit trail found, and what an anchor says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from rich.console import Group, RenderableType
from rich.text import Text

from apps.cli.terminal import moment
from apps.cli.views.rows import plain_table
from apps.cli.views.safe import safe

if TYPE_CHECKING:
    from jobs.audit.anchoring import Anchored
    from jobs.audit.export import Exported


class Finding(Protocol):
    rule: str
    where: str
    what: str


class Report(Protocol):
    problems: Sequence[Finding]
    checked: Mapping[str, int]
    found: Mapping[str, int]
    notes: Sequence[str]


#: Problems that a terminal shows.
SHOWN = 100


def audit_report(report: Report) -> RenderableType:
    counted = Text(" · ".join(_counted(count, what) for what, count in report.checked.items()), style="quiet")
    notes = [Text(f"  {safe(note)}", style="warn") for note in report.notes]
    if not report.found:
        return Group(Text.assemble(("✓ ", "good"), "the audit trail holds"), *notes, Text.assemble("  ", counted))
    table = plain_table("rule", "where", "what")
    for problem in report.problems[:SHOWN]:
        table.add_row(Text(problem.rule, style="warn"), Text(safe(problem.where)), Text(safe(problem.what)))
    total = sum(report.found.values())
    head = Text.assemble(("✗ ", "bad"), f"{_counted(total, 'problems')} in the audit trail")
    parts: list[RenderableType] = [head, table]
    if total > min(SHOWN, len(report.problems)):
        kinds = ", ".join(f"{count:,} {rule}" for rule, count in sorted(report.found.items()))
        parts.append(Text(f"  and more of them; in all: {kinds}", style="warn"))
    return Group(*parts, *notes, Text.assemble("  ", counted))


def anchored_view(done: Anchored) -> RenderableType:
    anchor = done.anchor
    head = f"anchor {anchor.number}: {anchor.rows:,} rows up to version {anchor.log_version}, {moment(anchor.time)}"
    told = "" if done.is_new else ", as before: nothing has come since"
    lines = [
        Text.assemble(("✓ ", "good"), head, (told, "quiet")),
        Text.assemble(("  root   ", "quiet"), anchor.root),
        Text.assemble(("  digest ", "quiet"), anchor.digest),
    ]
    for place, count in done.sent.items():
        lines.append(
            Text.assemble(("  at ", "quiet"), safe(place), (f" · {_counted(count, 'anchors')} added", "quiet"))
        )
    return Group(*lines)


def exported_view(done: Exported) -> RenderableType:
    head = f"{done.rows:,} rows of versions {done.first} to {done.last}, {_counted(done.anchors, 'anchors')}"
    return Group(
        Text.assemble(("✓ ", "good"), head),
        Text.assemble(("  read   ", "quiet"), safe(str(done.folder / "report.html"))),
        Text.assemble(("  check  ", "quiet"), (safe(f"python {done.folder / 'verifier.py'} {done.folder}"), "command")),
    )


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what.removesuffix('s') if count == 1 else what}"

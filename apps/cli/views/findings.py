"""The doctor's findings as a table, each remedy below what it mends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from apps.cli.checks import Finding
from apps.cli.views.safe import safe

MARKS = {"ok": ("✓", "good"), "warn": ("!", "warn"), "fail": ("✗", "bad")}


def findings(found: Sequence[Finding]) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for one in found:
        text = Text(safe(one.found), style="quiet" if one.level == "ok" else "")
        if one.remedy:
            text.append_text(Text.assemble("\n", ("→ ", "quiet"), (safe(one.remedy), "command")))
        table.add_row(Text(*MARKS[one.level]), Text(one.name), text)
    counted = Counter(one.level for one in found)
    verdict = "something has to be mended" if counted["fail"] else "ready"
    parts = [f"{counted['ok']} ok", *([f"{counted['warn']} to know of"] if counted["warn"] else [])]
    parts += [f"{counted['fail']} to mend"] if counted["fail"] else []
    line = Text.assemble("\n", (verdict, "bad" if counted["fail"] else "good"), (f"  {' · '.join(parts)}", "quiet"))
    return Group(table, line)

"""What went wrong: the cause, and below it what to do."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.text import Text

from apps.cli.exits import CommandError
from apps.cli.views.safe import safe


def failure(error: CommandError) -> RenderableType:
    parts: list[RenderableType] = [Text(safe(error.cause))]
    if error.rule:
        parts.append(Text.assemble(("rule ", "quiet"), (error.rule, "warn")))
    if error.remedy:
        parts.append(Text.assemble(("→ ", "quiet"), (error.remedy, "command")))
    return Panel(Group(*parts), border_style="bad", padding=(0, 1), expand=False)

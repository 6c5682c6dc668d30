"""`tailrace executions`: what ran under a grant, and how it ended."""

from __future__ import annotations

from typing import Annotated

import typer

from apps.cli import history
from apps.cli.options import Json, terminal_of
from apps.cli.session import checker, open_system


def executions(
    context: typer.Context,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Newest so many.")] = 20,
    json: Json = False,
) -> None:
    """Effects, newest first: claimed, done, failed or in doubt."""
    from apps.cli.effects import effects
    from apps.cli.views.effects import effect_table

    terminal = terminal_of(context)
    system = open_system()
    accept = checker(system)
    found = effects(row for row in history.everything(system) if accept(row))[::-1][:limit]
    terminal.emit([vars(one) for one in found])
    terminal.show(effect_table(found) if found else "[quiet]nothing was executed yet[/]")

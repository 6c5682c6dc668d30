"""`tailrace agents`: who there is, who runs where, and what waits for whom."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from apps.cli.options import Json, terminal_of
from apps.cli.session import open_system


def agents(
    context: typer.Context,
    kinds: Annotated[bool, typer.Option("--kinds", help="What each agent handles.", show_default=False)] = False,
    json: Json = False,
) -> None:
    """Agents of this home, where their instances run, who has which share, and what waits; also for agents nobody runs."""
    from apps.cli.roster import roster
    from apps.cli.views.roster import roster_table

    terminal = terminal_of(context)
    found = roster(open_system())
    terminal.emit([asdict(one) for one in found])
    terminal.show(roster_table(found, kinds))

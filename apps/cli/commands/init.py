"""`tailrace init`: makes a home, or completes one."""

from __future__ import annotations

import sys
import time
from typing import Annotated

import typer
from rich.markup import escape

from apps.cli.options import Json, terminal_of
from apps.cli.session import open_system, readable_users
from apps.cli.terminal import ago


def init(
    context: typer.Context,
    scale: Annotated[
        float, typer.Option("--scale", min=0.001, max=100, help="TPC-H scale of the sample; 1 is a gigabyte.")
    ] = 0.01,
    own: Annotated[
        list[str] | None,
        typer.Option("--agent", metavar="MODULE:CLASS", help="A key for an agent of your own; may be repeated."),
    ] = None,
    json: Json = False,
) -> None:
    """Make keys, tables, sample data and sample knowledge; what is there is kept."""
    from jobs.init_home import initialise

    if own and "" not in sys.path:
        sys.path.insert(0, "")  # an agent of one's own is a module of the folder one stands in
    terminal = terminal_of(context)
    system = open_system(home_needed=False)
    began = time.monotonic()
    there = system.home.exists
    steps: list[str] = []
    with terminal.working(f"{'completing' if there else 'making'} {system.home.root}") as change:

        def say(step: str) -> None:
            steps.append(step)
            change(step)

        initialise(system, say, scale, own or ())
    users = readable_users(system.home)
    terminal.show(f"[good]✓[/] {escape(str(system.home.root))} is ready [quiet]({ago(time.monotonic() - began)})[/]")
    terminal.show(
        f"  users {', '.join(f'[person]{user}[/]' for user in users)}", "  [quiet]next:[/] [command]tailrace up[/]"
    )
    terminal.emit({"home": str(system.home.root), "existed": there, "users": users, "steps": steps})

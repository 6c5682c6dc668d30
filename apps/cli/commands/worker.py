"""`tailrace worker`: one host in the foreground."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated

import typer

from apps.cli.exits import MISUSE, CommandError
from apps.cli.options import Engine, Json, terminal_of
from apps.cli.session import open_system


def worker(
    context: typer.Context,
    names: Annotated[
        list[str],
        typer.Argument(metavar="NAME...", help="Agents, such as rag, or module:Class of your own.", show_default=False),
    ],
    engine: Engine = None,
    json: Json = False,
) -> None:
    """Run agents in this process until Ctrl-C or SIGTERM; then finish what is under way. Started twice, they share the work."""
    from jobs import logging
    from jobs.agents import UnknownAgent, find
    from jobs.run_worker import serve

    terminal = terminal_of(context)
    if "" not in sys.path:
        sys.path.insert(0, "")  # an agent of one's own is a module of the folder one stands in
    try:
        agents = list(dict.fromkeys(find(name) for name in names))
    except UnknownAgent as error:
        raise CommandError(str(error), "tailrace worker orchestrator rag code", MISUSE) from error
    hosts = sorted({agent.host for agent in agents})
    if len(hosts) > 1:
        raise CommandError(
            f"these agents run in processes of their own: {', '.join(hosts)}",
            "start one `tailrace worker` for each; a process holds the keys of one host only",
            MISUSE,
        )
    system = open_system(engine=engine)
    logging.configure(system.settings.log_level, json_lines=not terminal.err.is_terminal, redactor=system.redactor)
    asyncio.run(serve(system, agents, system.settings.engine))
    terminal.emit({"stopped": [agent.name for agent in agents]})

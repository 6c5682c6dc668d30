"""`tailrace upkeep`: keeps the tables in shape: compaction, checkpoints, clean-up, archive."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Annotated

import typer

from apps.cli.exits import DONE, FAILED
from apps.cli.options import Json, terminal_of
from apps.cli.session import open_system

if TYPE_CHECKING:
    from jobs.upkeep import Pass


def upkeep(
    context: typer.Context,
    watch: Annotated[
        bool, typer.Option("--watch", help="Keep going until Ctrl-C, pass after pass.", show_default=False)
    ] = False,
    json: Json = False,
) -> None:
    """Make many small files few large ones, write checkpoints, delete what nobody needs; safe while hosts run."""
    from apps.cli.views.upkeep import pass_table
    from jobs import upkeep as job

    terminal = terminal_of(context)
    system = open_system()
    with job.alone(system.home):
        if not watch:
            with terminal.working("looking at the tables") as change:
                done = job.Tables(system).run(change)
            terminal.show(pass_table(done))
            terminal.emit(done.document())
            raise typer.Exit(FAILED if done.failed else DONE)
        stop = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stop.set())
        total = job.Pass()

        def told(done: Pass) -> None:
            if done.worked:
                terminal.note(pass_table(done))
            total.add(done)

        terminal.say("watching the tables; Ctrl-C ends it")
        job.watch(system, stop, told)
        terminal.emit(total.document())

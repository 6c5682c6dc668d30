"""`tailrace upkeep`: keeps the tables in shape: compaction, checkpoints, clean-up, archive."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Annotated

import typer

from apps.cli.exits import DONE, FAILED, MISUSE, CommandError
from apps.cli.options import Json, terminal_of
from apps.cli.session import open_system

if TYPE_CHECKING:
    from bus.log.store import Location
    from jobs.bootstrap import System
    from jobs.upkeep import Pass


def upkeep(
    context: typer.Context,
    watch: Annotated[
        bool, typer.Option("--watch", help="Keep going until Ctrl-C, pass after pass.", show_default=False)
    ] = False,
    retain_days: Annotated[
        int | None,
        typer.Option("--retain-days", min=1, help="Messages, events and audit facts older than so many days leave."),
    ] = None,
    archive: Annotated[
        str | None,
        typer.Option("--archive", metavar="DIR", help="Where they go: Delta tables in a folder, or at a URL."),
    ] = None,
    discard: Annotated[
        bool,
        typer.Option("--discard", help="They go nowhere. Audit facts cannot be verified then.", show_default=False),
    ] = False,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            "--metrics-port",
            min=1,
            max=65_535,
            help="Serve metrics for Prometheus there; needs --watch. 127.0.0.1 only.",
        ),
    ] = None,
    metrics_address: Annotated[
        str | None,
        typer.Option("--metrics-address", metavar="ADDRESS", help="Serve them to others too, such as 0.0.0.0."),
    ] = None,
    json: Json = False,
) -> None:
    """Make many small files few large ones, write checkpoints, delete what nobody needs; safe while hosts run.

    Days leave only when they were read back from the archive; conversations that go on stay whole.
    """
    from apps.cli.views.upkeep import pass_table
    from jobs import upkeep as job

    terminal = terminal_of(context)
    catalogue = open_system(home_needed=False).unity_schema
    if catalogue is not None and (retain_days or archive or discard):
        cause = f"agent_messages is in Unity Catalog ({catalogue}), and append-only: no days leave it"
        raise CommandError(cause, "a table of another schema for what is new: tailrace init in a new home", MISUSE)
    if not watch and (metrics_port or metrics_address):
        raise CommandError("metrics are served while upkeep watches, and this is one pass", "--watch", MISUSE)
    system = open_system(
        retain_days=retain_days, archive=archive, metrics_port=metrics_port, metrics_address=metrics_address
    )
    if metrics_address is not None and system.settings.metrics_port is None:
        raise CommandError(
            "--metrics-address says where metrics are served, and not at which port", "--metrics-port N", MISUSE
        )
    retention = _retention(system, retain_days, archive, discard)
    with job.alone(system.home):
        if not watch:
            with terminal.working("looking at the tables") as change:
                tables = job.Tables(system)
                done = tables.run(change)
                if retention is not None:
                    change("days that are old")
                    tables.retain(*retention, done)
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
        with job.metrics_served(system) as metrics:
            if metrics is not None:
                terminal.say(
                    f"metrics: http://{system.settings.metrics_address}:{system.settings.metrics_port}/metrics"
                )
            job.watch(system, stop, told, retention, metrics)
        terminal.emit(total.document())


def _retention(
    system: System, retain_days: int | None, archive: str | None, discard: bool
) -> tuple[int, Location | None] | None:
    """Days that are kept, and where the others go. Nothing is lost because somebody forgot to say where to."""
    from jobs import upkeep as job

    days = system.settings.retain_days
    if archive and discard:
        raise CommandError("--archive keeps what --discard throws away", "say one of them", MISUSE)
    if days is None:
        if archive or discard:
            cause = f"{'--archive' if archive else '--discard'} says where old days go, and nothing says which are old"
            raise CommandError(cause, "--retain-days N", MISUSE)
        return None
    if discard:
        return days, None
    if retain_days is not None and system.settings.archive is None:
        raise CommandError("old days hold audit facts, and nothing says where they go", "--archive DIR", MISUSE)
    return job.retention(system.settings)

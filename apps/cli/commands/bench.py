"""`tailrace bench`: how fast, compared with what, in this very run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from apps.cli.exits import MISUSE, CommandError
from apps.cli.options import Json, terminal_of


def bench(
    context: typer.Context,
    parts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PART]...",
            help="append, hop, decision, idle, pipeline: all of these when none is named; bus: beside PostgreSQL, Redis, Spark.",
        ),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="bus: fewer rounds, for a first look.")] = False,
    spark: Annotated[bool, typer.Option(help="bus: with Spark, which takes minutes.")] = True,
    history: Annotated[
        Path | None,
        typer.Option(
            help="bus: a home with a long log; measures it beside an empty one, with upkeep running, and nothing else.",
            exists=True,
            file_okay=False,
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Measure latencies and costs in a home of its own. Read the ratios: machines are noisy."""
    from apps.cli.views.bench import measurements
    from jobs.bench.run import PARTS, USUAL, run

    unknown = sorted(set(parts or ()) - set(PARTS))
    if unknown:
        raise CommandError(
            f"there is nothing to measure called {', '.join(unknown)}", f"one of {', '.join(PARTS)}", MISUSE
        )
    terminal = terminal_of(context)
    with terminal.working("measuring") as change:
        found = run(parts or list(USUAL), change, quick, spark, history)
    terminal.show(measurements(found.rows))
    terminal.emit({"measurements": found.document()})

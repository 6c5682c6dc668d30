"""`tailrace trace`: a conversation as a timed tree."""

from __future__ import annotations

from typing import Annotated

import typer

from apps.cli import history
from apps.cli.exits import CommandError
from apps.cli.options import Json, terminal_of
from apps.cli.session import checker, open_system


def trace(
    context: typer.Context,
    correlation_id: Annotated[str, typer.Argument(help="The conversation, or the beginning of its id, or `last`.")],
    receipts: Annotated[
        bool, typer.Option("--receipts", help="Every receipt on a line of its own.", show_default=False)
    ] = False,
    json: Json = False,
) -> None:
    """Draw a conversation: who told whom what, when, how long it waited and took, and what was audited."""
    from apps.cli.outcome import outcome_of
    from apps.cli.views.trace import trace as drawn

    terminal = terminal_of(context)
    system = open_system()
    rows = history.conversation(system, history.resolve(system, correlation_id))
    accept = checker(system)
    held = [row for row in rows if accept(row)]
    if len(held) < len(rows):
        strangers = len(rows) - len(held)
        terminal.say(f"{strangers} rows of this conversation are not signed by whom they name; not shown", "warn")
    if not held:
        raise CommandError("nobody we trust has written in this conversation", "tailrace audit verify")
    outcome = outcome_of(held)
    terminal.show("", drawn(outcome, receipts), "")
    root = outcome.timeline.rows[0]
    terminal.emit(
        {
            "correlation_id": outcome.correlation_id,
            "principal": root.principal,
            "started_at": root.time.isoformat(),
            "status": outcome.status,
            "timings_ms": outcome.timings_ms,
            "hops": outcome.timeline.hops,
            "messages": outcome.timeline.document(),
        }
    )

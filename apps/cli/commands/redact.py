"""`tailrace redact`: what the redaction policy would leave of a text."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.text import Text

from apps.cli.options import Json, terminal_of


def redact(
    context: typer.Context,
    text: Annotated[str, typer.Argument(help="The text; - reads standard input.")],
    place: Annotated[str, typer.Option(help="Where it would go: message, log or prompt.")] = "message",
    json: Json = False,
) -> None:
    """Show what would be masked before a text goes into a message, a log or a prompt; nothing is sent."""
    from apps.cli.exits import MISUSE, CommandError
    from jobs.redaction import load_redactor

    if place not in ("message", "log", "prompt"):
        raise CommandError(f"there is no place {place!r}", "--place takes message, log or prompt", MISUSE)
    given = sys.stdin.read() if text == "-" else text
    redactor = load_redactor()
    masked = redactor.text(given, place)
    terminal = terminal_of(context)
    terminal.show(Text(masked), soft_wrap=True)
    terminal.emit({"text": masked, "place": place, "rules": redactor.found(given, place)})

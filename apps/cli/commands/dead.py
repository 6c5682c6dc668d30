"""`tailrace dead`: messages nobody could handle, and why."""

from __future__ import annotations

from typing import Annotated

import typer

from apps.cli import history
from apps.cli.exits import MISUSE, CommandError
from apps.cli.options import Json, terminal_of
from apps.cli.session import open_system

app = typer.Typer(no_args_is_help=True, help="Messages nobody could handle, and why: list, show.")


@app.command("list")
def list_(context: typer.Context, json: Json = False) -> None:
    """Messages whose receipt says dead, rejected or expired, newest last."""
    from apps.cli.lost import lost
    from apps.cli.views.lost import lost_table

    terminal = terminal_of(context)
    found = lost(history.everything(open_system()))
    terminal.emit([one.document() for one in found])
    terminal.show(lost_table(found) if found else "[quiet]every message that was handled was handled well[/]")


@app.command()
def show(
    context: typer.Context,
    message_id: Annotated[str, typer.Argument(metavar="ID", help="The message, or the beginning of its id.")],
    json: Json = False,
) -> None:
    """One of them, with its content."""
    from apps.cli.lost import lost
    from apps.cli.views.lost import lost_details

    terminal = terminal_of(context)
    found = [one for one in lost(history.everything(open_system())) if one.message.message_id.startswith(message_id)]
    if len(found) != 1:
        cause = f"no dead message {message_id}" if not found else f"{len(found)} dead messages begin with {message_id}"
        raise CommandError(cause, "tailrace dead list", MISUSE)
    terminal.emit(found[0].document() | {"content": found[0].message.content})
    terminal.show("", lost_details(found[0]), "")

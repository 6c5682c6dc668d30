"""`tailrace grants`: what governance has permitted, what became of it, and taking it back."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from apps.cli.exits import DONE, REFUSED
from apps.cli.options import As, Json, terminal_of
from apps.cli.session import open_system

app = typer.Typer(no_args_is_help=True, help="What governance has permitted, once each: list, show, revoke.")
GrantId = Annotated[
    str, typer.Argument(metavar="GRANT", help="The grant, or the beginning of its id.", show_default=False)
]


@app.command("list")
def list_(
    context: typer.Context,
    every: Annotated[
        bool, typer.Option("--all", help="Also those that were used, or have expired.", show_default=False)
    ] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Newest so many.")] = 20,
    json: Json = False,
) -> None:
    """Grants, newest first: those that can still be used."""
    from apps.cli.granting import every_grant
    from apps.cli.views.grants import grant_table

    terminal = terminal_of(context)
    now = time.time_ns() // 1000
    found = [one for one in every_grant(open_system()) if every or one.status(now) == "open"][::-1][:limit]
    terminal.emit([one.document(now) for one in found])
    nothing = "nothing was granted yet" if every else "no grant is open; --all shows those that were used"
    terminal.show(grant_table(found, now) if found else f"[quiet]{nothing}[/]")


@app.command()
def show(context: typer.Context, grant_id: GrantId, json: Json = False) -> None:
    """One grant: what exactly it permits, who asked, who approved, by which rule, and what became of it."""
    from apps.cli.granting import find
    from apps.cli.views.grants import grant_details

    terminal = terminal_of(context)
    now = time.time_ns() // 1000
    found = find(open_system(), grant_id)
    terminal.emit(found.document(now))
    terminal.show("", grant_details(found, now), "")


@app.command()
def revoke(
    context: typer.Context,
    grant_id: GrantId,
    user: As,
    reason: Annotated[str, typer.Option("--reason", help="Why; it is kept with the grant.")] = "",
    json: Json = False,
) -> None:
    """Take a grant back before it is used: your own, or any that you might have approved."""
    from apps.cli.granting import find
    from apps.cli.granting import revoke as say
    from apps.cli.session import check_user
    from apps.cli.views.grants import revoked

    terminal = terminal_of(context)
    system = open_system()
    check_user(system, user)
    with terminal.working("taking it back"):
        said = say(system, user, find(system, grant_id), reason)
    terminal.show(revoked(said, user))
    terminal.emit(vars(said) | {"user": user})
    if said.accepted is None:
        terminal.hint("start it with ", "tailrace up", "")
        terminal.hint("or for this conversation alone: ", f"tailrace wait {said.correlation_id}")
    raise typer.Exit(REFUSED if said.accepted is False else DONE)

"""`tailrace executions`: what ran under a grant, how it ended, and a person's word on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from apps.cli.exits import DONE, MISUSE, REFUSED, CommandError
from apps.cli.options import As, Json, terminal_of
from apps.cli.session import open_system

if TYPE_CHECKING:
    from apps.cli.effects import Effect
    from apps.cli.executing import Word
    from jobs.bootstrap import System

app = typer.Typer(invoke_without_command=True, help="What ran under a grant, and how it ended: show, cancel, settle.")
GrantId = Annotated[
    str, typer.Argument(metavar="GRANT", help="The grant, or the beginning of its id.", show_default=False)
]


@app.callback()
def executions(
    context: typer.Context,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Newest so many.")] = 20,
    in_doubt: Annotated[
        bool, typer.Option("--in-doubt", help="Only those that a person has to settle.", show_default=False)
    ] = False,
    json: Json = False,
) -> None:
    """Effects, newest first: claimed, done, failed, cancelled or in doubt."""
    if context.invoked_subcommand is not None:
        return
    from apps.cli.effects import every_effect
    from apps.cli.views.effects import effect_table

    terminal = terminal_of(context)
    found = [one for one in every_effect(open_system()) if one.step == "in_doubt" or not in_doubt][::-1][:limit]
    terminal.emit([one.document() for one in found])
    nothing = "nothing is in doubt" if in_doubt else "nothing was executed yet"
    terminal.show(effect_table(found) if found else f"[quiet]{nothing}[/]")
    if doubtful := next((one for one in found if one.step == "in_doubt"), None):
        terminal.hint("what became of it, the table may prove: ", f"tailrace executions show {doubtful.grant_id}")


@app.command()
def show(context: typer.Context, grant_id: GrantId, json: Json = False) -> None:
    """One execution: its code, who asked and approved, what it wrote, and how that is known."""
    from apps.cli.effects import every_effect, find
    from apps.cli.views.effects import effect_details

    terminal = terminal_of(context)
    effect = find(grant_id, every_effect(open_system()))
    terminal.emit(effect.document())
    terminal.show("", effect_details(effect), "")


@app.command()
def cancel(
    context: typer.Context,
    grant_id: GrantId,
    user: As,
    reason: Annotated[str, typer.Option("--reason", help="Why; it is kept with the outcome.")] = "",
    json: Json = False,
) -> None:
    """End an execution that runs: your own, or anybody's if you may approve."""
    from apps.cli.executing import cancel as say

    _word(context, grant_id, user, "ending it", lambda system, effect: say(system, user, effect, reason))


@app.command()
def settle(
    context: typer.Context,
    grant_id: GrantId,
    user: As,
    reason: Annotated[
        str, typer.Option("--reason", help="How you know; it is kept with the outcome.", show_default=False)
    ],
    done: Annotated[bool, typer.Option("--done", help="It had its effect.", show_default=False)] = False,
    failed: Annotated[bool, typer.Option("--failed", help="It had none.", show_default=False)] = False,
    json: Json = False,
) -> None:
    """Say what became of an execution in doubt. Where its table proves it, the proof decides."""
    if done == failed:
        raise CommandError("say one of --done and --failed", "tailrace executions settle --help", MISUSE)
    from apps.cli.executing import settle as say

    outcome = "done" if done else "failed"
    _word(context, grant_id, user, "settling it", lambda system, effect: say(system, user, effect, outcome, reason))


def _word(context: typer.Context, grant_id: str, user: str, doing: str, say: Callable[[System, Effect], Word]) -> None:
    from apps.cli.effects import every_effect, find
    from apps.cli.session import check_user
    from apps.cli.views.effects import word

    terminal = terminal_of(context)
    system = open_system()
    check_user(system, user)
    effect = find(grant_id, every_effect(system))
    with terminal.working(doing):
        said = say(system, effect)
    terminal.emit(vars(said) | {"user": user})
    terminal.show(word(said, user))
    if said.accepted is None:
        terminal.hint("start it with ", "tailrace up", "")
        terminal.hint("or for this alone: ", f"tailrace wait {said.correlation_id}")
    raise typer.Exit(REFUSED if said.accepted is False else DONE)

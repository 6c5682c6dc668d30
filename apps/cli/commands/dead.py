"""`tailrace dead`: messages nobody could handle, why, and how they are delivered again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from apps.cli.exits import DONE, FAILED, MISUSE, REFUSED, CommandError
from apps.cli.options import As, Json, terminal_of
from apps.cli.session import check_user, open_system
from apps.cli.terminal import counted

if TYPE_CHECKING:
    from apps.cli.terminal import Terminal
    from jobs.bootstrap import System
    from jobs.redrive import Dead, Redriven

app = typer.Typer(no_args_is_help=True, help="Messages nobody could handle, and why: list, show, redrive.")

Where = Annotated[
    str | None,
    typer.Option(
        "--where",
        metavar="SQL",
        help="Those for which this holds, such as \"agent = 'CodeAgent' AND died_at > now() - INTERVAL '1 hour'\".",
        show_default=False,
    ),
]


@app.command("list")
def list_(context: typer.Context, where: Where = None, json: Json = False) -> None:
    """Messages whose receipt says dead, rejected or expired, newest last."""
    from apps.cli.views.dead import dead_table

    terminal = terminal_of(context)
    found = chosen(open_system(), [], where)
    terminal.emit([one.document() for one in found])
    none = "none of them matches" if where else "every message that was handled was handled well"
    terminal.show(dead_table(found) if found else f"[quiet]{none}[/]")


@app.command()
def show(
    context: typer.Context,
    message_id: Annotated[str, typer.Argument(metavar="ID", help="The message, or the beginning of its id.")],
    json: Json = False,
) -> None:
    """One of them, with its content, and what it was redriven from and to."""
    from apps.cli.views.dead import dead_details

    terminal = terminal_of(context)
    found = chosen(open_system(), [message_id], None)
    terminal.emit(found[0].document() | {"content": found[0].message.content})
    terminal.show("", dead_details(found[0]), "")


@app.command()
def redrive(
    context: typer.Context,
    user: As,
    message_ids: Annotated[
        list[str] | None, typer.Argument(metavar="ID...", help="Messages, or the beginnings of their ids.")
    ] = None,
    where: Where = None,
    preview: Annotated[
        bool, typer.Option("--preview", help="Show what would be redriven, and do nothing.", show_default=False)
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.", show_default=False)] = False,
    json: Json = False,
) -> None:
    """Have messages delivered again, as they were and with the rights they had. Shows them and asks first.

    Allowed to whoever began the conversation, and to who may manage agents; each is an audit fact.
    """
    from apps.cli.views.dead import redriven_table
    from jobs.redrive import check
    from jobs.redrive import redrive as deliver_again

    terminal = terminal_of(context)
    system = open_system()
    if not message_ids and where is None:
        raise CommandError("nothing was named to redrive", "name messages, or --where SQL", MISUSE)
    check_user(system, user)
    found = chosen(system, message_ids or [], where)
    if where is not None and not message_ids:
        found = [one for one in found if one.redriven_as is None]
    checked = check(system, user, found)
    allowed = [one for one in checked if one.message_id is not None]
    done = False
    if checked:
        terminal.show(redriven_table(checked))
    else:
        terminal.show("[quiet]nothing to redrive[/]")
    if allowed and not preview and (yes or _agreed(terminal, allowed)):
        deliver_again(system, user, allowed)
        done = True
        terminal.show(f"[good]✓[/] in the log: {len(allowed)} redriven")
        _tell_of_absent(terminal, system, allowed)
    terminal.emit({"redriven": done, "messages": [one.document() for one in checked]})
    raise typer.Exit(_code(checked, allowed, done or preview))


def chosen(system: System, message_ids: Sequence[str], where: str | None) -> list[Dead]:
    """Named ones (each must be one), and of all of them those that match. Raises CommandError."""
    from jobs.redrive import COLUMNS, BadPredicate, dead_messages, matching

    found = dead_messages(system)
    if message_ids:
        found = [_named(found, one) for one in dict.fromkeys(message_ids)]
    if where is None:
        return found
    try:
        return matching(found, where)
    except BadPredicate as error:
        raise CommandError(str(error), f"columns are {', '.join(COLUMNS)}", MISUSE) from error


def _named(found: Sequence[Dead], message_id: str) -> Dead:
    fitting = [one for one in found if one.message.message_id == message_id]
    fitting = fitting or [one for one in found if one.message.message_id.startswith(message_id)]
    if len(fitting) != 1:
        agents = {one.agent for one in fitting}
        several = f"{len(fitting)} dead messages begin with {message_id}"
        if len({one.message.message_id for one in fitting}) == 1:
            several = f"{', '.join(sorted(agents))} gave {message_id} up, each for itself"
            raise CommandError(several, f"--where \"message_id = '{message_id}' AND agent = '…'\"", MISUSE)
        raise CommandError(several if fitting else f"no dead message {message_id}", "tailrace dead list", MISUSE)
    return fitting[0]


def _agreed(terminal: Terminal, allowed: Sequence[Redriven]) -> bool:
    """Only a person at a terminal can be asked. Raises CommandError elsewhere."""
    import sys

    if terminal.json or not sys.stdin.isatty():
        cause = f"{counted(len(allowed), 'message')} would be redriven, and there is nobody at a terminal to confirm it"
        remedy = "the same command with --yes redrives without asking; with --preview it only shows"
        done = {"redriven": False, "messages": [one.document() for one in allowed]}
        raise CommandError(cause, remedy, MISUSE, done=done)
    return typer.confirm(f"Redrive {len(allowed)}?", err=True)


def _tell_of_absent(terminal: Terminal, system: System, allowed: Sequence[Redriven]) -> None:
    from apps.cli.absent import absent, absent_words

    for agent in sorted({one.dead.agent for one in allowed}):
        if absent(system, agent):
            terminal.hint(*absent_words(agent))


def _code(checked: Sequence[Redriven], allowed: Sequence[Redriven], went_on: bool) -> int:
    if not checked:
        return DONE
    if not allowed:
        return FAILED if all(one.rule in ("redrive.again", "redrive.not_given_up") for one in checked) else REFUSED
    return DONE if went_on else FAILED

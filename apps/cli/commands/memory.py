"""`tailrace memory`: what agents share beside conversations."""

from __future__ import annotations

import json as json_module
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from apps.cli.exits import FAILED, MISUSE, CommandError
from apps.cli.options import As, Json, terminal_of
from apps.cli.session import PERSON, check_user, open_system

if TYPE_CHECKING:
    from bus.shared import Asker, SharedMemory

app = typer.Typer(no_args_is_help=True, help="What agents share beside conversations: get, put, delete, list, roles.")

Scope = Annotated[str, typer.Argument(metavar="SCOPE", help="What the values belong to.")]
Key = Annotated[str, typer.Argument(metavar="KEY", help="The value's name in the scope.")]


@app.command()
def get(context: typer.Context, scope: Scope, key: Key, user: As, json: Json = False) -> None:
    """The newest value, as JSON; exit code 1 when there is none."""
    terminal = terminal_of(context)
    with _shared(user) as (memory, asker):
        value = memory.get(scope, key, asker)
    terminal.emit({"scope": scope, "key": key, "value": value})
    if value is None:
        terminal.say(f"{scope} holds no value for {key} now")
        raise typer.Exit(FAILED)
    if not terminal.json:
        terminal.out.print_json(data=value)


@app.command()
def put(
    context: typer.Context,
    scope: Scope,
    key: Key,
    value: Annotated[str, typer.Argument(metavar="JSON", help="The value, such as 7 or '{\"a\": 1}'.")],
    user: As,
    ttl: Annotated[float, typer.Option("--ttl", metavar="S", min=0.001, max=3e9, help="Seconds it is kept.")] = 86400.0,
    json: Json = False,
) -> None:
    """Keep a value, for 24 hours unless said otherwise."""
    terminal = terminal_of(context)
    try:
        said = json_module.loads(value)
    except ValueError as error:
        raise CommandError(f"the value is no JSON: {error}", "words are quoted twice: '\"open\"'", MISUSE) from error
    with _shared(user) as (memory, asker):
        memory.put(scope, key, said, asker, kept=timedelta(seconds=ttl))
    terminal.emit({"scope": scope, "key": key, "value": said})
    terminal.show("[good]✓[/] kept")


@app.command()
def delete(context: typer.Context, scope: Scope, key: Key, user: As, json: Json = False) -> None:
    """From here on there is no value; what was stays in the table."""
    terminal = terminal_of(context)
    with _shared(user) as (memory, asker):
        memory.delete(scope, key, asker)
    terminal.emit({"scope": scope, "key": key, "value": None})
    terminal.show("[good]✓[/] deleted")


@app.command("list")
def list_(context: typer.Context, scope: Scope, user: As, json: Json = False) -> None:
    """What a scope holds now."""
    from apps.cli.views.rows import plain_table
    from apps.cli.views.safe import safe

    terminal = terminal_of(context)
    with _shared(user) as (memory, asker):
        found = {key: memory.get(scope, key, asker) for key in memory.keys(scope, asker)}
    terminal.emit([{"key": key, "value": value} for key, value in found.items()])
    if not found:
        terminal.show("[quiet]nothing is kept there now[/]")
        return
    table = plain_table("key", "value")
    for key, value in found.items():
        table.add_row(safe(key), safe(json_module.dumps(value, ensure_ascii=False)))
    terminal.show(table)


@app.command()
def roles(
    context: typer.Context,
    scope: Scope,
    user: As,
    read: Annotated[str, typer.Option("--read", metavar="ROLES", help="Comma-separated; * is everybody.")] = "*",
    write: Annotated[str, typer.Option("--write", metavar="ROLES", help="Comma-separated; who writes may read.")] = "*",
    json: Json = False,
) -> None:
    """Say which roles may read and write a scope; for who may manage agents."""
    terminal = terminal_of(context)
    readers, writers = ([role.strip() for role in named.split(",") if role.strip()] for named in (read, write))
    with _shared(user) as (memory, asker):
        memory.define(scope, readers, writers, asker)
    terminal.emit({"scope": scope, "readers": readers, "writers": writers})
    terminal.show("[good]✓[/] said")


@contextmanager
def _shared(user: str) -> Iterator[tuple[SharedMemory, Asker]]:
    from bus.shared import Asker

    system = open_system()
    check_user(system, user)
    try:
        yield system.shared_memory([PERSON + user]), Asker(PERSON + user, user)
    except ValueError as error:
        raise CommandError(str(error), "tailrace memory --help", MISUSE) from error

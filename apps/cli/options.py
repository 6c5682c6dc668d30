"""Options that many commands share, said once."""

from __future__ import annotations

from typing import Annotated, cast

import typer

from apps.cli.terminal import Terminal


def terminal_of(context: typer.Context) -> Terminal:
    """The terminal of this invocation, made when first asked for."""
    root = context.find_root()
    if root.obj is None:
        root.obj = Terminal()
    return cast(Terminal, root.obj)


def _json(context: typer.Context, value: bool) -> bool:
    if value:
        terminal_of(context).json = True
    return value


ENGINES = ("streaming", "tail")


def _engine(value: str | None) -> str | None:
    if value is not None and value not in ENGINES:
        raise typer.BadParameter(f"{value!r} is none of {', '.join(ENGINES)}")
    return value


# Eager, so that an error in another option is reported in the form that was asked for.
Json = Annotated[
    bool,
    typer.Option(
        "--json", help="One JSON document on standard output.", callback=_json, is_eager=True, show_default=False
    ),
]
As = Annotated[
    str,
    typer.Option("--as", metavar="USER", help="Who speaks; the private key has to be readable.", show_default=False),
]
Engine = Annotated[
    str | None,
    typer.Option("--engine", metavar="streaming|tail", help="What brings new rows to the hosts.", callback=_engine),
]
NoStart = Annotated[
    bool, typer.Option("--no-start", help="Start no host; wait for those that run.", show_default=False)
]
# A message counts at the time it was handled: its receipt's.
Since = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="VERSION|TIME",
        help="Handled at or after: a version of the log, 2h ago as `2h`, or an ISO time.",
        show_default=False,
    ),
]
Until = Annotated[
    str | None,
    typer.Option("--to", metavar="VERSION|TIME", help="Handled at or before; said likewise.", show_default=False),
]

"""`tailrace knowledge`: what questions are answered from, and adding to it under governance."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from apps.cli.exits import MISUSE, CommandError
from apps.cli.following import TIMEOUT_S, Following, NoWaitApproval, Timeout
from apps.cli.options import As, Engine, Json, NoStart, terminal_of
from apps.cli.session import check_user, open_system, speaking_as

if TYPE_CHECKING:
    from apps.cli.asking import Follower
    from apps.cli.outcome import Outcome
    from bus.client import TailraceClient
    from schemas.payloads import AddDocument

app = typer.Typer(no_args_is_help=True, help="What questions are answered from: list, add.")
KEEPER = "RAGAgent"


@app.command("list")
def list_(context: typer.Context, json: Json = False) -> None:
    """The documents, with who may read them."""
    from apps.cli.views.knowledge import document_table

    terminal = terminal_of(context)
    found = open_system().knowledge_library().documents()
    shown = ("document", "title", "status", "roles", "sha256", "timestamp")
    terminal.emit([{name: row[name] for name in shown} for row in found])
    terminal.show(document_table(found) if found else "[quiet]there is no document yet[/]")


@app.command()
def add(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Markdown with front matter.", show_default=False)],
    user: As,
    name: Annotated[
        str | None, typer.Option("--name", help="What it is called; the file's name otherwise.", show_default=False)
    ] = None,
    timeout: Timeout = TIMEOUT_S,
    no_wait_approval: NoWaitApproval = False,
    no_start: NoStart = False,
    engine: Engine = None,
    json: Json = False,
) -> None:
    """Ask for a document to be added, or for a new version of it. Another person approves the very text."""
    terminal = terminal_of(context)
    system = open_system()
    check_user(system, user)
    asked = document(file, name)
    with speaking_as(system, user) as client:
        following = Following(timeout, no_start, no_wait_approval, engine)
        following.run(terminal, system, "asking", lambda follower: _follow(client, follower, asked))


def document(file: Path, name: str | None) -> AddDocument:
    """Raises CommandError (misuse) for what cannot be sent."""
    from pydantic import ValidationError

    from schemas.payloads import AddDocument
    from workers.adapters.knowledge.documents import BadDocument, parse

    called = name or file.stem
    try:
        text = file.read_text(encoding="utf-8")
        parse(called, text)
        return AddDocument(name=called, text=text)
    except (OSError, UnicodeDecodeError, BadDocument) as error:
        raise CommandError(f"{file} is no document: {error}", "correct it and add it again", MISUSE) from error
    except ValidationError as error:
        raise CommandError(f"{file}: {error.errors()[0]['msg']}", "divide it into several documents", MISUSE) from error


def _follow(client: TailraceClient, follower: Follower, asked: AddDocument) -> Outcome:
    with client.listen() as arrivals:
        follower.correlation_id = client.send(KEEPER, asked).correlation_id
        return follower.follow(arrivals, follower.correlation_id, [])

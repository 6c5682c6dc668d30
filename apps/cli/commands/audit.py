"""`tailrace audit`: whether what the tables say can be trusted, and what makes that provable to others."""

from __future__ import annotations

from typing import Annotated

import typer

from apps.cli.exits import DONE, FAILED, MISUSE, CommandError
from apps.cli.options import Json, terminal_of
from apps.cli.session import open_system

app = typer.Typer(
    no_args_is_help=True, help="Whether what the tables say can be trusted: verify, and prove: anchor, export."
)


@app.callback()
def group() -> None:
    """Whether what the tables say can be trusted."""


@app.command()
def verify(
    context: typer.Context,
    anchor: Annotated[
        list[str] | None,
        typer.Option("--anchor", metavar="FILE|URL", help="Anchors kept elsewhere; may be said several times."),
    ] = None,
    json: Json = False,
) -> None:
    """Re-compute signatures, chains, grants, projections and anchors from the tables and the public keys alone.

    Whoever holds the files and the private keys can write another history: only an anchor kept where they cannot write
    (--anchor) tells it from the true one.
    """
    from apps.cli.views.audit import audit_report
    from jobs.audit import verify as verified
    from jobs.audit.anchors import Source
    from jobs.audit.places import place_of

    terminal = terminal_of(context)
    system = open_system()
    sources = []
    for text in anchor or system.settings.anchor_places:
        lines = place_of(text).lines()
        if not lines:
            raise CommandError(f"there are no anchors at {text}", f"tailrace audit anchor --to {text}", MISUSE)
        sources.append(Source(text, lines))
    with terminal.working("verifying the audit trail"):
        report = verified(system, sources)
    terminal.show(audit_report(report))
    terminal.emit(report.document())
    if report.ok and not sources:
        terminal.hint(
            "no anchor kept elsewhere was looked at, which a holder of files and keys could not forge: ", "--anchor"
        )
    raise typer.Exit(DONE if report.ok else FAILED)


@app.command()
def anchor(
    context: typer.Context,
    to: Annotated[
        list[str] | None,
        typer.Option("--to", metavar="FILE|URL", help="Keep it there too: a file, http(s)://, s3://, az://."),
    ] = None,
    json: Json = False,
) -> None:
    """Sign what the log is now: how many rows, their Merkle root, every writer's last fact. Needs upkeep's key.

    It proves what the log was then to everybody who has the anchor, if it is kept where nobody who holds the log's files
    and keys can write: on another machine, in a store with object lock, with somebody else.
    """
    from apps.cli.views.audit import anchored_view
    from jobs.audit.anchoring import anchor_log

    terminal = terminal_of(context)
    system = open_system()
    places = to or system.settings.anchor_places
    with terminal.working("anchoring the log"):
        done = anchor_log(system, places)
    terminal.show(anchored_view(done))
    terminal.emit(
        {
            "anchor": done.anchor.model_dump(mode="json"),
            "digest": done.anchor.digest,
            "new": done.is_new,
            "sent": done.sent,
        }
    )
    if not places:
        terminal.hint("it is in the log only, where a holder of files and keys can rewrite it: ", "--to FILE|URL")

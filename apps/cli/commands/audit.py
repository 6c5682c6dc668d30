"""`tailrace audit`: whether what the tables say can be trusted, and what makes that provable to others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from apps.cli.exits import DONE, FAILED, MISUSE, CommandError
from apps.cli.options import Json, terminal_of
from apps.cli.session import open_system

if TYPE_CHECKING:
    from jobs.audit.anchors import Source

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

    terminal = terminal_of(context)
    system = open_system()
    sources = _kept(anchor or system.settings.anchor_places)
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


@app.command()
def export(
    context: typer.Context,
    to: Annotated[
        Path, typer.Option("--to", metavar="DIR", help="A folder that does not exist yet.", show_default=False)
    ],
    first: Annotated[int, typer.Option("--from", min=1, metavar="VERSION", help="The first version of the log.")] = 1,
    last: Annotated[
        int | None, typer.Option("--to-version", min=1, metavar="VERSION", help="The last; without it, the newest.")
    ] = None,
    anchor: Annotated[
        list[str] | None,
        typer.Option(
            "--anchor", metavar="FILE|URL", help="Anchors kept elsewhere, to go with it; may be said several times."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Write what an auditor needs into one folder: rows, views, public keys, anchors, a verifier, and a page to read.

    It asks for nothing of Tailrace, and for no network: `python verifier.py DIR` checks it, report.html is read in a browser.
    """
    from apps.cli.views.audit import audit_report, exported_view
    from jobs.audit.export import export as exported

    terminal = terminal_of(context)
    system = open_system()
    with terminal.working("exporting the audit trail"):
        done = exported(system, to, first, last, _kept(anchor or system.settings.anchor_places))
    terminal.show(exported_view(done), audit_report(done.report))
    terminal.emit(
        {
            "folder": str(done.folder),
            "from_version": done.first,
            "to_version": done.last,
            "rows": done.rows,
            "anchors": done.anchors,
            "verification": done.report.document(),
        }
    )
    if not done.anchors:
        terminal.hint("no anchor speaks of these versions; one before the next export: ", "tailrace audit anchor")
    raise typer.Exit(DONE if done.report.ok else FAILED)


def _kept(places: list[str]) -> list[Source]:
    """The anchors of these places. Raises CommandError where there are none: a misspelt place would prove nothing."""
    from jobs.audit.anchors import Source
    from jobs.audit.places import place_of

    sources = []
    for text in places:
        lines = place_of(text).lines()
        if not lines:
            raise CommandError(f"there are no anchors at {text}", f"tailrace audit anchor --to {text}", MISUSE)
        sources.append(Source(text, lines))
    return sources

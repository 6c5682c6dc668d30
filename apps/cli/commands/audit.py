"""`tailrace audit`: whether what the tables say can be trusted."""

from __future__ import annotations

import typer

from apps.cli.exits import DONE, FAILED
from apps.cli.options import Json, terminal_of
from apps.cli.session import open_system

app = typer.Typer(no_args_is_help=True, help="Whether what the tables say can be trusted: verify.")


@app.callback()
def group() -> None:
    """Whether what the tables say can be trusted."""


@app.command()
def verify(context: typer.Context, json: Json = False) -> None:
    """Re-compute signatures, hash chains, grants and projections from the tables and the public keys alone."""
    from apps.cli.views.audit import audit_report
    from jobs.audit import verify as verified

    terminal = terminal_of(context)
    system = open_system()
    with terminal.working("verifying the audit trail"):
        report = verified(system)
    terminal.show(audit_report(report))
    terminal.emit(
        {"ok": report.ok, "checked": dict(report.checked), "problems": [vars(one) for one in report.problems]}
    )
    raise typer.Exit(DONE if report.ok else FAILED)

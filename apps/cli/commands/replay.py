"""`tailrace replay`: recorded messages through today's code, and what would come out differently."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from apps.cli import history
from apps.cli.exits import DONE, FAILED, MISUSE, CommandError
from apps.cli.options import Json, Since, Until, terminal_of
from apps.cli.session import open_system

#: Option -> the file of config/ that it replaces.
_FILES = {
    "semantic": "semantic/tpch.yaml",
    "plans": "mas_config.yaml",
    "roles": "rbac_roles.yaml",
    "policy": "policies/default.yaml",
}
_File = Path | None


def replay(
    context: typer.Context,
    since: Since = None,
    until: Until = None,
    agent: Annotated[str | None, typer.Option("--agent", metavar="NAME", help="Only what this agent handled.")] = None,
    correlation_id: Annotated[
        str | None,
        typer.Option(
            "--correlation-id", metavar="ID", help="Only this conversation; a beginning of its id, or `last`."
        ),
    ] = None,
    worker: Annotated[
        list[str] | None,
        typer.Option(
            "--worker", metavar="MODULE:CLASS", help="Through this worker instead of today's. May be repeated."
        ),
    ] = None,
    semantic: Annotated[_File, typer.Option("--semantic", metavar="FILE", help="Another semantic layer.")] = None,
    plans: Annotated[_File, typer.Option("--plans", metavar="FILE", help="Other plans (mas_config.yaml).")] = None,
    roles: Annotated[_File, typer.Option("--roles", metavar="FILE", help="Other roles (rbac_roles.yaml).")] = None,
    policy: Annotated[
        _File, typer.Option("--policy", metavar="FILE", help="Another policy (policies/default.yaml).")
    ] = None,
    ignore: Annotated[
        list[str] | None,
        typer.Option(
            "--ignore", metavar="FIELD", help="A field that may differ, such as `*.explanation`. May be repeated."
        ),
    ] = None,
    network: Annotated[
        bool, typer.Option("--network", help="Workers may use the network, for a model say.", show_default=False)
    ] = False,
    limit: Annotated[int, typer.Option("--limit", min=0, help="Differences to show.")] = 10,
    fail_on_difference: Annotated[
        bool, typer.Option("--fail-on-difference", help="Exit with 1 when something differs.", show_default=False)
    ] = False,
    json: Json = False,
) -> None:
    """Run recorded messages again, without effects, and say what would come out differently today.

    Nothing is sent and nothing is executed: what comes out goes into the table `replays`. Days in an archive are read there.
    Exit code 0: everything ran;
    1: something that was handled then fails now (or, with --fail-on-difference, differs).
    """
    from apps.cli.views.replay import replay_report, replaying
    from jobs.replay.confined import replay_confined
    from jobs.replay.request import ReplayRequest

    terminal = terminal_of(context)
    system = open_system()
    if system.unity_schema is not None:
        cause = f"what replays reads the log itself, cut off from everything; {system.home.tables} is reached through Spark alone"
        raise CommandError(cause, "tailrace policy test decides recorded requests again, there too", MISUSE)
    chosen = {"semantic": semantic, "plans": plans, "roles": roles, "policy": policy}
    request = ReplayRequest(
        since=since,
        until=until,
        agent=agent,
        correlation_id=history.resolve(system, correlation_id) if correlation_id is not None else None,
        workers=worker or (),
        files={_FILES[option]: path.absolute() for option, path in chosen.items() if path is not None},
        ignore=ignore or (),
        network=network,
    )
    with replaying(terminal) as progress:
        report = replay_confined(system, request, progress)
    terminal.show("", replay_report(report, limit), "")
    terminal.emit(report.document())
    verdicts = report.verdicts
    bad = verdicts["failed"] + (verdicts["different"] if fail_on_difference else 0)
    raise typer.Exit(FAILED if bad else DONE)

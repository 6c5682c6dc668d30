"""`tailrace demo`: the governed pipeline end to end, over the real bus, with sample data. What `make run` shows."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from apps.cli.exits import DONE, FAILED
from apps.cli.following import progress
from apps.cli.options import Engine, Json, terminal_of
from apps.cli.session import open_system, warn_of_shared_keys
from apps.cli.terminal import Terminal, ago

if TYPE_CHECKING:
    from apps.cli.hosts import Hosts
    from apps.cli.outcome import Outcome
    from apps.cli.tour import Request, Tour
    from jobs.audit import AuditReport
    from jobs.bootstrap import System
    from workers.governance.approvals import Approval

#: Seconds until hosts have to be ready, and a request answered; with a person in it, time to think.
START_S, REQUEST_S, PERSON_S = 240.0, 300.0, 3600.0


def demo(
    context: typer.Context,
    interactive: Annotated[
        bool, typer.Option("--interactive", help="Wait for a person at the approval.", show_default=False)
    ] = False,
    engine: Engine = None,
    json: Json = False,
) -> None:
    """Five requests of people with different roles, each as a timed trace; then the audit trail is verified."""
    from apps.cli.hosts import Hosts
    from apps.cli.tour import REQUESTS, Tour
    from apps.cli.views import tour as views

    began = time.monotonic()
    terminal = terminal_of(context)
    system = open_system(home_needed=False, engine=engine)
    _prepare(system, terminal)
    warn_of_shared_keys(system, terminal)
    taken: list[tuple[Request, Outcome]] = []
    with Hosts(system, system.settings.engine) as hosts:
        _start(system, hosts, terminal)
        tour = Tour(system, hosts, PERSON_S if interactive else REQUEST_S)

        def approval(asked: Approval) -> None:
            _approval(terminal, tour, asked, interactive)

        for place, request in enumerate(REQUESTS, 1):
            terminal.show(views.heading(place, request, system.roles.role_of(request.user)))
            with terminal.working("asking") as change:
                outcome = tour.take(request, approval, lambda so_far, change=change: change(progress(so_far)))
            taken.append((request, outcome))
            terminal.show(views.conversation(request, outcome))
        report = _verify(system, terminal)
        with terminal.working("letting the hosts finish"):
            hosts.stop()
    elapsed = time.monotonic() - began
    terminal.show(views.summary(taken, system.home, elapsed))
    terminal.show(views.next_steps(system.home), soft_wrap=True)
    good = report.ok and all(outcome.status == request.expected for request, outcome in taken)
    terminal.emit(
        {
            "ok": good,
            "engine": system.settings.engine,
            "home": str(system.home.root),
            "requests": [
                {"as": r.user, "question": r.question, "expected": r.expected, **outcome.document()}
                for r, outcome in taken
            ],
            "audit": {"ok": report.ok, "checked": dict(report.checked), "problems": [vars(p) for p in report.problems]},
            "elapsed_s": round(elapsed, 1),
        }
    )
    raise typer.Exit(DONE if good else FAILED)


def _prepare(system: System, terminal: Terminal) -> None:
    from jobs.init_home import initialise

    began = time.monotonic()
    there = system.home.exists
    with terminal.working(f"preparing {system.home.root}") as change:
        initialise(system, change)
    if not there:
        terminal.show(
            f"[good]✓[/] keys, tables, sample data and knowledge [quiet]in {ago(time.monotonic() - began)}[/]"
        )


def _start(system: System, hosts: Hosts, terminal: Terminal) -> None:
    """All are ready before the first question: what a trace shows is the bus, not a machine that is starting."""
    from jobs.agents import AGENTS

    missing = hosts.missing()
    if not missing:
        terminal.show("[good]✓[/] all hosts run already")
        return
    began = time.monotonic()
    engine = {"streaming": "Structured Streaming", "tail": "the tail"}[system.settings.engine]
    with terminal.working(f"starting {len(missing)} hosts on {engine}") as change:
        hosts.start(missing)
        names = [agent.name for agent in AGENTS]
        hosts.wait_ready(
            names, START_S, lambda waiting: change(f"starting {len(missing)} hosts on {engine}: {waiting}")
        )
    terminal.show(f"[good]✓[/] hosts on {engine} [quiet]in {ago(time.monotonic() - began)}[/]")


def _approval(terminal: Terminal, tour: Tour, approval: Approval, interactive: bool) -> None:
    from apps.cli.tour import APPROVER
    from apps.cli.views.approval import approval_asked, approve_command
    from apps.cli.views.decision import decision

    if not interactive:
        terminal.show("", f"[quiet]$[/] [command]{approve_command(approval.id)}[/]")
        terminal.show(decision(tour.approve(approval), APPROVER))
        return
    terminal.note(approval_asked(approval))
    if not sys.stdin.isatty():
        return
    with terminal.paused():
        here = typer.confirm(
            f"approve it here, as {APPROVER}? (no: somebody decides in another terminal)", default=False, err=True
        )
    if here:
        terminal.show(decision(tour.approve(approval), APPROVER))


def _verify(system: System, terminal: Terminal) -> AuditReport:
    from apps.cli.views.audit import audit_report
    from jobs.audit import verify

    with terminal.working("verifying the audit trail"):
        report = verify(system)
    terminal.show("", "[quiet]$[/] [command]tailrace audit verify[/]", audit_report(report))
    return report

"""`tailrace ask`: a question in plain language, answered by whichever agents it needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from apps.cli.exits import CODES, DONE
from apps.cli.options import As, Engine, Json, NoStart, terminal_of
from apps.cli.session import open_system, speaking_as, warn_of_shared_keys
from apps.cli.terminal import Terminal

if TYPE_CHECKING:
    from apps.cli.hosts import Hosts
    from apps.cli.outcome import Outcome
    from workers.governance.approvals import Approval

Timeout = Annotated[
    float, typer.Option("--timeout", min=0, metavar="S", help="Seconds to wait, for agents and for people.")
]
NoWaitApproval = Annotated[
    bool, typer.Option("--no-wait-approval", help="Return once another person has to approve.", show_default=False)
]


def ask(
    context: typer.Context,
    question: Annotated[str, typer.Argument(help="What you want to know or have done.", show_default=False)],
    user: As,
    timeout: Timeout = 300.0,
    no_start: NoStart = False,
    no_wait_approval: NoWaitApproval = False,
    engine: Engine = None,
    json: Json = False,
) -> None:
    """Ask the agents. Hosts that are missing are started for this one question, by default on the tail engine."""
    from apps.cli.asking import Follower
    from apps.cli.hosts import Hosts

    terminal = terminal_of(context)
    system = open_system()
    with speaking_as(system, user) as client, Hosts(system, engine or "tail", may_start=not no_start) as hosts:
        warn_of_shared_keys(system, terminal)
        with terminal.working("asking") as change:
            hosts.say = change
            follower = Follower(
                timeout,
                hosts,
                on_rows=lambda outcome: change(progress(outcome)),
                on_approval=lambda approval: show_approval(terminal, approval),
                wait_approval=not no_wait_approval,
            )
            try:
                outcome = follower.ask(client, question)
            except KeyboardInterrupt:
                if follower.correlation_id:
                    terminal.hint("the request stays in the log: ", f"tailrace wait {follower.correlation_id}")
                raise
        finish(terminal, outcome, hosts, waited=not no_wait_approval)


def progress(outcome: Outcome) -> str:
    """What is being waited for, in a few words."""
    if outcome.approval is not None:
        return "waiting for another person's approval"
    waiting = outcome.timeline.open()
    if waiting:
        message, agent = waiting[-1]
        return f"{agent}: {message.kind}"
    return "waiting"


def show_approval(terminal: Terminal, approval: Approval) -> None:
    from apps.cli.views.approval import approval_asked

    terminal.note(approval_asked(approval))


def finish(terminal: Terminal, outcome: Outcome, hosts: Hosts, waited: bool = True) -> None:
    """Show what came of it, stop what was started, and leave with the exit code that says so."""
    from apps.cli.views.answer import answer

    terminal.show("", answer(outcome), "")
    terminal.emit(outcome.document())
    if nobody := hosts.nobody(outcome.timeline):
        terminal.hint(
            f"{', '.join(nobody)} runs nowhere; the message waits in the log. Start it with ", "tailrace up", "."
        )
    if outcome.final is None and outcome.status != "failed":
        terminal.hint("the conversation goes on: ", f"tailrace wait {outcome.correlation_id}")
    else:
        terminal.hint("", f"tailrace trace {outcome.correlation_id}")
    code = CODES[outcome.status]
    if outcome.status == "pending_approval" and not waited:
        if outcome.approval is not None and not terminal.json:
            show_approval(terminal, outcome.approval)
        code = DONE
    if hosts.started:
        with terminal.working("stopping what was started"):
            hosts.stop()
    raise typer.Exit(code)

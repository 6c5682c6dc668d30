"""`tailrace wait`: takes up a conversation where the log says it is, and waits for its answer."""

from __future__ import annotations

from typing import Annotated

import typer

from apps.cli import history
from apps.cli.commands.ask import NoWaitApproval, Timeout, finish, progress, show_approval
from apps.cli.options import Engine, Json, NoStart, terminal_of
from apps.cli.session import checker, open_system


def wait(
    context: typer.Context,
    correlation_id: Annotated[str, typer.Argument(help="The conversation, or the beginning of its id, or `last`.")],
    timeout: Timeout = 300.0,
    no_start: NoStart = False,
    no_wait_approval: NoWaitApproval = False,
    engine: Engine = None,
    json: Json = False,
) -> None:
    """Wait for the answer of a conversation; hosts it needs are started for it, unless told otherwise."""
    from apps.cli.asking import Follower
    from apps.cli.hosts import Hosts
    from bus.client import Arrivals
    from bus.log.bus import LogBus
    from schemas.tables import AGENT_MESSAGES

    terminal = terminal_of(context)
    system = open_system()
    found = history.resolve(system, correlation_id)
    accept = checker(system)
    # The whole history: whoever knows only the newest rows cannot tell which of the next ones count.
    bus = LogBus(system.log(AGENT_MESSAGES.name), accept=accept)
    try:
        with Arrivals(bus, accept) as arrivals, Hosts(system, engine or "tail", may_start=not no_start) as hosts:
            with terminal.working("waiting") as change:
                hosts.say = change
                follower = Follower(
                    timeout,
                    hosts,
                    on_rows=lambda outcome: change(progress(outcome)),
                    on_approval=lambda approval: show_approval(terminal, approval),
                    wait_approval=not no_wait_approval,
                )
                known = [row for row in history.conversation(system, found) if accept(row)]
                outcome = follower.follow(arrivals, found, known)
            finish(terminal, outcome, hosts, waited=not no_wait_approval)
    finally:
        bus.close()

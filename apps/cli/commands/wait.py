"""`tailrace wait`: takes up a conversation where the log says it is, and waits for its answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from apps.cli import history
from apps.cli.following import TIMEOUT_S, Following, NoWaitApproval, Timeout
from apps.cli.options import Engine, Json, NoStart, terminal_of
from apps.cli.session import checker, open_system

if TYPE_CHECKING:
    from apps.cli.asking import Follower
    from apps.cli.outcome import Outcome


def wait(
    context: typer.Context,
    correlation_id: Annotated[str, typer.Argument(help="The conversation, or the beginning of its id, or `last`.")],
    timeout: Timeout = TIMEOUT_S,
    no_start: NoStart = False,
    no_wait_approval: NoWaitApproval = False,
    engine: Engine = None,
    json: Json = False,
) -> None:
    """Wait for the answer of a conversation; hosts it needs are started for it, unless told otherwise."""
    from bus.client import Arrivals

    terminal = terminal_of(context)
    system = open_system()
    found = history.resolve(system, correlation_id)
    accept = checker(system)
    # The whole history: whoever knows only the newest rows cannot tell which of the next ones count.
    bus = system.follower(accept)
    try:
        with Arrivals(bus, accept) as arrivals:

            def follow(follower: Follower) -> Outcome:
                known = [row for row in history.conversation(system, found) if accept(row)]
                return follower.follow(arrivals, found, known)

            Following(timeout, no_start, no_wait_approval, engine).run(terminal, system, "waiting", follow)
    finally:
        bus.close()

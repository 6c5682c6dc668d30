"""`tailrace ask`: a question in plain language, answered by whichever agents it needs."""

from __future__ import annotations

from typing import Annotated

import typer

from apps.cli.following import TIMEOUT_S, Following, NoWaitApproval, Timeout
from apps.cli.options import As, Engine, Json, NoStart, terminal_of
from apps.cli.session import open_system, speaking_as, warn_of_shared_keys


def ask(
    context: typer.Context,
    question: Annotated[str, typer.Argument(help="What you want to know or have done.", show_default=False)],
    user: As,
    timeout: Timeout = TIMEOUT_S,
    no_start: NoStart = False,
    no_wait_approval: NoWaitApproval = False,
    engine: Engine = None,
    json: Json = False,
) -> None:
    """Ask the agents. Hosts that are missing are started for this one question, by default on the tail engine."""
    terminal = terminal_of(context)
    system = open_system()
    with speaking_as(system, user) as client:
        warn_of_shared_keys(system, terminal)
        following = Following(timeout, no_start, no_wait_approval, engine)
        following.run(terminal, system, "asking", lambda follower: follower.ask(client, question))

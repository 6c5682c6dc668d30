"""`tailrace up`: all hosts of this home, until Ctrl-C."""

from __future__ import annotations

import signal
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from apps.cli.exits import MISUSE, CommandError
from apps.cli.options import Engine, Json, terminal_of
from apps.cli.session import open_system, warn_of_shared_keys

if TYPE_CHECKING:
    from jobs.bootstrap import System

#: Seconds between two looks at the hosts.
LOOK_S = 0.5


#: More than anybody has processors for.
MOST = 64


def up(
    context: typer.Context,
    engine: Engine = None,
    instances: Annotated[
        list[str] | None,
        typer.Option(
            "--instances",
            metavar="AGENT=N",
            help="So many instances of this agent; may be repeated.",
            show_default=False,
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Start the hosts that are missing and keep watch; Ctrl-C or SIGTERM lets them finish and stops them."""
    from apps.cli.watching import watch
    from jobs.processes import Processes

    terminal = terminal_of(context)
    wanted = counts(instances or ())
    system: System = open_system(engine=engine)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    warn_of_shared_keys(system, terminal)
    with Processes(system) as processes:
        missing = processes.missing_hosts()
        if not missing and not processes.missing_instances(wanted):
            terminal.say("everything runs already: tailrace agents")
        else:
            processes.start(missing, system.settings.engine, instances=wanted)
            processes.start_upkeep(system.settings.engine)
            watch(processes, terminal, stop, LOOK_S)
        started = [child.host for child in processes.children if child.agents]
        if started:
            with terminal.working("letting the hosts finish what is under way"):
                processes.stop()
            terminal.say("stopped")
    terminal.emit({"engine": system.settings.engine, "hosts": started})


def counts(instances: Sequence[str]) -> dict[str, int]:
    """How many instances of which agent, by its name on the bus, from `rag=2`."""
    from jobs.agents import AGENTS, UnknownAgent, find

    several = ", ".join(agent.short for agent in AGENTS if not agent.single)
    wanted: dict[str, int] = {}
    for said in instances:
        name, _, count = said.partition("=")
        if not count.isdecimal() or not 1 <= int(count) <= MOST:
            raise CommandError(
                f"--instances {said}: expected AGENT=N with N from 1 to {MOST}", "--instances rag=2", MISUSE
            )
        try:
            agent = find(name)
        except UnknownAgent as error:
            raise CommandError(f"--instances {said}: {error}", f"one of {several}", MISUSE) from error
        if agent not in AGENTS:
            reason = f"--instances {said}: an agent of your own runs as often as you start it"
            raise CommandError(reason, f"tailrace worker {name}", MISUSE)
        if agent.single and int(count) > 1:
            reason = f"--instances {said}: of {agent.name} a machine runs one at a time"
            raise CommandError(reason, f"of {several} there may be more", MISUSE)
        wanted[agent.name] = int(count)
    return wanted

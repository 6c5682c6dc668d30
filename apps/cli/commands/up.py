"""`tailrace up`: all hosts of this home, until Ctrl-C."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING

import typer

from apps.cli.options import Engine, Json, terminal_of
from apps.cli.session import open_system, warn_of_shared_keys

if TYPE_CHECKING:
    from jobs.bootstrap import System

#: Seconds between two looks at the hosts.
LOOK_S = 0.5


def up(context: typer.Context, engine: Engine = None, json: Json = False) -> None:
    """Start the hosts that are missing and keep watch; Ctrl-C or SIGTERM lets them finish and stops them."""
    from apps.cli.watching import watch
    from jobs.processes import Processes

    terminal = terminal_of(context)
    system: System = open_system(engine=engine)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    warn_of_shared_keys(system, terminal)
    with Processes(system) as processes:
        missing = processes.missing_hosts()
        if not missing:
            terminal.say("everything runs already: tailrace agents")
        else:
            processes.start(missing, system.settings.engine)
            watch(processes, terminal, stop, LOOK_S)
        started = [child.host for child in processes.children]
        if started:
            with terminal.working("letting the hosts finish what is under way"):
                processes.stop()
            terminal.say("stopped")
    terminal.emit({"engine": system.settings.engine, "hosts": started})

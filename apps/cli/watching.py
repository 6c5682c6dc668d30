"""Keeps watch over started hosts: a live table on a terminal, a line a change elsewhere, a failure when one ends."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from apps.cli.terminal import Terminal
from apps.cli.views.hosts import host_table

if TYPE_CHECKING:
    from jobs.processes import Processes


def watch(processes: Processes, terminal: Terminal, stop: threading.Event, look_s: float) -> None:
    """Until `stop`. Raises HostFailed when a host ended by itself."""
    if terminal.err.is_terminal:
        _live(processes, terminal, stop, look_s)
    else:
        _lines(processes, terminal, stop, look_s)


def _live(processes: Processes, terminal: Terminal, stop: threading.Event, look_s: float) -> None:
    from rich.live import Live

    began = time.monotonic()
    with Live(console=terminal.err, refresh_per_second=4, transient=True) as live:
        while not stop.is_set():
            live.update(host_table(processes.everyone(), time.monotonic() - began))
            check(processes)
            stop.wait(look_s)


def _lines(processes: Processes, terminal: Terminal, stop: threading.Event, look_s: float) -> None:
    said: dict[tuple[str, int], str] = {}
    complete = False
    while not stop.is_set():
        running = processes.everyone()
        for one in running:
            state = "ready" if one.ready else "starting"
            if said.get((one.agent, one.pid)) != state:
                said[one.agent, one.pid] = state
                terminal.say(f"{one.agent} {state} (process {one.pid}, {one.engine})")
        if not complete and not processes.missing_hosts() and all(one.ready for one in running):
            complete = True
            terminal.say("all agents are ready")
        check(processes)
        stop.wait(look_s)


def check(processes: Processes) -> None:
    """A host that ended by itself is said with the last lines of its log."""
    if any(child.process.poll() is not None for child in processes.children):
        processes.wait_ready(0.0)

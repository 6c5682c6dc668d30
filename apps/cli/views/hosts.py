"""The live table of `tailrace up`."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from apps.cli.terminal import ago
from apps.cli.views.names import who
from apps.cli.views.rows import plain_table
from jobs.agents import AGENTS
from jobs.liveness import Running


def host_table(running: Sequence[Running], elapsed_s: float) -> RenderableType:
    """A line for each instance, the agents in their usual order."""
    table = plain_table("agent", "state", "engine", "process", "up", right=("process", "up"))
    for agent in AGENTS:
        there = [one for one in running if one.agent == agent.name]
        if not there:
            table.add_row(who(agent.name), Text("starting", style="warn"), "", "", "")
        for one in there:
            state = Text("ready", style="good") if one.ready else Text("warming up", style="warn")
            table.add_row(who(agent.name), state, one.engine, str(one.pid), ago(time.time() - one.since))
    missing = {agent.name for agent in AGENTS} - {one.agent for one in running if one.ready}
    line = f"{len(AGENTS) - len(missing)} of {len(AGENTS)} agents are ready" if missing else "all agents are ready"
    return Group(table, Text(f" {line} · {ago(elapsed_s)} · Ctrl-C stops them", style="quiet"))

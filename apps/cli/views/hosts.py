"""The live table of `tailrace up`."""

from __future__ import annotations

import time
from collections.abc import Mapping

from rich.console import Group, RenderableType
from rich.text import Text

from apps.cli.terminal import ago
from apps.cli.views.names import who
from apps.cli.views.rows import plain_table
from jobs.agents import AGENTS
from jobs.liveness import Running


def host_table(running: Mapping[str, Running], elapsed_s: float) -> RenderableType:
    table = plain_table("agent", "state", "engine", "process", "up", right=("process", "up"))
    for agent in AGENTS:
        one = running.get(agent.name)
        if one is None:
            table.add_row(who(agent.name), Text("starting", style="warn"), "", "", "")
            continue
        state = Text("ready", style="good") if one.ready else Text("warming up", style="warn")
        table.add_row(who(agent.name), state, one.engine, str(one.pid), ago(time.time() - one.since))
    ready = sum(one.ready for one in running.values())
    line = "all agents are ready" if ready >= len(AGENTS) else f"{ready} of {len(AGENTS)} agents are ready"
    return Group(table, Text(f" {line} · {ago(elapsed_s)} · Ctrl-C stops them", style="quiet"))

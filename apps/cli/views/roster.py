"""The table of agents."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from apps.cli.roster import Member
from apps.cli.terminal import ago
from apps.cli.views.names import status, who
from apps.cli.views.rows import plain_table
from apps.cli.views.safe import safe


def roster_table(members: Sequence[Member], kinds: bool = False) -> RenderableType:
    headings = ["agent", "state", "engine", "process", "up", "waiting", "oldest", *(["handles"] if kinds else [])]
    table = plain_table(*headings, right=("process", "up", "waiting", "oldest"))
    now = time.time()
    for one in members:
        waiting = Text(str(one.waiting), style="warn" if one.waiting and one.state != "ready" else "quiet")
        if one.later:
            waiting.append(f" (+{one.later} later)", style="quiet")
        table.add_row(
            who(one.agent),
            status(one.state) if one.state == "ready" else Text(one.state, style="quiet"),
            one.engine or "",
            str(one.pid or ""),
            ago(now - one.since / 1e6) if one.since else "",
            waiting,
            ago(now - one.oldest / 1e6) if one.oldest else "",
            *([Text(safe(", ".join(one.kinds)), style="quiet")] if kinds else []),
        )
    forgotten = [one for one in members if one.waiting and one.state in ("stopped", "unknown")]
    if not forgotten:
        return table
    names = ", ".join(safe(one.agent) for one in forgotten)
    return Group(table, Text(f"messages wait for {names}, which nobody runs here", style="warn"))

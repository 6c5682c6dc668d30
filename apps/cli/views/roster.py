"""The table of agents: a line for each instance, and one for an agent that nobody runs."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from apps.cli.roster import Member, Seat
from apps.cli.terminal import ago
from apps.cli.views.names import status, who
from apps.cli.views.rows import plain_table
from apps.cli.views.safe import safe

HEADINGS = ("agent", "state", "engine", "process", "lease", "share", "up", "waiting", "oldest")


def roster_table(members: Sequence[Member], kinds: bool = False, now: float | None = None) -> RenderableType:
    table = plain_table(*HEADINGS, *(["handles"] if kinds else []), right=("share", "up", "waiting", "oldest"))
    now = time.time() if now is None else now
    for one in members:
        handles = [Text(safe(", ".join(one.kinds)), style="quiet")] if kinds else []
        if len(one.instances) < 2 and one.state != "elsewhere":
            _line(table, one, now, handles)
            continue
        for place, seat in enumerate(one.instances):
            _seat_line(table, one, seat, now, handles if place == 0 else [], first=place == 0)
    forgotten = [one for one in members if one.waiting and one.state in ("stopped", "unknown")]
    if not forgotten:
        return table
    names = ", ".join(safe(one.agent) for one in forgotten)
    return Group(table, Text(f"messages wait for {names}, which nobody runs here", style="warn"))


def _line(table: Table, one: Member, now: float, handles: list[Text]) -> None:
    """An agent with one instance, which needs no lease, or with none."""
    seats = [seat for seat in one.instances if seat.state in ("ready", "starting")]
    process = safe(seats[0].host) if seats else str(one.pid or "")
    table.add_row(
        who(one.agent),
        _state(one.state),
        one.engine or "",
        process,
        "",
        "",
        ago(now - one.since / 1e6) if one.since else "",
        _waiting(one, one.waiting),
        ago(now - one.oldest / 1e6) if one.oldest else "",
        *handles,
    )


def _seat_line(table: Table, one: Member, seat: Seat, now: float, handles: list[Text], *, first: bool) -> None:
    table.add_row(
        who(one.agent) if first else "",
        _state(seat.state),
        safe(seat.engine),
        safe(seat.host),
        _lease(seat, now),
        f"{seat.share:.0%}",
        ago(now - seat.since / 1e6) if seat.since else "",
        _waiting(one, seat.waiting),
        ago(now - one.oldest / 1e6) if one.oldest and first else "",
        *handles,
    )


def _state(word: str) -> Text:
    return status(word) if word in ("ready", "dead") else Text(word, style="quiet")


def _lease(seat: Seat, now: float) -> Text:
    if seat.lease == "alone":
        return Text("alone", style="quiet")
    age = ago(now - seat.renewed / 1e6)
    if seat.lease == "overdue":
        return Text(f"silent for {age} of {ago(seat.lease_s)}", style="warn")
    return Text(f"renewed {age} ago", style="quiet")


def _waiting(one: Member, count: int) -> Text:
    waiting = Text(str(count), style="warn" if count and one.state not in ("ready", "elsewhere") else "quiet")
    if one.later and count == one.waiting:
        waiting.append(f" (+{one.later} later)", style="quiet")
    return waiting

"""How the demonstration looks: each request with its trace and answer, at last a summary and where things are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.text import Text

from apps.cli.outcome import Outcome
from apps.cli.terminal import milliseconds
from apps.cli.tour import Request
from apps.cli.views.answer import answer
from apps.cli.views.names import status
from apps.cli.views.rows import plain_table
from apps.cli.views.trace import tree

if TYPE_CHECKING:
    from bus.home import Home
    from bus.log.store import Location


def heading(place: int, request: Request, role: str) -> RenderableType:
    title = Text.assemble((f"{place} ", "quiet"), (request.user, "person"), (f" ({role.replace('_', ' ')})", "quiet"))
    return Group(
        "",
        Rule(title, align="left", style="quiet"),
        Text(f"“{request.question}”", style="title"),
        Text(request.about, style="quiet"),
    )


def conversation(request: Request, outcome: Outcome) -> RenderableType:
    shown = Padding(answer(outcome, request.rows, request.with_code), (1, 0, 0, 0))
    return Group("", tree(outcome.timeline), shown)


def summary(taken: Sequence[tuple[Request, Outcome]], home: Home, elapsed_s: float) -> RenderableType:
    table = plain_table("", "who", "request", "outcome", "hops", "total", right=("hops", "total"))
    for request, outcome in taken:
        fits = outcome.status == request.expected
        table.add_row(
            Text("✓" if fits else "✗", style="good" if fits else "bad"),
            Text(request.user, style="person"),
            request.question,
            status(outcome.status),
            str(outcome.timeline.hops),
            milliseconds(outcome.timings_ms["total"]),
        )
    return Group(
        "",
        Rule(Text("what was shown", style="quiet"), align="left", style="quiet"),
        table,
        "",
        places(home),
        "",
        _took(elapsed_s),
    )


def places(home: Home) -> RenderableType:
    """Where to look next, with lines to paste."""
    lines = [
        ("every message ever sent", _short(home.table("agent_messages"))),
        ("what auditors query", f"{_short(home.table('audit_log'))}, approvals, executions"),
        ("the published result", _short(home.warehouse / "results" / "top_customers")),
    ]
    grid = plain_table("where things are", "")
    for what, where in lines:
        grid.add_row(what, where)
    return grid


def next_steps(home: Home) -> RenderableType:
    """Lines to paste; to be printed without breaking them."""
    table = _short(home.table("audit_log"))
    lines = [
        f"python -c \"import deltalake; print(deltalake.DeltaTable('{table}').to_pyarrow_table().slice(0, 3))\"",
        "tailrace trace last",
        "tailrace executions",
        'tailrace ask "Generate SQL for quantity by region in 1995" --as eli',
    ]
    head = Text("look around with any reader of Delta tables, or with", style="quiet")
    return Group("", head, *(Text(f"  {line}", style="command") for line in lines))


def _took(elapsed_s: float) -> Text:
    return Text(f"{elapsed_s:.0f} s in all", style="quiet")


def _short(place: Location) -> str:
    try:
        return str(Path(place).relative_to(Path.cwd())) if isinstance(place, Path) else place
    except ValueError:
        return str(place)

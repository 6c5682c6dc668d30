"""Messages nobody could handle, as a table and one by one."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from apps.cli.lost import Lost
from apps.cli.terminal import moment
from apps.cli.views.code import code
from apps.cli.views.names import status, who
from apps.cli.views.rows import plain_table
from apps.cli.views.safe import safe


def lost_table(lost: Sequence[Lost]) -> RenderableType:
    table = plain_table("message", "when", "outcome", "kind", "from", "by", "reason")
    for one in lost:
        message = one.message
        names = who(message.from_agent), who(one.agent)
        table.add_row(
            safe(message.message_id),
            moment(one.at),
            status(one.outcome),
            safe(message.kind),
            *names,
            Text(safe(one.reason)),
        )
    return table


def lost_details(one: Lost) -> RenderableType:
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="quiet")
    facts.add_column(overflow="fold")
    facts.add_row("message", safe(one.message.message_id))
    facts.add_row("conversation", safe(one.message.correlation_id))
    facts.add_row("kind", safe(one.message.kind))
    facts.add_row("from", who(one.message.from_agent))
    facts.add_row("given up by", who(one.agent))
    facts.add_row("outcome", Text.assemble(status(one.outcome), f" after {one.attempts} attempts"))
    facts.add_row("reason", Text(safe(one.reason)))
    return Group(facts, "", code(one.message.content, "json"))

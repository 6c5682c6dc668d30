"""Messages nobody could handle: as a table, one by one, and as what is delivered again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from apps.cli.terminal import moment
from apps.cli.views.code import code
from apps.cli.views.names import status, who
from apps.cli.views.rows import plain_table
from apps.cli.views.safe import safe

if TYPE_CHECKING:
    from jobs.redrive import Dead, Redriven


def dead_table(dead: Sequence[Dead]) -> RenderableType:
    table = plain_table("message", "when", "outcome", "kind", "from", "by", "reason")
    for one in dead:
        message = one.message
        names = who(message.from_agent), who(one.agent)
        reason = Text(safe(one.reason))
        if one.redriven_as is not None:
            reason.append(f"\nredriven: {one.redriven_outcome}", style="quiet")
        table.add_row(safe(message.message_id), moment(one.at), status(one.outcome), safe(message.kind), *names, reason)
    return table


def dead_details(one: Dead) -> RenderableType:
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="quiet")
    facts.add_column(overflow="fold")
    facts.add_row("message", safe(one.message.message_id))
    facts.add_row("conversation", safe(one.message.correlation_id))
    facts.add_row("kind", safe(one.message.kind))
    facts.add_row("from", who(one.message.from_agent))
    facts.add_row("for", Text(safe(one.principal or "nobody"), style="person"))
    facts.add_row("given up by", who(one.agent))
    tries = "1 attempt" if one.attempts == 1 else f"{one.attempts} attempts"
    facts.add_row("outcome", Text.assemble(status(one.outcome), f" after {tries}"))
    facts.add_row("reason", Text(safe(one.reason)))
    if one.redriven_from is not None:
        facts.add_row("redriven from", Text(f"{safe(one.redriven_from)}, delivery {one.message.attempt}"))
    if one.redriven_as is not None:
        facts.add_row("redriven as", Text.assemble(safe(one.redriven_as), "  ", status(one.redriven_outcome or "")))
    else:
        command = f"tailrace dead redrive {safe(one.message.message_id)} --as {safe(one.principal or 'ada')}"
        facts.add_row("again", Text(command, style="command"))
    return Group(facts, "", code(one.message.content, "json"))


def redriven_table(checked: Sequence[Redriven]) -> RenderableType:
    table = plain_table("message", "kind", "for", "by", "delivered again")
    for one in checked:
        message = one.dead.message
        how: Text | str = f"as delivery {message.attempt + 1}"
        if one.rule:
            how = Text.assemble((f"no: {safe(one.reason)}", "bad"), (f"  {safe(one.rule)}", "quiet"))
        table.add_row(
            safe(message.message_id),
            safe(message.kind),
            Text(safe(one.dead.principal or ""), style="person"),
            who(one.dead.agent),
            how,
        )
    return table

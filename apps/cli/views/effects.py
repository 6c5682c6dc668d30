"""Executions: a table of them, one in full, what one changes, and what became of a person's word."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from apps.cli.effects import Effect
from apps.cli.executing import Word
from apps.cli.terminal import moment
from apps.cli.views.code import code
from apps.cli.views.names import status
from apps.cli.views.rows import plain_table
from apps.cli.views.safe import safe


def effect_table(effects: Sequence[Effect]) -> RenderableType:
    table = plain_table(
        "grant", "outcome", "claimed", "asked by", "approved by", "rows", "table", "question", right=("rows",)
    )
    for one in effects:
        version = f" v{one.table_version}" if one.table_version is not None else ""
        table.add_row(
            one.grant_id,
            status(one.step),
            moment(one.claimed_at),
            Text(safe(one.requester), style="person"),
            Text(safe(one.approved_by), style="person"),
            "" if one.row_count is None else f"{one.row_count:,}",
            Text(safe(one.target) + version if one.target else ""),
            Text(safe(one.question)),
        )
    return table


def effect_details(effect: Effect) -> RenderableType:
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="quiet")
    facts.add_column(overflow="fold")
    facts.add_row("grant", effect.grant_id)
    facts.add_row("outcome", status(effect.step))
    facts.add_row("asked by", Text(safe(effect.requester), style="person"))
    facts.add_row("approved by", Text(safe(effect.approved_by), style="person"))
    facts.add_row("question", Text(safe(effect.question)))
    if effect.target:
        facts.add_row("table", Text(safe(effect.target) + _versions(effect)))
    if effect.undoes:
        facts.add_row("undoes", safe(effect.undoes))
    if effect.row_count is not None:
        facts.add_row("rows", f"{effect.row_count:,}")
    facts.add_row("claimed at", moment(effect.claimed_at))
    if effect.settled_at is not None:
        facts.add_row("known since", moment(effect.settled_at))
    if effect.settled_by:
        facts.add_row("settled by", Text(safe(effect.settled_by), style="person"))
    if effect.reason:
        facts.add_row("reason", Text(safe(effect.reason)))
    if effect.proof:
        facts.add_row("proof", Text(safe(effect.proof)))
    facts.add_row("conversation", effect.correlation_id)
    parts: list[RenderableType] = [facts, "", code(effect.code, "sql")]
    if command := _next(effect):
        parts += ["", Text("  " + command, style="command")]
    return Group(*parts)


def _versions(effect: Effect) -> str:
    if effect.table_version is None:
        return ""
    before = "none" if effect.goes_back_to is None else f"v{effect.goes_back_to}"
    return f"  {before} → v{effect.table_version}"


def _next(effect: Effect) -> str:
    """What a person may do about it."""
    match effect.step:
        case "claimed":
            return f"tailrace executions cancel {effect.grant_id} --as {safe(effect.requester)}"
        case "in_doubt":
            return f'tailrace executions settle {effect.grant_id} --as ada --done|--failed --reason "…"'
        case "done" if effect.table_version is not None:
            return f"tailrace undo {effect.grant_id} --as {safe(effect.requester)}"
    return ""


def undo_asked(effect: Effect, now: int | None, rows: tuple[int | None, int | None], later: bool) -> RenderableType:
    """What an undo would do, before anybody is asked. `rows`: in the table now, and after the undo."""
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="quiet")
    facts.add_column(overflow="fold")
    facts.add_row("undo of", f"{effect.grant_id}, by {safe(effect.requester)} at {moment(effect.claimed_at)}")
    facts.add_row("question", Text(safe(effect.question)))
    to = effect.goes_back_to
    back = "before it there was no table: it is emptied" if to is None else f"version {to}"
    facts.add_row("table", Text(f"{safe(effect.target)}, now at version {'?' if now is None else now}"))
    facts.add_row("goes back to", back)
    facts.add_row("rows", f"{_count(rows[0])} now, {_count(rows[1])} afterwards")
    if now is not None and effect.table_version is not None and now != effect.table_version:
        lost = now - effect.table_version
        what = "is undone as well" if later else "would be lost, so it will be refused: --with-later undoes it too"
        facts.add_row("since then", Text(f"{lost} later version{'s' if lost > 1 else ''}, which {what}", style="warn"))
    return Padding(facts, (1, 0))


def _count(rows: int | None) -> str:
    return "?" if rows is None else f"{rows:,}"


def word(said: Word, user: str) -> Text:
    if said.accepted:
        return Text.assemble(("✓ ", "good"), safe(said.reason), (f"  {said.grant_id}", "quiet"))
    if said.accepted is None:
        return Text.assemble(
            ("… ", "warn"), "the word of ", (user, "person"), f" is in the log, signed; {safe(said.reason)}"
        )
    return Text.assemble(
        ("✗ ", "bad"), "not accepted: ", safe(said.reason), "\n  ", ("rule ", "quiet"), (safe(said.rule), "warn")
    )

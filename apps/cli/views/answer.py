"""An answer for a person: how it went and how long it took, the text, code, rows, sources, or why not."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from apps.cli.outcome import Outcome
from apps.cli.terminal import counted, milliseconds
from apps.cli.views.code import code
from apps.cli.views.names import status
from apps.cli.views.rows import plain_table, result_rows
from apps.cli.views.safe import safe

MARKS = {"answered": ("✓", "good"), "refused": ("✗", "bad"), "failed": ("✗", "bad")}


def answer(outcome: Outcome, rows: int = 50, with_code: bool = True) -> RenderableType:
    """`rows`: at most so many of a result are shown."""
    parts: list[RenderableType] = [headline(outcome)]
    if outcome.answer and not outcome.refusal:
        parts += ["", Padding(Text(safe(outcome.answer)), (0, 0, 0, 2))]
    if outcome.refusal:
        parts += ["", refusal(outcome.refusal)]
    if with_code and outcome.code and outcome.code.get("text"):
        parts += ["", code(str(outcome.code["text"]), str(outcome.code.get("language", "sql")))]
    if outcome.result:
        found = outcome.result
        shown = result_rows(found.get("columns", []), found.get("rows", []), bool(found.get("truncated")), rows)
        parts += ["", Padding(shown, (0, 0, 0, 2))]
        if found.get("table"):
            parts.append(Padding(_kept(found["table"], found.get("table_version")), (0, 0, 0, 2)))
    if outcome.sources:
        parts += ["", Padding(sources(outcome), (0, 0, 0, 2))]
    return Group(*parts)


def headline(outcome: Outcome) -> Text:
    mark, style = MARKS.get(outcome.status, ("…", "warn"))
    took = outcome.timings_ms
    facts = [counted(outcome.timeline.hops, "hop")]
    if took["queued"] is not None:
        facts += [f"queued {milliseconds(took['queued'])}", f"handled {milliseconds(took['handled'])}"]
    when = f" in {milliseconds(took['total'])}" if outcome.final is not None else f" for {milliseconds(took['total'])}"
    return Text.assemble((mark, style), " ", status(outcome.status), when, (" · " + " · ".join(facts), "quiet"))


def refusal(found: dict[str, str]) -> Padding:
    text = Text.assemble(safe(found.get("reason", "")), "\n", ("rule ", "quiet"), (safe(found.get("rule", "")), "warn"))
    return Padding(text, (0, 0, 0, 2))


def sources(outcome: Outcome) -> RenderableType:
    table = plain_table("source", "part", "score", "why", right=("part", "score"))
    for one in outcome.sources:
        score = one.get("score")
        shown = f"{score:.2f}" if isinstance(score, int | float) else str(score)
        why = Text(safe(one.get("why")), style="quiet")
        table.add_row(Text(safe(one.get("document"))), str(one.get("chunk")), shown, why)
    return table


def _kept(table: str, version: int | None) -> Text:
    at = f" (version {version})" if version is not None else ""
    return Text.assemble(("kept in ", "quiet"), safe(table), (at, "quiet"))

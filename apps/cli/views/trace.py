"""A conversation drawn as a timed tree: when, how long it took, who told whom what, what was audited."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from apps.cli.outcome import Outcome
from apps.cli.terminal import counted, milliseconds, moment
from apps.cli.timeline import Fact, Handling, Step, Timeline
from apps.cli.views.names import status, who
from apps.cli.views.safe import safe
from schemas.envelope import EVERYONE, USER

#: Characters of a question in the title.
QUESTION = 90


def trace(outcome: Outcome, receipts: bool = False) -> RenderableType:
    return Group(title(outcome), tree(outcome.timeline, receipts), summary(outcome))


def title(outcome: Outcome) -> RenderableType:
    root = outcome.timeline.rows[0]
    head = Text.assemble(
        (safe(root.from_agent.removeprefix(USER)), "person"), "  ", (question_of(root.content), "title")
    )
    below = Text(f"{safe(outcome.correlation_id)}  {moment(root.timestamp)}", style="quiet")
    return Group(head, below, "")


def summary(outcome: Outcome) -> RenderableType:
    took = outcome.timings_ms
    parts = [f"total {milliseconds(took['total'])}", counted(outcome.timeline.hops, "hop")]
    if took["queued"] is not None:
        parts[1:1] = [f"queued {milliseconds(took['queued'])}", f"handled {milliseconds(took['handled'])}"]
    line = Text.assemble("\n", status(outcome.status), ("  " + " · ".join(parts), "quiet"))
    return Group(line, Text(safe(outcome.answer), style="warn")) if outcome.final is None else line


def tree(timeline: Timeline, receipts: bool = False) -> Table:
    """`receipts`: each receipt on a line of its own, and what is only due later."""
    measured = any(handling.handled_ms is not None for handling in timeline.handlings())
    table = Table.grid(padding=(0, 2), collapse_padding=True)
    headings = ["at", "queued", "handled"] if measured else ["at", "took"]
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True, style="quiet")
    table.add_column("message", no_wrap=True, overflow="ellipsis", min_width=40)
    table.add_column("audit", overflow="fold", ratio=1)
    table.add_row(*headings, Text("message", style="quiet"), Text("audit", style="quiet"))
    for guide, step in _walk(timeline.roots, "", top=True, hidden=not receipts):
        table.add_row(*_times(step, measured), Text.assemble((guide, "quiet"), _what(step)), _notes(step))
        if receipts:
            for handling in step.handlings:
                times = [milliseconds_at(handling.at_ms), *([""] * (len(headings) - 1))]
                table.add_row(*times, Text.assemble((_below(guide), "quiet"), _receipt(handling)), "")
    return table


def _walk(steps: Sequence[Step], prefix: str, *, top: bool, hidden: bool) -> Iterator[tuple[str, Step]]:
    shown = [step for step in steps if not (hidden and step.deferred)]
    for place, step in enumerate(shown):
        last = place == len(shown) - 1
        yield ("" if top else prefix + ("╰─ " if last else "├─ ")), step
        below = "" if top else prefix + ("   " if last else "│  ")
        yield from _walk(step.children, below, top=False, hidden=hidden)


def _below(guide: str) -> str:
    return guide.replace("├─", "│ ").replace("╰─", "  ") + "   "


def _times(step: Step, measured: bool) -> list[str]:
    first = step.handlings[0] if step.handlings else None
    at = milliseconds_at(step.at_ms)
    if not measured:
        return [at, milliseconds(first.took_ms) if first else ""]
    return [at, milliseconds(first.queued_ms) if first else "", milliseconds(first.handled_ms) if first else ""]


def milliseconds_at(at_ms: float) -> str:
    return "0" if at_ms == 0 else f"+{milliseconds(at_ms)}"


def _what(step: Step) -> Text:
    message = step.message
    if message.to_agent == EVERYONE:
        text = Text.assemble(who(message.from_agent), ("  ◆ ", "quiet"), safe(message.kind))
    else:
        text = Text.assemble(who(message.from_agent), (" → ", "quiet"), who(message.to_agent), "  ", safe(message.kind))
    if message.attempt > 1:
        text.append(f"  delivery {message.attempt}", style="warn")
    if extra := _extra(step):
        text.append(f"  {safe(extra)}", style="quiet")
    return text


def _extra(step: Step) -> str:
    """The one thing worth knowing of some payloads."""
    try:
        said = json.loads(step.message.content)
    except (ValueError, RecursionError):
        return ""
    if not isinstance(said, dict):
        return ""
    match step.message.kind:
        case "Answered" | "ExecutionSettled":
            return str(said.get("status") or said.get("step") or "")
        case "Decide" | "ApprovalDecided":
            return str(said.get("decision", ""))
        case "ApprovalRequested":
            return str(said.get("approval_id", ""))
        case "DecisionAnswered":
            return "accepted" if said.get("accepted") else "not accepted"
        case "Failed" | "Refused":
            return str(said.get("rule", ""))
    return ""


def _notes(step: Step) -> Text:
    parts: list[Text] = []
    for handling in step.handlings:
        if handling.outcome != "handled":
            parts.append(Text.assemble(status(handling.outcome), ": ", safe(handling.reason)))
    if step.waits_for:
        parts.append(Text("due later" if step.deferred else "waiting", style="quiet" if step.deferred else "warn"))
    parts += [_fact(fact) for fact in step.facts]
    return Text(" · ").join(parts)


def _fact(fact: Fact) -> Text:
    style = {"refused": "bad", "failed": "bad"}.get(fact.decision, "quiet")
    # What went well needs no word for it.
    decision = [fact.decision] if style == "bad" and fact.decision not in fact.action else []
    return Text(safe(" ".join([fact.action, *decision, *([fact.rule] if fact.rule else [])])), style=style)


def _receipt(handling: Handling) -> Text:
    return Text.assemble(("receipt of ", "quiet"), who(handling.agent), " ", status(handling.outcome))


def question_of(content: str) -> str:
    """What was asked, on one line; the content itself when it is no question."""
    try:
        said = json.loads(content)
    except (ValueError, RecursionError):
        said = None
    text = str(said["question"]) if isinstance(said, dict) and "question" in said else content
    text = safe(" ".join(text.split()))
    return text if len(text) <= QUESTION else text[: QUESTION - 1] + "…"

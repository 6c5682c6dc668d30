"""A replay: how far it is, how it ended by agent and kind, and what came out differently."""

from __future__ import annotations

import difflib
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from apps.cli.terminal import Terminal, counted, milliseconds
from apps.cli.views.archived import discarded, from_archive
from apps.cli.views.names import who
from apps.cli.views.rows import plain_table
from apps.cli.views.safe import safe
from jobs.replay.report import Finding, ReplayReport
from jobs.replay.run import Progress as Told
from workers.runtime.comparing import ABSENT, Difference

VERDICTS = ("same", "different", "failed", "repaired", "still_failing", "skipped")
WORST = ("failed", "different", "repaired", "skipped")
_STYLES = {"same": "good", "different": "warn", "failed": "bad", "repaired": "good", "still_failing": "quiet"}
#: Characters of a value on one line, lines of a longer one, and differences of one message.
LINE, LINES, FIELDS = 100, 14, 6


@contextmanager
def replaying(terminal: Terminal) -> Iterator[Told]:
    """A bar on a terminal, elsewhere one line."""
    console = terminal.err
    if not console.is_terminal:
        terminal.say("… replaying")
        yield lambda done, total: None
        return
    columns = (
        TextColumn("replaying"),
        BarColumn(complete_style="cyan", finished_style="cyan"),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def replay_report(report: ReplayReport, limit: int) -> RenderableType:
    gone = discarded(report.discarded_to)
    if not report.total:
        return Group(Text("no message was handled in that span: nothing to replay", style="quiet"), *gone)
    groups = _alike(report.findings)
    parts: list[RenderableType] = [_headline(report), *gone, "", _summary(report)]
    for group in groups[:limit]:
        parts += ["", _finding(group[0], len(group) - 1)]
    left = sum(len(group) for group in groups[limit:])
    if left and limit:
        parts += ["", Text(f"and {left:,} more: --limit shows more of them", style="quiet")]
    parts += [
        "",
        Text.assemble(("all of it: ", "quiet"), f"replays where replay_id = '{report.replay_id}'"),
        _held(report),
    ]
    return Group(*parts)


def _held(report: ReplayReport) -> Text:
    """What stood between the workers and the world."""
    if set(report.held) == {"files", "network"}:
        return Text("without effects: the kernel let it write that table only, and gave it no network", style="quiet")
    if report.held:
        kept = {"files": "files but that table", "network": "the network"}[report.held[0]]
        return Text(f"without effects by shipped agents; the kernel kept others from {kept} only", style="quiet")
    return Text("without effects by shipped agents; nothing here keeps others from theirs", style="quiet")


def _alike(findings: Sequence[Finding]) -> list[list[Finding]]:
    """Findings that differ in the same fields, together: the worst first, then as they were found."""
    groups: dict[tuple[object, ...], list[Finding]] = {}
    for one in findings:
        if one.verdict != "still_failing":
            fields = frozenset((d.output, re.sub(r"\d+", "", d.path)) for d in one.differences)
            said = "" if one.verdict == "different" else re.sub(r"\d+", "", one.reason)
            groups.setdefault((one.agent, one.kind, one.verdict, fields, said), []).append(one)
    return sorted(groups.values(), key=lambda group: WORST.index(group[0].verdict))


def _headline(report: ReplayReport) -> Text:
    verdicts = report.verdicts
    head = Text(f"{counted(report.total, 'message')} replayed", style="title")
    head.append(from_archive(report.from_archive, report.total))
    for verdict in VERDICTS:
        if verdicts[verdict]:
            head.append(" · ", style="quiet")
            head.append(f"{verdicts[verdict]:,} {_words(verdict)}", style=_STYLES.get(verdict, "warn"))
    return head


def _summary(report: ReplayReport) -> Table:
    """A line for each agent and kind, a column for each verdict that occurs."""
    occurring = [verdict for verdict in VERDICTS if report.verdicts[verdict]]
    table = plain_table("agent", "kind", *map(_words, occurring), right=[_words(v) for v in occurring])
    lines: dict[tuple[str, str], Counter[str]] = {}
    for (agent, kind, verdict), count in report.counts.items():
        lines.setdefault((agent, kind), Counter())[verdict] += count
    for (agent, kind), counts in sorted(lines.items()):
        cells = [
            Text(f"{counts[v]:,}", style=_STYLES.get(v, "warn")) if counts[v] else Text("·", style="quiet")
            for v in occurring
        ]
        table.add_row(who(agent), safe(kind), *cells)
    return table


def _finding(finding: Finding, alike: int) -> RenderableType:
    style = _STYLES.get(finding.verdict, "warn")
    took = ""
    if finding.recorded_ms is not None and finding.replayed_ms is not None:
        took = f"  {milliseconds(finding.recorded_ms)} then, {milliseconds(finding.replayed_ms)} now"
    head = Text.assemble(
        (f"{_words(finding.verdict)}  ", style),
        who(finding.agent),
        (" ← ", "quiet"),
        safe(finding.kind),
        (took, "quiet"),
    )
    below: list[RenderableType] = []
    if finding.reason:
        below.append(Text(safe(finding.reason)))
    below += _differences(finding.differences)
    if alike:
        below.append(Text(f"and {counted(alike, 'more message')} like it", style="quiet"))
    where = f"tailrace trace {safe(finding.correlation_id)}"
    below.append(Text.assemble(("the conversation: ", "quiet"), (where, "command")))
    return Group(head, Padding(Group(*below), (0, 0, 0, 2), expand=False))


def _differences(differences: Sequence[Difference]) -> list[RenderableType]:
    parts: list[RenderableType] = []
    output = ""
    for one in differences[:FIELDS]:
        if one.output != output:
            output = one.output
            parts.append(Text(safe(output), style="kind"))
        parts.append(Padding(_difference(one), (0, 0, 0, 2), expand=False))
    if len(differences) > FIELDS:
        parts.append(Text(f"and {counted(len(differences) - FIELDS, 'more field')}", style="quiet"))
    return parts


def _difference(one: Difference) -> RenderableType:
    if one.now == ABSENT:
        return Text.assemble(("- ", "bad"), (_name(one, "no longer sent: "), "quiet"), _short(one.then))
    if one.then == ABSENT:
        return Text.assemble(("+ ", "good"), (_name(one, "new: "), "quiet"), _short(one.now))
    then, now = _text(one.then), _text(one.now)
    if "\n" not in then + now and len(then) <= LINE and len(now) <= LINE:
        return Group(
            Text(safe(one.path), style="quiet"),
            Text.assemble(("- ", "bad"), safe(then)),
            Text.assemble(("+ ", "good"), safe(now)),
        )
    return Group(Text(safe(one.path), style="quiet"), *_lines(then, now))


def _name(one: Difference, otherwise: str) -> str:
    return f"{safe(one.path)}: " if one.path else otherwise


def _lines(then: str, now: str) -> Iterator[Text]:
    """What changed of two longer texts, line by line."""
    found = [
        line
        for line in difflib.unified_diff(then.splitlines(), now.splitlines(), lineterm="", n=1)
        if not line.startswith(("---", "+++", "@@"))
    ]
    for line in found[:LINES]:
        style = {"-": "bad", "+": "good"}.get(line[:1], "quiet")
        yield Text.assemble((line[:1] + " ", style), (safe(line[1:]), "quiet" if style == "quiet" else ""))
    if len(found) > LINES:
        yield Text(f"… and {counted(len(found) - LINES, 'more line')}", style="quiet")


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, indent=2 if isinstance(value, dict | list) else None)


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = " ".join(safe(text).split())
    return text if len(text) <= LINE else text[: LINE - 1] + "…"


def _words(verdict: str) -> str:
    return verdict.replace("_", " ")

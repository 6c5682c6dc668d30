"""What a pass of upkeep did, a line a table."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from apps.cli.terminal import ago, counted
from apps.cli.views.rows import plain_table
from apps.cli.views.safe import safe
from bus.log.retention import Retained
from bus.log.upkeep import Done
from jobs.upkeep import Pass

UNITS = ("B", "KB", "MB", "GB", "TB")


def pass_table(done: Pass) -> RenderableType:
    headings = (
        "table",
        "version",
        "new entries",
        "files merged",
        "checkpoint",
        "entries deleted",
        "files deleted",
        "freed",
    )
    table = plain_table(*headings, right=headings[1:])
    for one in done.done:
        table.add_row(
            safe(one.table),
            f"{one.version:,}",
            _count(one.entries),
            f"{one.compacted:,} → {one.into:,}" if one.into else "",
            "" if one.checkpoint is None else f"{one.checkpoint:,}",
            _count(one.cleaned.entries),
            _count(one.cleaned.files + one.cleaned.orphans),
            size(one.cleaned.bytes) if one.cleaned.bytes else "",
            style="" if one.changed else "quiet",
        )
    parts: list[RenderableType] = [table] if done.done else []
    parts += [Text(f"{safe(name)}: {safe(reason)}", style="bad") for name, reason in done.failed.items()]
    parts += [_held(one) for one in done.done if one.held_by]
    parts += [_left(one) for one in done.retained if one.days]
    parts += [
        Text(f"warehouse: {counted(len(one.places), 'leftover')} of executions removed, {size(one.bytes)}")
        for one in done.removed
    ]
    changed = sum(one.changed for one in done.done)
    said = f"{counted(changed, 'table')} of {len(done.done)} changed" if changed else "nothing to do"
    parts.append(Text(f"{said}, {ago(done.seconds)}", style="quiet"))
    return Group(*parts)


def _held(one: Done) -> Text:
    return Text(f"{safe(one.table)}: clean-up waits for {safe(one.held_by or '')}, which is behind", style="warn")


def _left(one: Retained) -> Text:
    days = one.days[0] if len(one.days) == 1 else f"{one.days[0]} to {one.days[-1]}"
    where = safe(one.archive) if one.archive else "nowhere: they are gone"
    said = Text(f"{safe(one.table)}: {counted(one.rows, 'row')} of {days} left for {where}")
    if one.stayed:
        said.append(f"; {one.stayed:,} stayed with conversations that go on", style="quiet")
    return said


def _count(number: int) -> str:
    return f"{number:,}" if number else ""


def size(number: float) -> str:
    """Bytes as a person reads them."""
    for unit in UNITS:
        if number < 1024 or unit == UNITS[-1]:
            return f"{number:.0f} {unit}" if unit == "B" or number >= 10 else f"{number:.1f} {unit}"
        number /= 1024
    raise AssertionError("unreachable: the last unit has no limit")

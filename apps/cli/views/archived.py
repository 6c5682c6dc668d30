"""What came from an archive, and what is nowhere any more: said wherever recorded messages are gone through again."""

from __future__ import annotations

from rich.console import RenderableType
from rich.text import Text

from apps.cli.views.safe import safe


def from_archive(count: int, every: int) -> str:
    """What to say behind the number of them all."""
    if not count:
        return ""
    return ", from the archive" if count == every else f", {count:,} of them from the archive"


def discarded(upto: str | None) -> list[RenderableType]:
    """What no replay can tell any more."""
    if upto is None:
        return []
    return [Text(f"days up to {safe(upto)} were discarded: what was handled then is not among them", style="warn")]

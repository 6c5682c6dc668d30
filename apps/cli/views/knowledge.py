"""The table of documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from apps.cli.views.names import status
from apps.cli.views.rows import plain_table
from apps.cli.views.safe import safe


def document_table(documents: Sequence[Mapping[str, Any]]) -> RenderableType:
    table = plain_table("document", "title", "status", "for", "since")
    for one in documents:
        readers = "everybody" if "*" in one["roles"] else ", ".join(one["roles"])
        since = one["timestamp"].astimezone().strftime("%Y-%m-%d %H:%M:%S")
        table.add_row(one["document"], Text(safe(one["title"])), status(one["status"]), safe(readers), since)
    return table

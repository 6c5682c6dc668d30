"""The table of executions."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import RenderableType
from rich.text import Text

from apps.cli.effects import Effect
from apps.cli.terminal import moment
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

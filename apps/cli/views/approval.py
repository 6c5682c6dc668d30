"""What a person decides on: the exact code, where its result goes, who asked, and what to type."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from apps.cli.terminal import ago, moment
from apps.cli.views.code import code
from apps.cli.views.names import status
from apps.cli.views.rows import plain_table
from apps.cli.views.safe import safe
from workers.governance.approvals import Approval


def approve_command(approval_id: str, user: str = "ada") -> str:
    return f"tailrace approvals approve {approval_id} --as {user}"


def approval_asked(approval: Approval) -> RenderableType:
    """Shown to whoever asked, while another person has to decide."""
    asked = approval.requested
    where = f", saving it to {safe(asked.target)}" if asked.target else ""
    body = Text.assemble(
        f"To run this{where}, another person has to approve it. ",
        (f"It lapses at {moment(asked.expires_at)}.\n\n", "quiet"),
        ("  " + approve_command(approval.id), "command"),
        "\n",
        (f"  tailrace approvals show {approval.id}", "quiet"),
    )
    return Panel(body, title="approval needed", title_align="left", border_style="warn", padding=(0, 1), expand=False)


def approval_details(approval: Approval) -> RenderableType:
    asked, decided = approval.requested, approval.decided
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="quiet")
    facts.add_column(overflow="fold")
    facts.add_row("approval", approval.id)
    facts.add_row("status", status(approval.status))
    facts.add_row("asked by", Text(safe(asked.requester), style="person"))
    facts.add_row("question", Text(safe(asked.question)))
    facts.add_row(
        "saves to", Text(safe(asked.target)) if asked.target else Text("nothing: rows are returned", style="quiet")
    )
    facts.add_row("rule", asked.rule)
    facts.add_row("asked at", moment(approval.message.timestamp))
    facts.add_row("lapses at", moment(asked.expires_at))
    facts.add_row("dry run", asked.digest)
    facts.add_row("conversation", approval.message.correlation_id)
    if decided is not None:
        facts.add_row("decided by", Text.assemble((safe(decided.actor), "person"), f"  {safe(decided.reason)}"))
    parts: list[RenderableType] = [facts, "", code(asked.code.text, asked.code.language), ""]
    plan = Text(safe(asked.plan.strip()), style="quiet")
    parts += [Text("plan of the dry run", style="quiet"), Padding(plan, (0, 0, 0, 2))]
    if decided is None:
        reject = approve_command(approval.id).replace(" approve ", " reject ") + ' --reason "…"'
        parts += ["", Text("  " + approve_command(approval.id), style="command"), Text("  " + reject, style="command")]
    return Group(*parts)


def approval_list(approvals: Sequence[Approval]) -> RenderableType:
    table = plain_table("approval", "status", "asked by", "asked", "lapses", "saves to", "question")
    now = time.time()
    for one in approvals:
        left = one.requested.expires_at / 1e6 - now
        lapses = "" if one.decided else f"in {ago(left)}" if left > 0 else "now"
        table.add_row(
            one.id,
            status(one.status),
            Text(safe(one.requested.requester), style="person"),
            f"{ago(now - one.message.timestamp / 1e6)} ago",
            lapses,
            Text(safe(one.requested.target or "")),
            Text(safe(one.requested.question)),
        )
    return table

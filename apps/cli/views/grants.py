"""Grants: a table of them, one in full, and what became of taking one back."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from apps.cli.granting import Issued, Revoked
from apps.cli.terminal import ago, moment
from apps.cli.views.names import status
from apps.cli.views.rows import plain_table
from apps.cli.views.safe import safe


def grant_table(found: Sequence[Issued], now: int) -> RenderableType:
    table = plain_table("grant", "status", "good for", "asked by", "approved by", "for", "question")
    table.columns[0].no_wrap = True  # it is copied into a command
    for one in found:
        grant = one.grant
        left = (grant.expires_at - now) / 1e6
        table.add_row(
            grant.grant_id,
            status(one.status(now)),
            ago(left) if one.status(now) == "open" else "",
            Text(safe(grant.requester), style="person"),
            _approved(one),
            Text(safe(grant.target or "")),
            Text(safe(one.question)),
        )
    return table


def _approved(one: Issued) -> Text:
    names = ", ".join(one.grant.approvers) or one.grant.approved_by
    return Text(safe(names), style="person" if one.grant.approval_id else "quiet")


def grant_details(one: Issued, now: int) -> RenderableType:
    grant = one.grant
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="quiet")
    facts.add_column(overflow="fold")
    facts.add_row("grant", grant.grant_id)
    facts.add_row("status", status(one.status(now)))
    if one.revoked_by:
        facts.add_row("taken back by", Text.assemble((safe(one.revoked_by), "person"), f"  {safe(one.reason)}"))
    elif one.reason:
        facts.add_row("reason", Text(safe(one.reason)))
    facts.add_row("asked by", Text(safe(grant.requester), style="person"))
    facts.add_row("approved by", _approved(one))
    facts.add_row("rule", safe(grant.rule))
    facts.add_row("policy", Text(grant.policy, style="quiet"))
    facts.add_row("question", Text(safe(one.question)))
    facts.add_row("permits", f"{grant.dialect}, sha256 {grant.code_sha256}")
    facts.add_row("target", safe(grant.target or "none: rows are returned"))
    facts.add_row("tables", ", ".join(f"{safe(table)} v{v}" for table, v in grant.table_versions.items()) or "none")
    moves = "none: they are as they were" if not grant.table_drift else f"up to {grant.table_drift} versions each"
    facts.add_row("may have moved", moves)
    facts.add_row("environment", grant.environment)
    facts.add_row("issued at", moment(grant.issued_at))
    facts.add_row("expires at", moment(grant.expires_at))
    facts.add_row("approval", grant.approval_id or "none: the rule allows it")
    facts.add_row("conversation", one.message.correlation_id)
    parts: list[RenderableType] = [facts]
    if one.status(now) == "open":
        command = f"tailrace grants revoke {grant.grant_id} --as {safe(grant.requester)}"
        parts += ["", Text("  " + command, style="command")]
    return Group(*parts)


def revoked(said: Revoked, user: str) -> Text:
    if said.accepted:
        return Text.assemble(("✓ ", "good"), safe(said.reason), (f"  {said.grant_id}", "quiet"))
    if said.accepted is None:
        return Text.assemble(("… ", "warn"), "the word of ", (user, "person"), f" is in the log; {safe(said.reason)}")
    return Text.assemble(
        ("✗ ", "bad"), "not accepted: ", safe(said.reason), "\n  ", ("rule ", "quiet"), (safe(said.rule), "warn")
    )

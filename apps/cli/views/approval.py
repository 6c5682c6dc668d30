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
from schemas.payloads import EffectPreview
from workers.governance.approvals import Approval
from workers.governance.delegations import Delegation
from workers.governance.voting import in_words

#: Sampled rows of an effect that are shown; `--json` has all that were sampled.
SAMPLED = 5


def approve_command(approval_id: str, user: str = "ada") -> str:
    return f"tailrace approvals approve {approval_id} --as {user}"


def _another_than(requester: str) -> str:
    """One of the sample's people who may not be the one that asked."""
    return "ada" if requester != "ada" else "kim"


def approval_asked(approval: Approval) -> RenderableType:
    """Shown to whoever asked, while another person has to decide."""
    asked = approval.requested
    where = f", saving it to {safe(asked.target)}" if asked.target else ""
    what = (
        f"To run this{where}, " if asked.subject == "execution" else f"For the {asked.subject} {safe(asked.target)}, "
    )
    body = Text.assemble(
        (f"Asked once more: {safe(asked.again)}.\n\n" if asked.again else "", "warn"),
        f"{what}{_who(approval)} has to approve it. ",
        (f"It lapses at {moment(asked.expires_at)}.\n\n", "quiet"),
        ("  " + approve_command(approval.id, _another_than(asked.requester)), "command"),
        "\n",
        (f"  tailrace approvals show {approval.id}", "quiet"),
    )
    return Panel(body, title="approval needed", title_align="left", border_style="warn", padding=(0, 1), expand=False)


def _who(approval: Approval) -> str:
    """`another person (1 of admin)`."""
    needs = approval.requested.needs
    return f"another person ({in_words(needs)})" if needs else "another person"


def approval_details(approval: Approval) -> RenderableType:
    asked = approval.requested
    parts: list[RenderableType] = [_facts(approval), "", code(asked.code.text, asked.code.language), ""]
    if asked.effect is not None:
        parts += [effect_preview(asked.effect), ""]
    if asked.plan.strip():
        tree, _, details = asked.plan.strip().partition("\n\n")
        parts += [Text("plan of the dry run", style="quiet"), Padding(Text(safe(tree), style="quiet"), (0, 0, 0, 2))]
        if details.strip():
            parts.append(Text("  … --json has its details", style="quiet"))
    if approval.decided is None:
        yes = approve_command(approval.id, _another_than(approval.requested.requester))
        others = [yes.replace(" approve ", f" {word} ") + ' --reason "…"' for word in ("changes", "reject")]
        parts += ["", *(Text("  " + command, style="command") for command in (yes, *others))]
    return Group(*parts)


def _facts(approval: Approval) -> Table:
    asked, decided = approval.requested, approval.decided
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="quiet")
    facts.add_column(overflow="fold")
    facts.add_row("approval", approval.id)
    facts.add_row("status", status(approval.status))
    if asked.again:
        facts.add_row("asked again", Text(safe(asked.again), style="warn"))
    facts.add_row("asked by", Text(safe(asked.requester), style="person"))
    if asked.subject == "execution":
        facts.add_row("question", Text(safe(asked.question)))
        nothing = Text("nothing: rows are returned", style="quiet")
        facts.add_row("saves to", Text(safe(asked.target)) if asked.target else nothing)
    else:
        facts.add_row(asked.subject, Text(safe(asked.question)))
    kind = f"  ({asked.statement_class})" if asked.statement_class else ""
    facts.add_row("rule", Text.assemble(asked.rule, (kind, "quiet")))
    if asked.policy:
        facts.add_row("policy", Text(asked.policy, style="quiet"))
    facts.add_row("has to say yes", in_words(asked.needs))
    for vote in approval.votes:
        name = f" for {safe(vote.for_user)}" if vote.for_user else ""
        facts.add_row("said yes", Text.assemble((safe(vote.actor), "person"), name, (f"  as {vote.group}", "quiet")))
    if approval.votes and decided is None:
        facts.add_row("still needed", Text(in_words(approval.remaining), style="warn"))
    if approval.escalated is not None:
        groups = ", ".join(need.group for need in approval.escalated.to)
        facts.add_row("escalated", f"{groups} may decide as well")
    facts.add_row("asked at", moment(approval.message.timestamp))
    facts.add_row("lapses at", moment(asked.expires_at))
    if asked.table_versions:
        facts.add_row("tables", ", ".join(f"{safe(table)} v{v}" for table, v in asked.table_versions.items()))
    facts.add_row("digest", asked.digest)
    facts.add_row("conversation", approval.message.correlation_id)
    if decided is not None:
        who = ", ".join(decided.actors) or decided.actor
        facts.add_row("decided by", Text.assemble((safe(who), "person"), f"  {safe(decided.reason)}"))
    return facts


def effect_preview(effect: EffectPreview) -> RenderableType:
    """What would change, as a small table: rows added, changed and removed, and some of them."""
    version = "a new table" if effect.version is None else f"as of version {effect.version}"
    head = Text.assemble(("it changes ", "quiet"), safe(effect.table), (f"  {version}", "quiet"))
    table = plain_table(
        "rows before", "added", "changed", "removed", "rows after", right=("added", "changed", "removed")
    )
    for column in table.columns:
        column.justify = "right"
    table.add_row(
        _count(effect.rows_before),
        Text(_count(effect.added, "+"), style="good" if effect.added else ""),
        Text(_count(effect.changed, "~"), style="warn" if effect.changed else ""),
        Text(_count(effect.removed, "-"), style="bad" if effect.removed else ""),
        _count(effect.rows_after),
    )
    parts: list[RenderableType] = [head, Padding(table, (0, 0, 0, 2))]
    for word, style, sample in (("+", "good", effect.sample_added), ("-", "bad", effect.sample_removed)):
        if sample is not None and sample.rows:
            shown = plain_table("", *map(safe, sample.columns))
            for row in sample.rows[:SAMPLED]:
                shown.add_row(Text(word, style=style), *(Text(safe("null" if v is None else v)) for v in row))
            parts.append(Padding(shown, (1, 0, 0, 2)))
            if len(sample.rows) > SAMPLED:
                parts.append(Text(f"  {SAMPLED} of {len(sample.rows)} sampled rows shown", style="quiet"))
    if effect.note:
        parts.append(Text(f"  {safe(effect.note)}", style="quiet"))
    return Group(*parts)


def _count(number: int | None, sign: str = "") -> str:
    return "?" if number is None else f"{sign if number else ''}{number:,}"


def approval_list(approvals: Sequence[Approval]) -> RenderableType:
    table = plain_table("approval", "status", "needs", "asked by", "asked", "lapses", "about", "question")
    table.columns[0].no_wrap = True  # it is copied into a command
    now = time.time()
    for one in approvals:
        left = one.requested.expires_at / 1e6 - now
        lapses = "" if one.decided else f"in {ago(left)}" if left > 0 else "now"
        table.add_row(
            one.id,
            status(one.status),
            "" if one.decided else in_words(one.remaining),
            Text(safe(one.requested.requester), style="person"),
            f"{ago(now - one.message.timestamp / 1e6)} ago",
            lapses,
            Text(safe(one.requested.target or "")),
            Text(safe(one.requested.question)),
        )
    return table


def delegation_table(found: Sequence[Delegation], now: int) -> RenderableType:
    table = plain_table("delegation", "who lends", "to", "since", "until", "reason")
    for one in found:
        over = "" if one.holds(now) else "  over"
        table.add_row(
            one.id,
            Text(safe(one.from_user), style="person"),
            Text(safe(one.to_user), style="person"),
            moment(one.since),
            Text.assemble(moment(one.until), (over, "quiet")),
            Text(safe(one.reason)),
        )
    return table

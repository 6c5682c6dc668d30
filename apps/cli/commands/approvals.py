"""`tailrace approvals`: what waits for a person, and the person's decision."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from apps.cli.exits import DONE, REFUSED
from apps.cli.options import As, Json, terminal_of
from apps.cli.session import open_system

if TYPE_CHECKING:
    from apps.cli.approving import Choice, Lent
    from apps.cli.terminal import Terminal
    from jobs.bootstrap import System
    from workers.governance.approvals import Approval

app = typer.Typer(no_args_is_help=True, help="What waits for a person's decision, and deciding on it.")
ApprovalId = Annotated[
    str, typer.Argument(metavar="ID", help="The approval, or the beginning of its id.", show_default=False)
]
Reason = Annotated[str, typer.Option("--reason", help="Why; it is kept with the decision.")]
For = Annotated[
    str | None,
    typer.Option("--for", metavar="USER", help="Whose right it is, who has lent it to you.", show_default=False),
]


@app.command("list")
def list_(
    context: typer.Context,
    every: Annotated[bool, typer.Option("--all", help="Also those that were decided.", show_default=False)] = False,
    json: Json = False,
) -> None:
    """What waits for a decision, oldest first."""
    from apps.cli.approving import every_approval
    from apps.cli.views.approval import approval_list

    terminal = terminal_of(context)
    found = [one for one in every_approval(open_system()) if every or one.decided is None]
    terminal.emit([document(one) for one in found])
    terminal.show(approval_list(found) if found else "[quiet]nothing waits for a decision[/]")


@app.command()
def show(context: typer.Context, approval_id: ApprovalId, json: Json = False) -> None:
    """The exact code, what it would change, who asked, who has to say yes and who did."""
    from apps.cli.approving import find
    from apps.cli.views.approval import approval_details

    terminal = terminal_of(context)
    approval = find(open_system(), approval_id)
    terminal.emit(document(approval))
    terminal.show("", approval_details(approval), "")


@app.command()
def approve(
    context: typer.Context,
    approval_id: ApprovalId,
    user: As,
    reason: Reason = "",
    for_user: For = None,
    json: Json = False,
) -> None:
    """Say yes, in your name. Governance signs the grant when all who are needed have said so."""
    _decide(context, approval_id, user, "approve", reason, for_user)


@app.command()
def reject(
    context: typer.Context,
    approval_id: ApprovalId,
    user: As,
    reason: Reason = "",
    for_user: For = None,
    json: Json = False,
) -> None:
    """Say no, in your name."""
    _decide(context, approval_id, user, "reject", reason, for_user)


@app.command()
def changes(
    context: typer.Context,
    approval_id: ApprovalId,
    user: As,
    reason: Annotated[str, typer.Option("--reason", help="What has to change.", show_default=False)],
    for_user: For = None,
    json: Json = False,
) -> None:
    """Send it back with what has to change. What is asked for then is another request, with an approval of its own."""
    _decide(context, approval_id, user, "changes", reason, for_user)


@app.command()
def delegate(
    context: typer.Context,
    to_user: Annotated[str, typer.Argument(metavar="USER", help="Who may decide in your name.", show_default=False)],
    user: As,
    hours: Annotated[float, typer.Option("--hours", min=0.01, help="For how long.")] = 24.0,
    reason: Reason = "",
    json: Json = False,
) -> None:
    """Lend your right to decide, for a time. It cannot be lent on."""
    from apps.cli.approving import delegate as lend

    until = time.time_ns() // 1000 + round(hours * 3_600_000_000)
    _lend(context, user, "lending it", lambda system: lend(system, user, to_user, until, reason))


@app.command()
def undelegate(
    context: typer.Context,
    delegation_id: Annotated[
        str, typer.Argument(metavar="ID", help="The delegation, or the beginning of its id.", show_default=False)
    ],
    user: As,
    json: Json = False,
) -> None:
    """End a delegation before its time: yours, or one to you."""
    from apps.cli.approving import end_delegation, find_delegation

    _lend(
        context,
        user,
        "ending it",
        lambda system: end_delegation(system, user, find_delegation(system, delegation_id).id),
    )


@app.command()
def delegations(
    context: typer.Context,
    every: Annotated[bool, typer.Option("--all", help="Also those that are over.", show_default=False)] = False,
    json: Json = False,
) -> None:
    """Who may decide in whose name, and until when."""
    from apps.cli.approving import every_delegation
    from apps.cli.views.approval import delegation_table

    terminal = terminal_of(context)
    now = time.time_ns() // 1000
    found = [one for one in every_delegation(open_system()) if every or one.holds(now)]
    terminal.emit([vars(one) | {"holds": one.holds(now)} for one in found])
    terminal.show(delegation_table(found, now) if found else "[quiet]nobody has lent the right to decide[/]")


def _decide(
    context: typer.Context, approval_id: str, user: str, choice: Choice, reason: str, for_user: str | None
) -> None:
    from apps.cli.approving import decide, find
    from apps.cli.session import check_user
    from apps.cli.views.decision import decision

    terminal = terminal_of(context)
    system = open_system()
    check_user(system, user)
    with terminal.working("governance decides whether you may"):
        decided = decide(system, user, find(system, approval_id), choice, reason, for_user=for_user)
    terminal.show(decision(decided, user))
    terminal.emit(vars(decided) | {"user": user})
    _leave(terminal, decided.accepted, decided.correlation_id)


def _lend(context: typer.Context, user: str, doing: str, say: Callable[[System], Lent]) -> None:
    from apps.cli.session import check_user
    from apps.cli.views.decision import lent

    terminal = terminal_of(context)
    system = open_system()
    check_user(system, user)
    with terminal.working(doing):
        said = say(system)
    terminal.show(lent(said, user))
    terminal.emit(vars(said) | {"user": user})
    _leave(terminal, said.accepted, said.correlation_id)


def _leave(terminal: Terminal, accepted: bool | None, correlation_id: str) -> NoReturn:
    if accepted is None:
        terminal.hint("start it with ", "tailrace up", "")
        terminal.hint("or for this conversation alone: ", f"tailrace wait {correlation_id}")
    raise typer.Exit(REFUSED if accepted is False else DONE)


def document(approval: Approval) -> dict[str, Any]:
    asked, decided = approval.requested, approval.decided
    return {
        "approval_id": approval.id,
        "status": approval.status,
        "correlation_id": approval.message.correlation_id,
        "requester": asked.requester,
        "question": asked.question,
        "code": asked.code.model_dump(),
        "target": asked.target,
        "digest": asked.digest,
        "plan": asked.plan,
        "rule": asked.rule,
        "policy": asked.policy,
        "subject": asked.subject,
        "statement_class": asked.statement_class,
        "table_versions": asked.table_versions,
        "effect": None if asked.effect is None else asked.effect.model_dump(),
        "again": asked.again,
        "needs": [need.model_dump() for need in asked.needs],
        "votes": [vote.model_dump(exclude={"approval_id", "remaining"}) for vote in approval.votes],
        "remaining": [need.model_dump() for need in approval.remaining],
        "reminded": approval.reminded is not None,
        "escalated_to": [need.model_dump() for need in approval.escalated.to] if approval.escalated else [],
        "asked_at": approval.message.timestamp,
        "expires_at": asked.expires_at,
        "decided": None if decided is None else decided.model_dump(exclude={"approval_id"}),
    }

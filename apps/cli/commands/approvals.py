"""`tailrace approvals`: what waits for a person, and the person's decision."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from apps.cli.exits import DONE, REFUSED
from apps.cli.options import As, Json, terminal_of
from apps.cli.session import open_system

if TYPE_CHECKING:
    from apps.cli.approving import Choice
    from workers.governance.approvals import Approval

app = typer.Typer(no_args_is_help=True, help="What waits for a person's decision: list, show, approve, reject.")
ApprovalId = Annotated[
    str, typer.Argument(metavar="ID", help="The approval, or the beginning of its id.", show_default=False)
]
Reason = Annotated[str, typer.Option("--reason", help="Why; it is kept with the decision.")]


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
    """The exact code that would run, its dry run, who asked, and what was decided."""
    from apps.cli.approving import find
    from apps.cli.views.approval import approval_details

    terminal = terminal_of(context)
    approval = find(open_system(), approval_id)
    terminal.emit(document(approval))
    terminal.show("", approval_details(approval), "")


@app.command()
def approve(context: typer.Context, approval_id: ApprovalId, user: As, reason: Reason = "", json: Json = False) -> None:
    """Say yes, in your name. Governance signs the grant if you may."""
    _decide(context, approval_id, user, "approve", reason)


@app.command()
def reject(context: typer.Context, approval_id: ApprovalId, user: As, reason: Reason = "", json: Json = False) -> None:
    """Say no, in your name."""
    _decide(context, approval_id, user, "reject", reason)


def _decide(context: typer.Context, approval_id: str, user: str, choice: Choice, reason: str) -> None:
    from apps.cli.approving import decide, find
    from apps.cli.session import check_user
    from apps.cli.views.decision import decision

    terminal = terminal_of(context)
    system = open_system()
    check_user(system, user)
    with terminal.working("governance decides whether you may"):
        decided = decide(system, user, find(system, approval_id), choice, reason)
    terminal.show(decision(decided, user))
    terminal.emit(vars(decided) | {"user": user})
    if decided.accepted is None:
        terminal.hint("start it with ", "tailrace up", "")
        terminal.hint("or for this conversation alone: ", f"tailrace wait {decided.correlation_id}")
    raise typer.Exit(REFUSED if decided.accepted is False else DONE)


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
        "asked_at": approval.message.timestamp,
        "expires_at": asked.expires_at,
        "decided": None if decided is None else decided.model_dump(exclude={"approval_id"}),
    }

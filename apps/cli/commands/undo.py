"""`tailrace undo`: takes back what an execution wrote, by another execution: tried, governed and approved like any other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from apps.cli.exits import MISUSE, CommandError
from apps.cli.following import TIMEOUT_S, Following, Timeout
from apps.cli.options import As, Engine, Json, NoStart, terminal_of
from apps.cli.session import check_user, open_system, speaking_as

if TYPE_CHECKING:
    from apps.cli.asking import Follower
    from apps.cli.effects import Effect
    from apps.cli.outcome import Outcome
    from bus.client import TailraceClient
    from jobs.bootstrap import System
    from schemas.payloads import RequestExecution

GOVERNANCE = "GovernanceAgent"


def undo(
    context: typer.Context,
    grant_id: Annotated[
        str, typer.Argument(metavar="GRANT", help="The grant whose effect is taken back.", show_default=False)
    ],
    user: As,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask whether to go on.", show_default=False)] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for the approval and the outcome too.", show_default=False)
    ] = False,
    with_later: Annotated[
        bool, typer.Option("--with-later", help="Also undo what was written since.", show_default=False)
    ] = False,
    timeout: Timeout = TIMEOUT_S,
    no_start: NoStart = False,
    engine: Engine = None,
    json: Json = False,
) -> None:
    """Restore the table as it was before an execution. Nothing of its history is lost: an undo can be undone."""
    from apps.cli.effects import every_effect, find
    from apps.cli.views.effects import undo_asked

    terminal = terminal_of(context)
    system = open_system()
    check_user(system, user)
    effect = find(grant_id, every_effect(system))
    asked = request(effect, with_later)
    now, rows = _state(system, effect)
    terminal.show(undo_asked(effect, now, rows, with_later))
    if not yes and not terminal.json and not typer.confirm("Ask governance to undo it?"):
        raise typer.Abort
    with speaking_as(system, user) as client:
        following = Following(timeout, no_start, not wait, engine)
        following.run(terminal, system, "asking", lambda follower: _follow(client, follower, asked))


def request(effect: Effect, with_later: bool) -> RequestExecution:
    """What is asked of governance. Raises CommandError for what cannot be taken back."""
    from schemas.payloads import Code, RequestExecution

    if effect.step != "done":
        cause = f"{effect.grant_id} is {effect.step.replace('_', ' ')}: only what was done can be undone"
        remedy = f"tailrace executions show {effect.grant_id}"
        raise CommandError(cause, remedy, MISUSE)
    if effect.target is None or effect.table_version is None:
        raise CommandError(f"{effect.grant_id} wrote no table: there is nothing to undo", "tailrace executions", MISUSE)
    back = effect.goes_back_to
    text = f"{effect.target} TO {'NOTHING' if back is None else f'VERSION {back}'}"
    if not with_later:
        # What others wrote since is not ours to take back: the engine refuses when it is there.
        text += f" FROM VERSION {effect.table_version}"
    return RequestExecution(
        question=f"Undo {effect.grant_id}: {effect.question}",
        code=Code(language="restore", text=text),
        target=effect.target,
        undoes=effect.grant_id,
    )


def _follow(client: TailraceClient, follower: Follower, asked: RequestExecution) -> Outcome:
    with client.listen() as arrivals:
        follower.correlation_id = client.send(GOVERNANCE, asked).correlation_id
        return follower.follow(arrivals, follower.correlation_id, [])


def _state(system: System, effect: Effect) -> tuple[int | None, tuple[int | None, int | None]]:
    """The table's version now, and its rows now and after the undo, as far as this process can read them."""
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError

    def rows(table: DeltaTable) -> int | None:
        import pyarrow as pa

        counts = pa.table(table.get_add_actions(flatten=True)).column("num_records").to_pylist()
        return None if None in counts else sum(counts)

    path = system.home.warehouse.joinpath(*str(effect.target).split("."))
    try:
        table = DeltaTable(str(path))
        back = effect.goes_back_to
        return table.version(), (rows(table), 0 if back is None else rows(DeltaTable(str(path), version=back)))
    except (DeltaError, OSError):
        return None, (None, None)  # dropped, or not to be read from here: the dry run will say

"""What `ask` and `wait` share: their options, how a conversation is followed on a terminal, and how the command ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from apps.cli.exits import CODES, DONE
from apps.cli.terminal import Terminal

if TYPE_CHECKING:
    from apps.cli.asking import Follower
    from apps.cli.hosts import Hosts
    from apps.cli.outcome import Outcome
    from jobs.bootstrap import System
    from workers.governance.approvals import Approval

Timeout = Annotated[
    float, typer.Option("--timeout", min=0, metavar="S", help="Seconds to wait, for agents and for people.")
]
NoWaitApproval = Annotated[
    bool, typer.Option("--no-wait-approval", help="Return once another person has to approve.", show_default=False)
]
#: Seconds, unless said otherwise.
TIMEOUT_S = 300.0


@dataclass(frozen=True)
class Following:
    """The options, and what they mean."""

    timeout: float
    no_start: bool
    no_wait_approval: bool
    engine: str | None

    def run(self, terminal: Terminal, system: System, doing: str, follow: Callable[[Follower], Outcome]) -> NoReturn:
        """Follow a conversation, starting the hosts it needs; show what came of it and leave with the exit code."""
        from apps.cli.asking import Follower
        from apps.cli.hosts import Hosts

        with Hosts(system, self.engine or "tail", may_start=not self.no_start) as hosts:
            with terminal.working(doing) as change:
                hosts.say = change
                follower = Follower(
                    self.timeout,
                    hosts,
                    on_rows=lambda outcome: change(progress(outcome)),
                    on_approval=lambda approval: _show_approval(terminal, approval),
                    wait_approval=not self.no_wait_approval,
                )
                try:
                    outcome = follow(follower)
                except KeyboardInterrupt:
                    if follower.correlation_id:
                        terminal.hint("the request stays in the log: ", f"tailrace wait {follower.correlation_id}")
                    raise
            self._finish(terminal, outcome, hosts)

    def _finish(self, terminal: Terminal, outcome: Outcome, hosts: Hosts) -> NoReturn:
        """Show what came of it, stop what was started, and leave."""
        from apps.cli.views.answer import answer

        terminal.show("", answer(outcome), "")
        terminal.emit(outcome.document())
        if nobody := hosts.nobody(outcome.timeline):
            terminal.hint(
                f"{', '.join(nobody)} runs nowhere; the message waits in the log. Start it with ", "tailrace up", "."
            )
        if outcome.final is None and outcome.status != "failed":
            terminal.hint("the conversation goes on: ", f"tailrace wait {outcome.correlation_id}")
        else:
            terminal.hint("", f"tailrace trace {outcome.correlation_id}")
        code = CODES[outcome.status]
        if outcome.status == "pending_approval" and self.no_wait_approval:
            if outcome.approval is not None and not terminal.json:
                _show_approval(terminal, outcome.approval)
            code = DONE
        if hosts.started:
            with terminal.working("stopping what was started"):
                hosts.stop()
        raise typer.Exit(code)


def progress(outcome: Outcome) -> str:
    """What is being waited for, in a few words."""
    if outcome.approval is not None:
        return "waiting for another person's approval"
    waiting = outcome.timeline.open()
    if waiting:
        message, agent = waiting[-1]
        return f"{agent}: {message.kind}"
    return "waiting"


def _show_approval(terminal: Terminal, approval: Approval) -> None:
    from apps.cli.views.approval import approval_asked

    terminal.note(approval_asked(approval))

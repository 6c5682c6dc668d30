"""Agents as the log and this machine know them: registered, running, and what waits for each."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from apps.cli import history
from schemas.payloads import InstanceChanged

if TYPE_CHECKING:
    from jobs.bootstrap import System
    from jobs.liveness import Running
    from schemas.envelope import Message


@dataclass
class Seat:
    """An instance that is live by the log. `host` is machine:process; `share` of the conversations its agent gets.

    `state`: ready or starting on this machine, elsewhere, or dead: its process is gone, and nobody has ended its lease yet.
    `lease`: alone (it needs none), held, or overdue. `renewed` and `since` are UTC microseconds.
    """

    instance: str
    host: str
    engine: str
    state: str
    lease: str
    lease_s: float
    renewed: int
    since: int | None
    share: float
    waiting: int


@dataclass
class Member:
    """`state`: ready, starting, elsewhere, stopped, or unknown for an addressee we never heard of. Times are UTC
    microseconds. `pid`, `engine` and `since` are those of its first process here."""

    agent: str
    state: str
    pid: int | None
    engine: str | None
    since: int | None
    waiting: int
    oldest: int | None
    later: int
    kinds: list[str]
    instances: list[Seat]


#: Whether the process of a host runs; None when it is on another machine.
Alive = Callable[[str], bool | None]


def roster(system: System) -> list[Member]:
    from jobs.agents import AGENTS
    from jobs.liveness import processes
    from workers.runtime.whereabouts import alive

    rows = history.everything(system)
    ours = [agent.name for agent in AGENTS]
    return members(rows, processes(system.home), ours, time.time_ns() // 1000, alive)


def members(
    rows: Iterable[Message], running: Sequence[Running], ours: Iterable[str], now: int, alive: Alive
) -> list[Member]:
    """Ours first, then everybody else who ever registered or is written to."""
    from bus.fold import State

    state = State()
    state.load(rows := list(rows))
    kinds: dict[str, list[str]] = {}
    for row in rows:
        if row.kind == InstanceChanged.kind() and row.message_type == "event" and (said := _said(row)) is not None:
            kinds[said.agent] = list(said.kinds)
    names = dict.fromkeys([*ours, *kinds, *(agent for _, agent in state.open)])
    known = {*ours, *kinds}
    found = []
    for name in names:
        leases = [row for row in state.leases.values() if row.from_agent == name]
        here = [one for one in running if one.agent == name]
        waiting = state.open_for(name)
        found.append(
            _member(
                name, name in known, kinds.get(name, []), _seats(leases, here, waiting, now, alive), here, now, waiting
            )
        )
    return found


def _member(
    name: str,
    known: bool,
    kinds: list[str],
    seats: list[Seat],
    here: Sequence[Running],
    now: int,
    open_rows: Sequence[Message],
) -> Member:
    due = [row for row in open_rows if row.not_before is None or row.not_before <= now]
    first = next((one for one in here if one.ready), here[0] if here else None)
    if first is not None:
        state = "ready" if first.ready else "starting"
    elif any(seat.state == "elsewhere" and seat.lease != "overdue" for seat in seats):
        state = "elsewhere"
    else:
        state = "stopped" if known else "unknown"
    return Member(
        agent=name,
        state=state,
        pid=first.pid if first else None,
        engine=first.engine if first else None,
        since=int(first.since * 1e6) if first else None,
        waiting=len(due),
        oldest=min((row.timestamp for row in due), default=None),
        later=len(open_rows) - len(due),
        kinds=kinds,
        instances=seats,
    )


def _seats(
    leases: Sequence[Message], here: Sequence[Running], open_rows: Sequence[Message], now: int, alive: Alive
) -> list[Seat]:
    from workers.runtime.membership import rank
    from workers.runtime.whereabouts import shown

    facts = [(row, said) for row in leases if (said := _said(row)) is not None]
    names = [said.instance for _, said in facts]
    owners = Counter(max(names, key=lambda name: rank(row.correlation_id, name)) for row in open_rows if names)
    ready = {one.pid: one for one in here}
    seats = []
    for row, said in facts:
        process = ready.get(_pid(said.host)) if (lives := alive(said.host)) else None
        overdue = now - row.timestamp > said.duration_ms * 1000
        seats.append(
            Seat(
                instance=said.instance,
                host=shown(said.host),
                engine=said.engine,
                state=_state(lives, process),
                lease="alone" if len(facts) == 1 else "overdue" if overdue else "held",
                lease_s=said.duration_ms / 1000,
                renewed=row.timestamp,
                since=int(process.since * 1e6) if process else None,
                share=1 / len(facts),
                waiting=owners[said.instance],
            )
        )
    return seats


def _state(lives: bool | None, process: Running | None) -> str:
    if lives is None:
        return "elsewhere"
    if not lives:
        return "dead"
    return "ready" if process is None or process.ready else "starting"


def _pid(host: str) -> int:
    from workers.runtime.whereabouts import shown

    pid = shown(host).rpartition(":")[2]
    return int(pid) if pid.isdecimal() else -1


def _said(row: Message) -> InstanceChanged | None:
    from workers.runtime.membership import lease_fact

    return lease_fact(row)

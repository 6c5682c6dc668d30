"""Agents as the log and this machine know them: registered, running, and what waits for each."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from apps.cli import history
from schemas.payloads import InstanceChanged

if TYPE_CHECKING:
    from jobs.bootstrap import System
    from jobs.liveness import Running
    from schemas.envelope import Message


@dataclass
class Member:
    """`state`: ready, starting, stopped, or unknown for an addressee we never heard of. Times are UTC microseconds."""

    agent: str
    state: str
    pid: int | None
    engine: str | None
    since: int | None
    waiting: int
    oldest: int | None
    later: int
    kinds: list[str]
    instances: list[str]


def roster(system: System) -> list[Member]:
    from jobs.agents import AGENTS
    from jobs.liveness import running

    rows = history.everything(system)
    return members(rows, running(system.home), [agent.name for agent in AGENTS], time.time_ns() // 1000)


def members(rows: Iterable[Message], running: Mapping[str, Running], ours: Iterable[str], now: int) -> list[Member]:
    """Ours first, then everybody else who ever registered or is written to."""
    from bus.fold import State

    state = State()
    state.load(rows := list(rows))
    facts: dict[str, dict[str, InstanceChanged]] = {}
    for row in rows:
        if row.kind == InstanceChanged.kind() and row.message_type == "event":
            said = InstanceChanged.model_validate_json(row.content)
            if said.agent == row.from_agent:
                facts.setdefault(said.agent, {})[said.instance] = said
    known = dict.fromkeys([*ours, *facts])
    names = dict.fromkeys([*known, *(agent for _, agent in state.open)])
    return [_member(n, n in known, facts.get(n, {}), running.get(n), state.open_for(n), now) for n in names]


def _member(
    name: str,
    known: bool,
    instances: Mapping[str, InstanceChanged],
    here: Running | None,
    open_rows: list[Message],
    now: int,
) -> Member:
    due = [row for row in open_rows if row.not_before is None or row.not_before <= now]
    # An instance that was killed never says so: on this machine the lock knows better than the log.
    alive = [i.instance for i in instances.values() if i.step == "started"] if here else []
    newest = list(instances.values())[-1] if instances else None
    return Member(
        agent=name,
        state=("ready" if here.ready else "starting") if here else "stopped" if known else "unknown",
        pid=here.pid if here else None,
        engine=here.engine if here else None,
        since=int(here.since * 1e6) if here else None,
        waiting=len(due),
        oldest=min((row.timestamp for row in due), default=None),
        later=len(open_rows) - len(due),
        kinds=list(newest.kinds) if newest else [],
        instances=alive[-1:],
    )

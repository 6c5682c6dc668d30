"""Whether anybody runs an agent: on this machine by its locks, elsewhere by the log's leases."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jobs.bootstrap import System


def absent(system: System, agent: str) -> bool:
    """True when no instance of it is known to live. What is sent to it waits in the log."""
    from pyarrow import compute as pc

    from bus.fold import State
    from bus.log import rows as codec
    from jobs.liveness import processes
    from schemas.payloads import InstanceChanged
    from schemas.tables import AGENT_MESSAGES
    from workers.runtime.membership import lease_fact
    from workers.runtime.whereabouts import alive

    if any(one.agent == agent for one in processes(system.home)):
        return False
    table = system.log(AGENT_MESSAGES.name)
    registered = (pc.field("from_agent") == agent) & (pc.field("kind") == InstanceChanged.kind())
    accept = system.accept(table.check())
    state = State()
    state.load(row for row in codec.from_arrow(table.scan(filters=registered)[0]) if accept(row))
    facts = [lease_fact(row) for row in state.leases.values()]
    # An instance that was killed never said so: of this machine's processes the kernel knows better.
    return all(fact is None or alive(fact.host) is False for fact in facts)


def absent_words(agent: str) -> tuple[str, str, str]:
    """What to say of it: before, the command, after."""
    from jobs.agents import AGENTS

    known = any(one.name == agent for one in AGENTS)
    command = "tailrace up" if known else "tailrace worker MODULE:CLASS"
    return f"nobody runs {agent} now: the message waits in the log until somebody does (", command, ")"

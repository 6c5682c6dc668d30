"""The agents there are, which process each runs in, and how each is built: an explicit list, no scanning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from workers.runtime.base import Worker

if TYPE_CHECKING:
    from jobs.bootstrap import System


@dataclass(frozen=True)
class Agent:
    """`name` on the bus, `short` on the command line, `host` whose process it runs in, `key` that signs for it.

    Governance and execution have processes and keys of their own, whatever else shares a host. `engine` None: the one
    the host was started with. `single`: at most one instance on a machine.
    """

    name: str
    short: str
    host: str
    build: Callable[[System], Worker]
    engine: str | None = None
    single: bool = False


def _orchestrator(system: System) -> Worker:
    from workers.adapters.rules.intents import RuleIntents
    from workers.orchestrator.agent import OrchestratorAgent

    _ = system.semantic  # read now, not at the first question
    return OrchestratorAgent(system.plans, RuleIntents(system.is_data), system.roles)


def _rag(system: System) -> Worker:
    from workers.rag.agent import RAGAgent

    return RAGAgent(system.knowledge_index(), system.result_catalog(), library=system.knowledge_library())


def _code(system: System) -> Worker:
    from workers.code.agent import CodeAgent

    return CodeAgent(system.semantic, system.source_columns(), system.roles)


def _governance(system: System) -> Worker:
    from workers.governance.agent import GovernanceAgent

    return GovernanceAgent(
        system.roles,
        system.policy,
        system.settings.env,
        system.delegations,
        system.lineage.reads,
        approval_ttl_s=system.settings.approval_ttl_s,
        grant_ttl_s=system.settings.grant_ttl_s,
    )


def _execution(system: System) -> Worker:
    from workers.adapters.remains import Remains
    from workers.execution.agent import ExecutionAgent
    from workers.execution.limits import Limits
    from workers.runtime.whereabouts import whereabouts

    settings = system.settings
    limits = Limits(
        # A run may wait for others in its engine, and waits no longer than those may take.
        run_s=settings.run_timeout_s * (settings.runs_at_once + 1),
        at_once=settings.runs_at_once,
        per_principal=settings.runs_per_principal,
        rows=settings.result_rows,
        bytes=settings.result_bytes,
    )
    gone = Remains(system.home.root).gone
    return ExecutionAgent(system.execution_engine(), system.roles, settings.env, limits, whereabouts(), gone)


AGENTS: tuple[Agent, ...] = (
    Agent("OrchestratorAgent", "orchestrator", "main", _orchestrator),
    Agent("RAGAgent", "rag", "main", _rag),
    Agent("CodeAgent", "code", "main", _code),
    Agent("GovernanceAgent", "governance", "governance", _governance, engine="tail"),
    # Its Spark must not read the tables, so what feeds it cannot be its Spark. On a local file system a Delta table has one
    # writing JVM at most, so the warehouse has one.
    Agent("ExecutionAgent", "execution", "execution", _execution, engine="tail", single=True),
)

#: Who vouches for the written states of the log: no agent, but a subject with a key.
UPKEEP = "Upkeep"

#: Processes of `tailrace up`, in the order they are started.
HOSTS: tuple[str, ...] = tuple(dict.fromkeys(agent.host for agent in AGENTS))


def agents_of(host: str) -> list[Agent]:
    return [agent for agent in AGENTS if agent.host == host]


def find(name: str) -> Agent:
    """By name on the bus, by name on the command line, or `module:Class` for an agent of one's own. Raises UnknownAgent."""
    if ":" in name:
        return own_agent(name)
    full = full_name(name)
    for agent in AGENTS:
        if agent.name == full:
            return agent
    known = ", ".join(agent.short for agent in AGENTS)
    raise UnknownAgent(f"there is no agent {name}; there are {known}, and `module:Class` names one of your own")


def full_name(asked: str) -> str:
    """An agent's name on the bus by either of its names; one that is not ours stays as it is."""
    return next((agent.name for agent in AGENTS if asked.lower() in (agent.name.lower(), agent.short)), asked)


class UnknownAgent(LookupError):
    """No agent by that name, or nothing at that place that is a Worker."""


def own_agent(place: str) -> Agent:
    """An agent that somebody else wrote: its class is called without arguments, in a host of its own name."""
    module, _, name = place.partition(":")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise UnknownAgent(f"{place} cannot be imported: {error}") from error
    if not (isinstance(found, type) and issubclass(found, Worker)):
        raise UnknownAgent(f"{place} is no subclass of tailrace.Worker")
    return Agent(found.name, place, f"own-{found.name}", lambda _: found())


def key_of(agent: Agent) -> str:
    """Id of the key that signs for it: one a host."""
    return f"host-{agent.host}"

"""The workers that replay: today's, or those that were named, with ports that have no effects."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING

from bus.errors import LogMissing
from bus.trust import Trust
from config import files
from config.files import ConfigError
from jobs.agents import AGENTS, UnknownAgent, find, full_name
from jobs.bootstrap import RoleRights, System
from jobs.replay.request import CannotReplay, ReplayRequest
from schemas.envelope import Message
from schemas.tables import AGENT_SHARED_MEMORY, EXECUTIONS
from workers.ports import Engine, ResultCatalog
from workers.runtime.base import Worker
from workers.runtime.replaying import Moment, Replayer

if TYPE_CHECKING:
    from workers.adapters.replaying import MemoryThen


class ReplaySystem(System):
    """The system as hosts have it, but for its effects: what would act answers as the log did."""

    def __init__(self, system: System, moment: Moment) -> None:
        super().__init__(system.settings, system.clock)
        self._moment = moment

    def execution_engine(self) -> Engine:
        from workers.adapters.replaying import ReplayingEngine

        return ReplayingEngine(self._moment)

    def result_catalog(self) -> ResultCatalog:
        from workers.adapters.knowledge.results import DeltaResultCatalog
        from workers.adapters.replaying import LogThen

        then = LogThen(self.log(EXECUTIONS.name), self._moment)
        return DeltaResultCatalog(then, self.home.warehouse, self.canonical())

    def memory_then(self) -> MemoryThen:
        from workers.adapters.replaying import MemoryThen

        rights = RoleRights(self.roles)
        log = self.log(AGENT_SHARED_MEMORY.name)
        try:
            table_id = log.check()
        except LogMissing:
            return MemoryThen(None, rights, lambda _: False, self._moment)
        return MemoryThen(log, rights, self.accept(table_id), self._moment)


class Crew:
    """`only`: the agents whose messages are replayed, None for all. `places`: which code each agent runs."""

    def __init__(self, system: System, request: ReplayRequest, trust: Trust, claims: Mapping[str, Message]) -> None:
        self._moment = Moment()
        self._system = ReplaySystem(system, self._moment)
        self._files = request.files
        self._trust = trust
        self._claims = claims
        self._named = _named(request)
        with files.replaced(self._files):
            self.memory = self._system.memory_then()
        self._replayers: dict[str, Replayer | None] = {}
        self.places: dict[str, str] = {}

    async def replayer(self, agent: str) -> Replayer | None:
        """None when there is no code for it here."""
        if agent not in self._replayers:
            worker = self._built_from_files(agent)
            if worker is not None:
                self.places[agent] = f"{type(worker).__module__}:{type(worker).__qualname__}"
                await worker.warm()
            self._replayers[agent] = None if worker is None else self._replayer(worker)
        return self._replayers[agent]

    def _replayer(self, worker: Worker) -> Replayer:
        return Replayer(worker, self._trust, self._moment, self._claims, self._system.may_redrive, self.memory)

    async def close(self) -> None:
        for replayer in self._replayers.values():
            if replayer is not None:
                await replayer.worker.close()

    def _built_from_files(self, agent: str) -> Worker | None:
        try:
            with files.replaced(self._files):
                return self._built(agent)
        except (ConfigError, CannotReplay, UnknownAgent):
            raise
        except Exception as error:
            if not self._files:
                raise
            named = ", ".join(str(path) for path in self._files.values())
            raise CannotReplay(f"{agent} cannot be made with {named}: {error}") from error

    def _built(self, name: str) -> Worker | None:
        shipped = next((agent.build for agent in AGENTS if agent.name == name), None)
        if name not in self._named:
            return None if shipped is None else shipped(self._system)
        worker = _made(self._named[name], self._system, shipped)
        # What it stands in for is what it speaks as.
        worker.name = name
        return worker


def only(request: ReplayRequest) -> frozenset[str] | None:
    """The agents whose messages a request is about; None for all. Raises CannotReplay or UnknownAgent."""
    named = _named(request)
    return frozenset(named if request.agent is None else {full_name(request.agent)}) or None


def _named(request: ReplayRequest) -> dict[str, str]:
    """Agent -> the worker that was named for it. A single one may stand in for an agent of another name."""
    named = {find(place).name: place for place in request.workers}
    if request.agent is None or not named or (asked := full_name(request.agent)) in named:
        return named
    if len(named) > 1:
        raise CannotReplay(f"which of {', '.join(named)} is to stand in for {asked}? Name one worker.")
    (place,) = named.values()
    return {asked: place}


def _made(place: str, system: System, shipped: Callable[[System], Worker] | None) -> Worker:
    try:
        return find(place).build(system)
    except TypeError as error:
        # It wants arguments. One that only changes what a shipped agent does gets what that agent gets.
        module, _, name = place.partition(":")
        kind = getattr(import_module(module), name)
        model = shipped(system) if shipped is not None else None
        if model is None or not issubclass(kind, type(model)) or kind.__init__ is not type(model).__init__:
            raise CannotReplay(
                f"{place} cannot be made without arguments ({error}); give it a constructor that needs none"
            ) from error
        worker: Worker = kind.__new__(kind)
        vars(worker).update(vars(model))
        return worker

"""The one place that builds real things and wires them: settings in, hosts and clients out."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from bus.audit import AuditChain
from bus.base import Bus, Feed
from bus.client import TailraceClient
from bus.errors import LogMissing, UnfitStore
from bus.flow import FlowGauge
from bus.home import Home
from bus.keyring_watch import WatchedKeyring, WatchedTrust
from bus.keys import Keyring, KeyWitness, Signer
from bus.log.bus import LogBus
from bus.log.consumers import Consumers, Registered
from bus.log.object_store import open_store
from bus.log.seal import SigningSeal
from bus.log.snapshot import Snapshots
from bus.log.store import Pace
from bus.log.table import DeltaLog
from bus.log.upkeep import Folding, Limits, Upkeep
from bus.projections.projector import Projector
from bus.projections.tables import projections
from bus.redaction import Redactor
from bus.shared import Rights, SharedMemory
from bus.tail import TailFeed
from bus.trust import Trust
from config import files
from config.roles import Roles as ConfiguredRoles
from config.roles import UnknownUser as UnknownToConfig
from config.settings import Settings
from jobs.agents import UPKEEP, Agent
from jobs.redaction import load_redactor
from jobs.telemetry import Spans
from schemas.envelope import Message
from schemas.tables import (
    AGENT_MESSAGES,
    AGENT_SHARED_MEMORY,
    EXECUTIONS,
    KNOWLEDGE_CHUNKS,
    KNOWLEDGE_DOCUMENTS,
    TABLES,
)
from workers.adapters.delegations import DelegationLog
from workers.orchestrator.plans import Plans
from workers.ports import CouldNotMap, Engine, KnowledgeIndex, ResultCatalog, SqlWriter, UnknownUser
from workers.runtime.clock import Clock, SystemClock
from workers.runtime.host import Host
from workers.runtime.leases import Timing
from workers.runtime.memory import HandlerMemory
from workers.runtime.middleware import Middleware
from workers.runtime.middleware.retry import Retry
from workers.runtime.middleware.time_limit import time_limit
from workers.runtime.redrive import PERMISSION as MANAGE_AGENTS

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from bus.streaming.spark_bus import SparkBus
    from bus.streaming.spark_log import SparkLog
    from jobs.facts import HostFacts
    from jobs.unity import StateKeeping, Unity
    from workers.adapters.knowledge.store import KnowledgeStore
    from workers.governance.lineage import Lineage
    from workers.governance.policy import PolicyEngine

#: The host that keeps the projections up to date.
PROJECTING_HOST = "main"


class System:
    """Everything that is built from one home and its settings. Nothing is opened before it is asked for."""

    def __init__(self, settings: Settings, clock: Clock | None = None) -> None:
        self.settings = settings
        self.home = Home(Path(settings.home).absolute(), settings.tables)
        self.clock = clock or SystemClock()

    # --- tables, keys, buses -----------------------------------------------------------------------------------------

    @property
    def unity_schema(self) -> str | None:
        """`catalog.schema` when agent_messages is in Unity Catalog (`uc://catalog.schema`), where Spark writes it."""
        return self.home.catalogue

    @cached_property
    def unity(self) -> Unity:
        """What is wired otherwise there."""
        from jobs.unity import Unity

        return Unity(self)

    def log(self, table: str) -> DeltaLog | SparkLog:
        """To read. Only tables that we write ourselves are a DeltaLog, which can be written too."""
        if table == AGENT_MESSAGES.name and self.unity_schema is not None:
            return self.unity.log
        settings = self.settings
        pace = Pace(settings.poll_ms / 1000, max(settings.poll_ms, settings.idle_poll_ms) / 1000)
        store = open_store(self.home.table(table), settings.durability, pace)
        return DeltaLog(store, TABLES[table], now=self.clock.now)

    def bus(self, agents: Sequence[Agent]) -> LogBus | SparkBus:
        """A bus that signs for these agents and nobody else."""
        if self.unity_schema is not None:
            return self.unity.bus(agents)
        table = self.log(AGENT_MESSAGES.name)
        table_id = table.check()
        signer = Signer.load(self.home.keys, [agent.name for agent in agents], table_id, self.settings.env)
        chain = AuditChain(f"{agents[0].host}-{uuid.uuid4().hex[:8]}")
        return LogBus(
            table,
            seal=SigningSeal(signer, chain, self.redactor),
            snapshots=self.snapshots(table, table_id),
            linger_ms=self.settings.linger_ms,
            accept=self.accept(table_id, [agent.name for agent in agents]),
        )

    def follower(self, accept: Callable[[Message], bool]) -> LogBus | SparkBus:
        """A bus that knows the whole history, and signs for nobody."""
        return (
            LogBus(self.log(AGENT_MESSAGES.name), accept=accept) if self.unity_schema is None else self.unity.follower()
        )

    @cached_property
    def redactor(self) -> Redactor:
        """Raises ConfigError."""
        return load_redactor()

    def snapshots(self, table: DeltaLog | SparkLog, table_id: str, *, writes: bool = False) -> Snapshots:
        """Written states of this log, vouched for by upkeep's key. `writes`: with that key at hand."""
        env = self.settings.env
        signer = Signer.load(self.home.keys, [UPKEEP], table_id, env) if writes else None
        return Snapshots(table, KeyWitness(Keyring.load(self.home.keys), UPKEEP, (table_id, env), signer))

    def client(self, user: str) -> TailraceClient:
        settings = self.settings
        return TailraceClient(
            self.home.root,
            user=user,
            environment=settings.env,
            tables=settings.tables,
            durability=settings.durability,
            redactor=self.redactor,
        )

    def accept(self, table_id: str, ours: Sequence[str] = ()) -> Callable[[Message], bool]:
        """Whether a row is signed by whom it names. `ours`: whom this process signs for."""
        ring = WatchedKeyring(self.home.keys, ours=ours)
        return partial(ring.accepts, table_id=table_id, environment=self.settings.env)

    def trust(self, table_id: str) -> Trust:
        return WatchedTrust(WatchedKeyring(self.home.keys), table_id, self.settings.env)

    # --- upkeep ------------------------------------------------------------------------------------------------------

    def consumers(self, table: DeltaLog | SparkLog) -> Consumers:
        return Consumers(table, self.settings.consumer_lost_after_s)

    def upkeep(self, name: str, heard: Callable[[Sequence[Message]], None] = lambda _: None) -> Upkeep | StateKeeping:
        """`heard`: told the rows of agent_messages. Raises MissingKey for it when this process cannot vouch for its states."""
        if name == AGENT_MESSAGES.name and self.unity_schema is not None:
            return self.unity.upkeep(heard)
        table = self.log(name)
        table_id = table.check()
        folding = None
        if name == AGENT_MESSAGES.name:
            folding = Folding(self.snapshots(table, table_id, writes=True), self.accept(table_id), heard)
        return Upkeep(table, self.consumers(table), Limits(keep_s=self.settings.upkeep_keep_files_s), folding)

    # --- hosts -------------------------------------------------------------------------------------------------------

    @property
    def middlewares(self) -> list[Middleware]:
        """Around every handler, outermost first; what makes spans stands before them."""
        return [Retry(self.clock), time_limit]

    def host(self, agents: Sequence[Agent], engine: str) -> Host:
        """A host for these agents with the feed of `engine` (an agent's own engine wins)."""
        engine = agents[0].engine or engine
        self.check_engine(engine)
        names = [agent.name for agent in agents]
        workers = [agent.build(self) for agent in agents]
        bus = self.bus(agents)
        feed = self.feed(bus, engine)
        messages = self.log(AGENT_MESSAGES.name)
        spans = Spans(self.settings, agents[0].host, self.redactor)
        position = Registered(
            self.consumers(messages),
            f"{agents[0].host}-{uuid.uuid4().hex[:8]}",
            lambda: min(bus.state.version, feed.position),
        )
        return Host(
            workers,
            bus,
            feed,
            self.trust(bus.table_id),
            self.clock,
            [*spans.middlewares, *self.middlewares],
            engine=engine,
            companions=[
                spans,
                position,
                FlowGauge(bus, messages.store, names, self.settings.flow_high),
                *([self.delegations.follow(bus)] if "GovernanceAgent" in names else []),
                self.facts(bus, agents),
                *([self.projector(bus)] if agents[0].host == PROJECTING_HOST else []),
            ],
            timing=Timing(self.settings.lease_s if self.unity_schema is None else self.unity.lease_s),
            may_redrive=self.may_redrive,
            memory_of=partial(HandlerMemory, self.shared_memory(names)),
        )

    def facts(self, bus: Bus, agents: Sequence[Agent]) -> HostFacts:
        """What this host runs with, said in its own audit chain."""
        from jobs.facts import HostFacts, chosen, configuration

        host, settings = agents[0].host, self.settings
        return HostFacts(
            bus,
            host,
            [agent.name for agent in agents],
            self.home.keys,
            self.home.run / f"facts-{host}.json",
            lambda: (configuration(settings, lambda: self.policy.digest), chosen(settings)),
            self.clock,
        )

    def may_redrive(self, user: str) -> bool:
        """Whether this user may have everybody's messages delivered again, not only those of conversations of their own."""
        return self.roles.allows(user, MANAGE_AGENTS)

    def shared_memory(self, writers: Sequence[str]) -> SharedMemory:
        """Signs for these writers and nobody else. A home that was made before it had the table has none until `init`."""
        log = self.log(AGENT_SHARED_MEMORY.name)
        try:
            table_id = log.check()
        except LogMissing:
            return SharedMemory(log)
        signer = Signer.load(self.home.keys, writers, table_id, self.settings.env)
        return SharedMemory(log, RoleRights(self.roles), signer.sign, self.accept(table_id), self.redactor.value)

    def projector(self, bus: LogBus | SparkBus) -> Projector:
        accept = self.accept(bus.table_id)
        above = None if self.unity_schema is None else self.unity.valid_above
        made = projections(self.log, accept)
        return Projector(bus, self.log(AGENT_MESSAGES.name), made, accept=accept, valid_above=above)

    def check_engine(self, engine: str) -> None:
        """Raises UnfitStore when the tables are where this engine cannot read them."""
        if self.unity_schema is not None:
            self.unity.check_engine(engine)
        if engine != "tail" and self.unity_schema is None and not isinstance(self.home.tables, Path):
            raise UnfitStore(
                f"Structured Streaming reads tables in a folder or in Unity Catalog, and these are at {self.home.tables}; "
                "use --engine tail (or TAILRACE_ENGINE=tail)"
            )

    def feed(self, bus: LogBus | SparkBus, engine: str) -> Feed:
        self.check_engine(engine)
        if engine == "tail":
            return TailFeed(bus)
        if self.unity_schema is not None:
            return self.unity.stream(bus)
        from bus.streaming.feed import StreamingFeed

        checkpoints = self.home.checkpoints / f"host-{os.getpid()}"
        return StreamingFeed(bus, bus.table, checkpoints, streaming_session)

    # --- what agents ask for -----------------------------------------------------------------------------------------

    @cached_property
    def plans(self) -> Plans:
        return Plans.parse(files.yaml("mas_config.yaml"))

    @cached_property
    def roles(self) -> RoleBook:
        return RoleBook(ConfiguredRoles.load(self.settings.env))

    @property
    def users(self) -> Sequence[str]:
        return self.roles.users

    @cached_property
    def policy(self) -> PolicyEngine:
        """Raises BadPolicy."""
        from jobs.policies import load_policy
        from workers.governance.policy import PolicyEngine

        return PolicyEngine(load_policy(ConfiguredRoles.load(self.settings.env)).policy)

    @cached_property
    def lineage(self) -> Lineage:
        from workers.adapters.lakehouse import LakehouseColumns
        from workers.governance.lineage import Lineage

        return Lineage(LakehouseColumns(self.home.warehouse))

    @cached_property
    def delegations(self) -> DelegationLog:
        """Who may decide in whose name. A host that follows the log follows these with it."""
        from bus.past import TablePast

        table = self.log(AGENT_MESSAGES.name)
        past = self.unity.past if self.unity_schema is not None else TablePast(table, lambda _: False, True)
        return DelegationLog(past.events, self.accept(table.check()))

    @cached_property
    def semantic(self) -> SqlWriter:
        from workers.adapters.semantic.layer import SemanticLayer

        return SemanticLayer.load(files.text("semantic/tpch.yaml"))

    def is_data(self, question: str) -> bool:
        try:
            self.semantic.write(question)
        except CouldNotMap:
            return False
        return True

    def canonical(self) -> Callable[[str], str]:
        canonical: Callable[[str], str] = self.semantic.canonical
        return canonical

    def source_columns(self) -> Mapping[str, Sequence[str]]:
        """Columns by `schema.table` of everything in the warehouse now."""
        from deltalake import DeltaTable

        found: dict[str, list[str]] = {}
        for log in sorted(self.home.warehouse.glob("*/*/_delta_log")):
            table = log.parent
            schema = DeltaTable(str(table)).schema()
            found[f"{table.parent.name}.{table.name}"] = [field.name for field in schema.fields]
        return found

    def knowledge_index(self) -> KnowledgeIndex:
        from workers.adapters.knowledge.index import BM25Index
        from workers.adapters.knowledge.store import KnowledgeStore

        return BM25Index(KnowledgeStore(self.log(KNOWLEDGE_DOCUMENTS.name), self.log(KNOWLEDGE_CHUNKS.name)))

    def knowledge_library(self) -> KnowledgeStore:
        from workers.adapters.knowledge.store import KnowledgeStore

        return KnowledgeStore(self.log(KNOWLEDGE_DOCUMENTS.name), self.log(KNOWLEDGE_CHUNKS.name))

    def result_catalog(self) -> ResultCatalog:
        from workers.adapters.knowledge.results import DeltaResultCatalog

        return DeltaResultCatalog(self.log(EXECUTIONS.name), self.home.warehouse, self.canonical())

    def execution_engine(self) -> Engine:
        """Raises ConfigError when a warehouse is wanted and not all is said that it needs."""
        from jobs.engines import execution_engine

        return execution_engine(self.settings, self.home)


class RoleBook:
    """The configured roles, as the agents' port."""

    def __init__(self, roles: ConfiguredRoles) -> None:
        self._roles = roles

    @property
    def users(self) -> Sequence[str]:
        return sorted(self._roles.users)

    def role_of(self, user: str) -> str:
        try:
            return self._roles.role_of(user)
        except UnknownToConfig as error:
            raise UnknownUser(str(error)) from error

    def allows(self, user_or_role: str, permission: str) -> bool:
        return self._roles.allows(user_or_role, permission)

    def is_bot(self, user: str) -> bool:
        return self._roles.is_bot(user)


class RoleRights(Rights):
    """The configured roles, as shared memory asks for them."""

    def __init__(self, roles: RoleBook) -> None:
        self._roles = roles

    def role_of(self, principal: str | None) -> str | None:
        try:
            return self._roles.role_of(principal or "")
        except UnknownUser:
            return None

    def manages(self, principal: str | None) -> bool:
        return principal is not None and self._roles.allows(principal, MANAGE_AGENTS)


def streaming_session() -> SparkSession:
    from bus.streaming.session import spark_session

    return spark_session(
        "tailrace-host",
        conf={
            # Checksums of the checkpoint cost a process start each on a local file system without native Hadoop.
            "spark.sql.streaming.checkpoint.fileChecksum.enabled": "false",
            "spark.sql.streaming.minBatchesToRetain": "2",
            "spark.sql.streaming.metricsEnabled": "false",
        },
    )

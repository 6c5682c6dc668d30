"""A home for measuring: keys and tables, one user, one agent that answers; signatures on, or off to see what they cost."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

from bus.audit import AuditChain
from bus.client import TailraceClient
from bus.keys import Signer, create_keys
from bus.log.bus import LogBus
from bus.log.seal import SigningSeal
from bus.log.snapshot import Snapshots
from bus.log.store import Durability
from bus.log.table import DeltaLog
from bus.trust import Trust, TrustEverybody
from config.settings import Settings
from jobs.agents import UPKEEP, Agent, key_of
from jobs.bootstrap import System
from schemas.envelope import USER, Message
from schemas.tables import AGENT_MESSAGES

USER_NAME = "ana"


class BenchSystem(System):
    """As `tailrace init` and `tailrace worker` set it up, without sample data."""

    def __init__(self, home: Path, durability: Durability = "os", signed: bool = True) -> None:
        super().__init__(Settings.load(home=str(home), durability=durability))
        self.signed = signed

    def make(self, agents: Sequence[Agent]) -> None:
        holders = {key_of(agent): [agent.name] for agent in agents} | {"upkeep": [UPKEEP]}
        create_keys(self.home.keys, {**holders, f"user-{USER_NAME}": [USER + USER_NAME]}, 0)
        self.log(AGENT_MESSAGES.name).create()

    def bus(self, agents: Sequence[Agent]) -> LogBus:
        if self.signed:
            return super().bus(agents)
        table = self.log(AGENT_MESSAGES.name)
        return LogBus(table, snapshots=self.snapshots(table, ""), linger_ms=self.settings.linger_ms)

    def snapshots(self, table: DeltaLog, table_id: str, *, writes: bool = False) -> Snapshots:
        return super().snapshots(table, table_id, writes=writes) if self.signed else Snapshots(table)

    def trust(self, table_id: str) -> Trust:
        return super().trust(table_id) if self.signed else TrustEverybody()

    def accept(self, table_id: str, ours: Sequence[str] = ()) -> Callable[[Message], bool]:
        return super().accept(table_id, ours) if self.signed else lambda _: True

    def sending_bus(self) -> LogBus:
        """As a client opens it: from the head, without the past."""
        table = self.log(AGENT_MESSAGES.name)
        if not self.signed:
            return LogBus(table, follow_only=True)
        table_id = table.check()
        signer = Signer.load(self.home.keys, [USER + USER_NAME], table_id, self.settings.env)
        seal = SigningSeal(signer, AuditChain(f"bench-{uuid.uuid4().hex[:8]}"))
        return LogBus(table, seal=seal, follow_only=True, accept=self.accept(table_id))

    def sending_client(self) -> TailraceClient:
        """A client with the home's durability."""
        return TailraceClient(user=USER_NAME, bus=self.sending_bus())

"""A stage for conversations: one log in memory, a real key for everybody, and hands that may write what they should not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from bus.audit import AuditChain
from bus.client import TailraceClient
from bus.fold import State
from bus.keys import Keyring, Signer, create_keys
from bus.log.seal import SigningSeal
from bus.memory import MemoryBus, MemoryLog
from bus.past import MemoryPast
from bus.tail import TailFeed
from bus.trust import SignedTrust
from schemas.envelope import USER, Message
from schemas.payloads import KINDS, Answered, Ask, Decide, Payload
from tests.fakes import FakeEngine, FakeSqlWriter, FixedRoles, ManualClock, eventually, sample_policy
from workers.adapters.delegations import DelegationLog
from workers.adapters.rules.intents import RuleIntents
from workers.code.agent import CodeAgent
from workers.execution.agent import ExecutionAgent
from workers.governance.agent import GovernanceAgent
from workers.governance.approvals import Approval, approvals
from workers.governance.policy import PolicyEngine
from workers.orchestrator.agent import OrchestratorAgent
from workers.orchestrator.plans import Plans
from workers.runtime.base import Worker
from workers.runtime.clock import micros
from workers.runtime.host import Host
from workers.runtime.middleware.retry import Retry
from workers.runtime.middleware.time_limit import time_limit

AGENTS = ("OrchestratorAgent", "RAGAgent", "CodeAgent", "GovernanceAgent", "ExecutionAgent")
PEOPLE = ("ana", "eli", "kim", "ada", "ned", "bob", "zoe", "bea", "rob")
TABLE, ENVIRONMENT = "the-table", "test"
QUESTION = "Execute SQL to find the top customers and save to table x"


class Stage:
    """`engine` is what execution runs on; `hosts` are closed at the end."""

    def __init__(self, folder: Path, engine: FakeEngine | None = None, policy: PolicyEngine | None = None) -> None:
        self.log = MemoryLog()
        self.policy = policy or sample_policy()
        self.lent = DelegationLog(MemoryPast(self.log).events)
        self.clock = ManualClock()
        self.engine = engine or FakeEngine()
        self.roles = FixedRoles()
        self.keys = folder / "keys"
        holders: dict[str, Sequence[str]] = {name: [name] for name in AGENTS}
        holders |= {name: [USER + name] for name in PEOPLE}
        create_keys(self.keys, holders, self.now)
        self.hosts: list[Host] = []

    @property
    def now(self) -> int:
        return micros(self.clock.now())

    def workers(self) -> list[Worker]:
        plans = Plans.parse(yaml.safe_load(Path("config/mas_config.yaml").read_text()))
        return [
            OrchestratorAgent(plans, RuleIntents(lambda _: True), self.roles),
            CodeAgent(FakeSqlWriter(), {"tpch.customer": ["c_name"]}, self.roles),
            GovernanceAgent(self.roles, self.policy, ENVIRONMENT, self.lent),
            ExecutionAgent(self.engine, self.roles, ENVIRONMENT),
        ]

    def bus(self, *speakers: str, state: State | None = None) -> MemoryBus:
        """A bus that signs for these, and for nobody else."""
        seal = SigningSeal(Signer.load(self.keys, speakers, TABLE, ENVIRONMENT), AuditChain("-".join(speakers)))
        return MemoryBus(self.log, seal=seal, state=state)

    async def host(self, *workers: Worker) -> Host:
        """All agents in one host, unless told which."""
        chosen = list(workers) or self.workers()
        bus = self.bus(*(worker.name for worker in chosen))
        trust = SignedTrust(Keyring.load(self.keys), TABLE, ENVIRONMENT)
        around = [Retry(self.clock), time_limit]
        host = Host(chosen, bus, TailFeed(bus), trust, self.clock, around)
        await host.start()
        self.hosts.append(host)
        return host

    async def stop(self, host: Host) -> None:
        self.hosts.remove(host)
        await host.stop()

    async def close(self) -> None:
        for host in self.hosts:
            await host.stop()

    # --- speaking ----------------------------------------------------------------------------------------------------

    def client(self, user: str) -> TailraceClient:
        return TailraceClient(user=user, bus=self.bus(USER + user), now_micros=lambda: self.now)

    def ask(self, user: str, question: str = QUESTION) -> Message:
        return self.client(user).send("OrchestratorAgent", Ask(question=question))

    def say(self, sender: str, to: str, payload: Payload, cause: Message, **envelope: Any) -> Message:
        """Something signed by an agent's or a person's own key, in somebody's conversation."""
        row = self.row(sender, to, payload, cause, **envelope)
        self.bus(sender).submit([row]).result()
        return row

    def forge(self, sender: str, to: str, payload: Payload, cause: Message, **envelope: Any) -> Message:
        """The same without any key."""
        row = self.row(sender, to, payload, cause, **envelope)
        MemoryBus(self.log).submit([row]).result()
        return row

    def row(self, sender: str, to: str, payload: Payload, cause: Message, **envelope: Any) -> Message:
        person = sender.startswith(USER)
        return Message(
            **{
                "message_id": f"said-{len(self.log.commits)}",
                "correlation_id": cause.correlation_id,
                "causation_id": cause.message_id,
                "from_agent": sender,
                "to_agent": to,
                "message_type": "event" if to == "*" else "request" if person else "response",
                "kind": payload.kind(),
                "content": payload.model_dump_json(),
                "timestamp": self.now,
                "principal": sender.removeprefix(USER) if person else cause.principal,
                **envelope,
            }
        )

    def decide(self, user: str, approval: Approval, decision: str = "approve", **changed: Any) -> Message:
        said = {"approval_id": approval.id, "decision": decision, "digest": approval.requested.digest} | changed
        return self.client(user).send(
            "GovernanceAgent",
            Decide.model_validate(said),
            correlation_id=approval.message.correlation_id,
            causation_id=approval.message.message_id,
        )

    # --- looking -----------------------------------------------------------------------------------------------------

    def rows(self, cause: Message, *kinds: str) -> list[Message]:
        bus = MemoryBus(self.log)
        return [m for m in bus.conversation(cause.correlation_id) if not kinds or m.kind in kinds]

    def payloads(self, cause: Message, kind: str) -> list[Any]:
        return [KINDS[kind].model_validate_json(m.content) for m in self.rows(cause, kind)]

    def facts(self, cause: Message) -> list[tuple[str, str]]:
        return [(fact.action, fact.rule) for fact in self.payloads(cause, "AuditRecorded")]

    async def pending(self, asked: Message) -> Approval:
        found = await eventually(lambda: list(approvals(self.rows(asked)).values()))
        return found[0]

    async def answer(self, asked: Message) -> Answered:
        found = await eventually(lambda: self.payloads(asked, "Answered"))
        return found[0]

    async def reply_to(self, message: Message) -> Any:
        """The payload of the response to this message."""
        row = await eventually(
            lambda: [
                m for m in self.rows(message) if m.causation_id == message.message_id and m.message_type == "response"
            ]
        )
        return KINDS[row[0].kind].model_validate_json(row[0].content)

    async def settled(self, *messages: Message) -> None:
        """Every one of these has its receipt."""
        ids = {m.message_id for m in messages}

        def receipted() -> bool:
            rows = [m for commit in list(self.log.commits) for m in commit]
            return ids <= {m.causation_id for m in rows if m.message_type == "receipt"}

        await eventually(receipted)

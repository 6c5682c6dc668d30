"""Where attacks on conversations take place: every agent with real keys and signatures, one log in memory, any guard off."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bus import memory
from bus.base import Bus
from bus.fold import State
from bus.memory import MemoryBus
from bus.trust import SignedTrust, TrustEverybody
from schemas.envelope import USER, Message
from schemas.payloads import Payload, RunCode
from tests.attacks.table import Attempt
from tests.fakes import FakeEngine, eventually
from tests.unit.agents.stage import Stage
from workers.code.agent import CodeAgent
from workers.execution import runs
from workers.governance import decisions
from workers.governance.approvals import Approval, approvals
from workers.runtime.base import Context, Outgoing, Received, Worker
from workers.runtime.claims import OwnClaims
from workers.runtime.host import Host


async def _without_digest(run: Any, *asked: Any, **_: Any) -> Any:
    return await run(*asked)


def _undecided(decided: Any) -> Any:
    """Claims count as often as they are made."""
    return lambda self, message: None if message.kind == "ExecutionClaimed" else decided(self, message)


class NoPrincipals(SignedTrust):
    """Signatures count, whom they speak for does not."""

    def _holds(self, row: Message, root: Message) -> None:
        self._signed(row)


class Hijacked(CodeAgent):
    """Does its work, until it believes what it reads: then it obeys."""

    name = "CodeAgent"
    arena: Arena

    async def handle(self, message: Received, context: Context) -> list[Outgoing]:
        if self.arena.hijacked is None:
            return await super().handle(message, context)
        return list(self.arena.hijacked(next(iter(approvals(context.conversation).values()))))


class Arena(Stage):
    """`without`: the guard that is switched off. `patch` undoes itself after the test."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, without: str | None = None, policy: Any = None) -> None:
        super().__init__(folder, FakeEngine(), policy)
        self.folder, self.without, self.patch = folder, without, patch
        #: What a taken-over CodeAgent says, given the approval of the conversation.
        self.hijacked: Callable[[Approval], Sequence[Outgoing]] | None = None
        if without == "size limit":
            patch.setattr(memory, "too_large", lambda _: None)
        if without == "claims":
            patch.setattr(State, "decided", _undecided(State.decided))
            patch.setattr(OwnClaims, "get", lambda *_: None)
        if without == "people only":
            patch.setattr(decisions, "person", lambda message: "ada")
            patch.setattr(runs, "check_grant", lambda *_, **__: None)
        if without == "four eyes":
            patch.setattr(decisions, "_whose", lambda *_: None)
        if without in ("grant check", "four eyes"):
            patch.setattr(runs, "check_grant", lambda *_, **__: None)
            # The engine looks once more at what it is about to run; both looks are this guard.
            patch.setattr(self.engine, "run", partial(_without_digest, self.engine.run))

    def workers(self) -> list[Worker]:
        found = super().workers()
        for worker in found:
            if isinstance(worker, CodeAgent):
                worker.__class__ = type("Hijacked", (Hijacked,), {"name": "CodeAgent", "arena": self})
        return found

    async def start(self) -> Host:
        """All agents in one host."""
        if self.without == "signatures":
            self.patch.setattr(SignedTrust, "check", TrustEverybody.check)
        if self.without == "principals":
            self.patch.setattr(SignedTrust, "_holds", NoPrincipals._holds)
        return await self.host()

    # --- what attackers do --------------------------------------------------------------------------------------------

    async def pending_request(self, user: str = "eli") -> tuple[Message, Approval]:
        """A request that waits for a person's yes."""
        asked = self.ask(user)
        return asked, await self.pending(asked)

    def write(self, row: Message, bus: Bus | None = None) -> Message:
        """A row as it is, without any key: what whoever can write files can do."""
        (bus or MemoryBus(self.log)).submit([row]).result()
        return row

    def copied(self, row: Message, **changed: Any) -> Message:
        """A row of the log once more; its signature included unless `changed` says otherwise."""
        return self.write(row.model_copy(update={"log_version": -1, "seq": -1, **changed}))

    def rewritten(self, row: Message, **content: Any) -> Message:
        """With other words under the same signature."""
        said = json.loads(row.content) | content
        return self.copied(row, message_id=f"{row.message_id}-rewritten", content=json.dumps(said))

    async def handled(self, *rows: Message) -> None:
        """These have their receipts, and nothing else waits for an agent that is there."""
        await self.settled(*rows)
        await self.quiet()

    async def quiet(self) -> None:
        here = {name for host in self.hosts for name in host.instances}

        def nothing_waits() -> bool:
            waiting = MemoryBus(self.log).state.open
            return not [1 for (_, agent), row in waiting.items() if agent in here and (row.not_before or 0) <= self.now]

        await eventually(nothing_waits)

    async def order(self, asked: Message) -> RunCode:
        """The executor's order of a conversation."""
        (row,) = await eventually(lambda: self.rows(asked, "RunCode"))
        return RunCode.model_validate_json(row.content)

    # --- what came of it ----------------------------------------------------------------------------------------------

    def refusals(self) -> frozenset[str]:
        """Every rule that refused something, in anybody's words."""
        rules = set()
        for commit in list(self.log.commits):
            for row in commit:
                if row.kind not in ("AuditRecorded", "Refused", "Failed", "DecisionAnswered"):
                    continue  # it may be no JSON
                said = json.loads(row.content)
                if (
                    (row.kind == "AuditRecorded" and said["decision"] in ("refused", "failed"))
                    or row.kind in ("Refused", "Failed")
                    or (row.kind == "DecisionAnswered" and not said["accepted"])
                ):
                    rules.add(said["rule"])
        return frozenset(rules)

    def outcome(self, effects: int = 0) -> Attempt:
        """It succeeded if more ran than may have."""
        return Attempt(len(self.engine.ran) > effects, self.refusals())

    def as_user(self, user: str, to: str, payload: Payload, cause: Message, **envelope: Any) -> Message:
        return self.say(USER + user, to, payload, cause, **envelope)

    def all_rows(self) -> Sequence[Message]:
        return [row for commit in list(self.log.commits) for row in commit]

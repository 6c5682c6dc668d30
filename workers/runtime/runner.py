"""The loop of an instance: take a message, check it, handle it, commit outputs and receipt together. The only one to do so."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence

import structlog
from pydantic import ValidationError

from bus.base import Bus
from bus.errors import Superseded, Untrusted
from bus.trust import Trust
from schemas.envelope import MALFORMED, Message
from schemas.payloads import Failed, Payload, Receipt, Refused
from workers.runtime.base import Context, Outgoing, Received, Worker, audit
from workers.runtime.clock import Clock, micros
from workers.runtime.commits import Commits
from workers.runtime.middleware import Handler, Middleware, stack

#: Name space of message ids derived from their cause.
_IDS = uuid.UUID("6d1a5c52-6f0e-4a5b-9d0e-7a1f2c3b4d5e")


class Rejected(Exception):
    """A message that cannot be handled by anybody; no attempt would change that."""

    def __init__(self, rule: str, reason: str) -> None:
        self.rule, self.reason = rule, reason
        super().__init__(f"{rule}: {reason}")


class Runner:
    """Handles messages for one instance of one worker."""

    def __init__(
        self,
        worker: Worker,
        instance: str,
        bus: Bus,
        trust: Trust,
        clock: Clock,
        middlewares: Sequence[Middleware],
        commits: Commits | None = None,
    ) -> None:
        self.worker = worker
        self.instance = instance
        self._bus = bus
        self._commits = commits or Commits(bus)
        self._trust = trust
        self._clock = clock
        self._kinds = worker.kinds()
        self._handle: Handler = stack(middlewares, worker)

    async def run(self, message: Message) -> None:
        """Handle one message to its receipt. Raises only what the bus raises."""
        await self.commit(await self.handle(message))

    async def commit(self, rows: Sequence[Message]) -> None:
        """Receipt and outputs in one commit. Superseded: another instance was faster; ours are dropped."""
        try:
            await self._commits.commit(rows)
        except Superseded as error:
            structlog.get_logger(__name__).info("handling.superseded", key=error.key)

    async def handle(self, message: Message) -> list[Message]:
        """The receipt of this message and what goes with it, to be committed. Raises nothing but a cancellation."""
        log = structlog.get_logger(__name__).bind(
            worker=self.worker.name, message=message.message_id, correlation=message.correlation_id
        )
        started = time.perf_counter()
        conversation: list[Message] = []
        try:
            conversation = self._check(message)
            received = Received(message, self._payload(message))
            context = self._context(message, conversation)
            outputs = await self._handle(received, context)
            receipt = Receipt(outcome="handled")
        except Rejected as error:
            receipt = Receipt(outcome="rejected", reason=str(error))
            outputs = self._aftermath(message, "message.rejected", error.rule, error.reason)
            log.warning("message.rejected", rule=error.rule, reason=error.reason)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            receipt = Receipt(outcome="dead", reason=reason, attempts=self.worker.max_attempts)
            outputs = self._aftermath(message, "message.dead", "worker.failed", reason)
            log.error("message.dead", reason=reason, exc_info=not isinstance(error, TimeoutError))
        elapsed = round((time.perf_counter() - started) * 1000, 2)
        return self._settled(message, receipt.model_copy(update={"handled_ms": elapsed}), outputs, conversation)

    # --- before ------------------------------------------------------------------------------------------------------

    def _check(self, message: Message) -> list[Message]:
        if message.kind == MALFORMED:
            raise Rejected("message.malformed", message.content)
        if message.expires_at is not None and message.expires_at < micros(self._clock.now()):
            raise Rejected("message.expired", "it was to be handled earlier, and was not")
        known = self._bus.conversation(message.correlation_id)
        # What came before, and what we have said ourselves since: of two decisions that waited, the second must see what
        # became of the first, and a timer what happened before it rang.
        conversation = [m for m in known if m.position <= message.position or m.from_agent == self.worker.name]
        try:
            return self._trust.check(message, conversation)
        except Untrusted as error:
            raise Rejected(error.rule, error.reason) from error

    def _payload(self, message: Message) -> Payload:
        model = self._kinds.get(message.kind)
        if model is None:
            known = ", ".join(sorted(self._kinds))
            raise Rejected(
                "message.unknown_kind", f"{self.worker.name} does not handle {message.kind}; it handles {known}"
            )
        try:
            return model.model_validate_json(message.content)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "content"
            raise Rejected("message.malformed", f"{message.kind}.{where}: {first['msg']}") from error

    def _context(self, message: Message, conversation: Sequence[Message]) -> Context:
        async def commit(outputs: Sequence[Outgoing]) -> bool:
            rows = [self._row(message, out, f"mid:{uuid.uuid4().hex}", None, conversation) for out in outputs]
            try:
                await self._commits.commit(rows)
            except Superseded:
                return False
            return True

        return Context(
            conversation=conversation,
            principal=conversation[0].principal,
            now=self._clock.now(),
            instance=self.instance,
            attempt=1,
            commit=commit,
            claims=self._bus.state.claims,
        )

    # --- after -------------------------------------------------------------------------------------------------------

    def _aftermath(self, message: Message, action: str, rule: str, reason: str) -> list[Outgoing]:
        """What follows from a message that was not handled: a fact for the auditor, an answer for whoever waits."""
        outputs = [audit(action, "failed", rule=rule, reason=reason, kind=message.kind, sender=message.from_agent)]
        if message.message_type == "request" and message.kind != MALFORMED:
            answer = Refused if rule.startswith(("signature.", "principal.")) else Failed
            outputs.append(Outgoing(message.from_agent, answer(rule=rule, reason=reason), "response"))
        return outputs

    def _settled(
        self, message: Message, receipt: Receipt, outputs: Sequence[Outgoing], conversation: Sequence[Message]
    ) -> list[Message]:
        """The receipt first, then the outputs."""
        handling = uuid.uuid4().hex
        conversation = conversation or self._bus.conversation(message.correlation_id) or [message]
        rows = [self._receipt(message, receipt, handling, conversation[0].principal)]
        return rows + [self._row(message, out, str(place), handling, conversation) for place, out in enumerate(outputs)]

    def _receipt(self, message: Message, receipt: Receipt, handling: str, principal: str | None) -> Message:
        return Message(
            message_id=handling,
            correlation_id=message.correlation_id,
            causation_id=message.message_id,
            from_agent=self.worker.name,
            to_agent="",
            message_type="receipt",
            kind=Receipt.kind(),
            content=receipt.model_dump_json(),
            timestamp=micros(self._clock.now()),
            principal=principal,
            handling_id=handling,
        )

    def _row(
        self, message: Message, out: Outgoing, place: str, handling: str | None, conversation: Sequence[Message]
    ) -> Message:
        # Derived from its cause: a second handling of the same message says the same thing under the same id.
        derived = uuid.uuid5(_IDS, f"{message.message_id}/{self.worker.name}/{place}")
        return Message(
            message_id=str(derived),
            correlation_id=message.correlation_id,
            causation_id=out.causation_id or message.message_id,
            from_agent=self.worker.name,
            to_agent=out.to,
            message_type=out.message_type,
            kind=out.payload.kind(),
            content=out.payload.model_dump_json(),
            priority=out.priority or message.priority,
            timestamp=micros(self._clock.now()),
            not_before=out.not_before,
            expires_at=out.expires_at,
            principal=conversation[0].principal,
            traceparent=message.traceparent,
            handling_id=handling,
        )

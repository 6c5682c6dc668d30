"""The loop of an instance: take a message, check it, handle it, commit outputs and receipt together. The only one to do so."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import os
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import structlog
from pydantic import ValidationError

from bus.base import Bus
from bus.errors import ContentTooLarge, Superseded, Untrusted
from bus.trust import Trust
from schemas.envelope import MALFORMED, MAX_CONTENT, Message
from schemas.payloads import Failed, MessageExpired, Payload, Receipt, Refused
from schemas.trace import child_traceparent
from workers.ports import NO_MEMORY, Memory
from workers.runtime.base import Context, Handling, Outgoing, Permanent, Received, Worker, audit, event
from workers.runtime.claims import OwnClaims
from workers.runtime.clock import Clock, micros
from workers.runtime.commits import Commits
from workers.runtime.middleware import Handler, Middleware, stack
from workers.runtime.redrive import MayRedrive, NotRedriven, original_of
from workers.runtime.under_way import take_up

log = structlog.get_logger(__name__)

#: Characters of a reason: whatever an exception says, its receipt must fit into the log.
REASON = 4_000

#: Rows that others are made alike to, at most.
ALIKE_KEPT = 1_000

#: Seconds until a conversation that could not be read is asked for again.
READ_AGAIN_S = 1.0

#: (agent, the message, on whose behalf, its handling) -> what the handler shares with others
MemoryOf = Callable[[str, Message, str | None, Handling], Memory]


class Rejected(Exception):
    """A message that cannot be handled by anybody; no attempt would change that."""

    def __init__(self, rule: str, reason: str) -> None:
        self.rule, self.reason = rule, reason
        super().__init__(f"{rule}: {reason}")


class Expired(Exception):
    """Nobody wants it handled any more."""


def nobody(_: str) -> bool:
    return False


def no_memory(*_: object) -> Memory:
    return NO_MEMORY


async def _always(_: Message, __: str) -> bool:
    return True


class Runner:
    """Handles messages for one instance of one worker. `may_redrive`: who may have everybody's messages delivered again."""

    def __init__(
        self,
        worker: Worker,
        instance: str,
        bus: Bus,
        trust: Trust,
        clock: Clock,
        middlewares: Sequence[Middleware],
        commits: Commits | None = None,
        may_redrive: MayRedrive = nobody,
        memory_of: MemoryOf = no_memory,
    ) -> None:
        self.worker = worker
        self.instance = instance
        self._bus = bus
        self._commits = commits or Commits(bus)
        #: (message, the instance that took it) -> whether it is that instance's still, by the log as it is now.
        self.still_ours: Callable[[Message, str], Awaitable[bool]] = _always
        self._trust = trust
        self._clock = clock
        self._kinds = worker.kinds()
        #: Straight to what a payload is read by: a model's own way there is a third of the price.
        self._reads = {kind: model.__pydantic_validator__.validate_json for kind, model in self._kinds.items()}
        self._claims = OwnClaims(bus, worker.name)
        self._handle: Handler = stack(middlewares, worker)
        self._may_redrive = may_redrive
        self._memory_of = memory_of
        # Ids are made with a secret of this runner: whoever can guess one can put a row with it into the log first, and
        # the id counts once. One random number a message would cost more than much of the rest.
        self._keyed = hashlib.blake2b(digest_size=16, key=os.urandom(32)).copy
        #: What all receipts of this agent have in common.
        self._receipt = Message(
            message_id="-",
            correlation_id="-",
            from_agent=worker.name,
            to_agent="",
            message_type="receipt",
            kind=_RECEIPT,
            content="",
            timestamp=0,
        ).__dict__
        self._handlings = itertools.count()
        #: Rows by what the worker decides of them: to whom, of what type and kind, how urgent. A copy needs no validation.
        self._alike: dict[tuple[str, str, str, int], dict[str, Any]] = {}

    async def run(self, message: Message) -> None:
        """Handle one message to its receipt. Raises only what the bus raises."""
        await self.commit(await self.handle(message))

    async def commit(self, rows: Sequence[Message]) -> None:
        """Receipt and outputs in one commit. Superseded: another instance was faster; ours are dropped."""
        try:
            await self._commits.commit(rows)
        except Superseded as error:
            log.info("handling.superseded", key=error.key)

    async def handle(self, message: Message) -> list[Message]:
        """The receipt of this message and what goes with it, to be committed. Raises nothing but a cancellation."""
        take_up(self.worker.name, message)
        started = time.perf_counter()
        noted = Handling(child_traceparent(message.traceparent, message.correlation_id))
        under_way = _UnderWay(message, noted, started)
        try:
            known = self._bus.conversation(message.correlation_id)
        except Exception:  # asked again there, which says what is wrong and waits until it is not
            known = await self._known(message)
        under_way.conversation = known or [message]
        try:
            under_way.conversation = conversation = self._check(message, known)
            if message.attempt > 1:
                under_way.original = self._redriven(message, conversation)
            received = Received(under_way.original, self._payload(under_way.original))
            outputs = await self._handle(received, self._context(under_way))
            if message.attempt > 1:
                outputs = [*outputs, _redelivered(under_way)]
            return self._settled(under_way, "handled", "", outputs)
        except Rejected as error:
            log.warning("message.rejected", rule=error.rule, reason=error.reason)
            return self._given_up(under_way, "rejected", error.rule, error.reason, f"{error.rule}: {error.reason}")
        except Expired as error:
            log.info("message.expired")
            return self._given_up(under_way, "expired", "message.expired", str(error), str(error))
        except Permanent as error:
            log.error("message.dead", reason=str(error))
            return self._given_up(under_way, "dead", "worker.permanent", str(error), str(error))
        except (Exception, SystemExit, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) and _is_cancelled():
                raise  # the host stops; the message stays open
            reason = f"{type(error).__name__}: {error}"
            log.error("message.dead", reason=reason, exc_info=not isinstance(error, TimeoutError))
            return self._given_up(under_way, "dead", "worker.failed", reason, reason)

    # --- before ------------------------------------------------------------------------------------------------------

    async def _known(self, message: Message) -> list[Message]:
        """The conversation, however long the table cannot be read: that is no fault of the message, which stays open."""
        while True:
            try:
                return self._bus.conversation(message.correlation_id)
            except Exception:
                log.exception("message.conversation_unreadable")
                await self._clock.sleep(READ_AGAIN_S)

    def _check(self, message: Message, known: Sequence[Message]) -> list[Message]:
        """The trusted messages of the conversation, root first. The signature is looked at before anything it covers."""
        if message.kind == MALFORMED:
            raise Rejected("message.malformed", message.content)
        # What came before, and what we have said ourselves since: of two decisions that waited, the second must see what
        # became of the first, and a timer what happened before it rang.
        position, name = message.position, self.worker.name
        conversation = known
        if len(known) != 1 or known[0] is not message:
            conversation = [m for m in known if m.position <= position or m.from_agent == name]
        try:
            trusted = self._trust.check(message, conversation)
        except Untrusted as error:
            raise Rejected(error.rule, error.reason) from error
        if message.expires_at is not None and message.expires_at < micros(self._clock.now()):
            raise Expired("it was to be handled earlier, and was not")
        return trusted

    def _redriven(self, message: Message, conversation: Sequence[Message]) -> Message:
        """What is delivered again, as it was; its time has come whatever it said about that."""
        try:
            original = original_of(message, self.worker.name, conversation, self._may_redrive)
        except NotRedriven as error:
            raise Rejected(error.rule, error.reason) from error
        return original.model_copy(update={"attempt": message.attempt, "expires_at": None})

    def _payload(self, message: Message) -> Payload:
        read = self._reads.get(message.kind)
        if read is None:
            known = ", ".join(sorted(self._kinds))
            raise Rejected(
                "message.unknown_kind", f"{self.worker.name} does not handle {message.kind}; it handles {known}"
            )
        try:
            payload: Payload = read(message.content)
            return payload
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "content"
            raise Rejected("message.malformed", f"{message.kind}.{where}: {first['msg']}") from error

    def _context(self, under_way: _UnderWay) -> Context:
        async def commit(outputs: Sequence[Outgoing]) -> bool:
            now = micros(self._clock.now())
            rows = [self._row(under_way, out, f"mid:{uuid.uuid4().hex}", None, now) for out in outputs]
            try:
                await self._commits.commit(rows)
            except Superseded:
                return False
            return True

        conversation = under_way.conversation
        principal = conversation[0].principal
        return Context(
            conversation=conversation,
            principal=principal,
            now=self._clock.now(),
            instance=self.instance,
            attempt=1,
            commit=commit,
            still_ours=partial(self.still_ours, under_way.message, self.instance),
            claims=self._claims,
            memory=self._memory_of(self.worker.name, under_way.message, principal, under_way.noted),
            handling=under_way.noted,
        )

    # --- after -------------------------------------------------------------------------------------------------------

    def _given_up(self, under_way: _UnderWay, outcome: str, rule: str, reason: str, said: str) -> list[Message]:
        """What follows from a message that was not handled: a fact for the auditor, an answer for whoever waits."""
        message, original = under_way.message, under_way.original
        reason, said = _storable(reason), _storable(said)
        outputs = [
            audit(
                f"message.{outcome}",
                "failed",
                rule=rule,
                reason=reason,
                causation_id=message.message_id,
                kind=message.kind,
                sender=message.from_agent,
            )
        ]
        if outcome == "expired":
            gone = MessageExpired(
                message_id=message.message_id,
                message_kind=message.kind,
                sender=message.from_agent,
                agent=self.worker.name,
                expires_at=message.expires_at or 0,
            )
            outputs.append(event(gone))
        if message.message_type == "request" and message.kind != MALFORMED:
            answer = Refused if rule.startswith(("signature.", "principal.", "redrive.")) else Failed
            # Whoever asked first waits for the answer, unless it is whoever redrives that must be told.
            asked = message if answer is Refused else original
            outputs.append(
                Outgoing(asked.from_agent, answer(rule=rule, reason=reason), "response", causation_id=asked.message_id)
            )
        return self._settled(under_way, outcome, said, outputs)

    def _settled(self, under_way: _UnderWay, outcome: str, reason: str, outputs: Sequence[Outgoing]) -> list[Message]:
        """The receipt first, then the outputs."""
        message = under_way.message
        now = micros(self._clock.now())
        handling = self._id(f"{next(self._handlings)}")
        rows = [self._row(under_way, out, str(place), handling, now) for place, out in enumerate(outputs)]
        handled_ms = round((time.perf_counter() - under_way.started) * 1000, 2)
        attempts = under_way.noted.attempts
        if outcome == "handled" and not reason:  # nearly all of them
            content = f'{{"outcome":"handled","reason":"","attempts":{attempts},"handled_ms":{handled_ms}}}'
        else:
            receipt = Receipt(outcome=outcome, reason=reason, attempts=attempts, handled_ms=handled_ms)
            content = receipt.model_dump_json()
        rows.insert(
            0,
            Message.of_sound(
                {
                    **self._receipt,
                    "message_id": handling,
                    "correlation_id": message.correlation_id,
                    "causation_id": message.message_id,
                    "content": content,
                    "timestamp": now,
                    "principal": under_way.conversation[0].principal,
                    "handling_id": handling,
                }
            ),
        )
        return rows

    def _id(self, of: str) -> str:
        hashed = self._keyed()
        hashed.update(of.encode())
        return hashed.hexdigest()

    def _row(self, under_way: _UnderWay, out: Outgoing, place: str, handling: str | None, now: int) -> Message:
        message = under_way.message
        payload = out.payload
        content = payload.__pydantic_serializer__.to_json(payload).decode()  # what `model_dump_json` comes to
        if len(content) > MAX_CONTENT or (len(content) > MAX_CONTENT // 4 and len(content.encode()) > MAX_CONTENT):
            raise ContentTooLarge(
                f"{out.payload.kind()} holds {len(content):,} characters, the limit is {MAX_CONTENT:,} bytes: "
                "store it elsewhere and send a reference to it"
            )
        said = (out.to, out.message_type, payload.kind(), out.priority or message.priority)
        usual = out.causation_id is None and out.not_before is None and out.expires_at is None
        decided = self._alike.get(said) if usual else None
        if decided is None:
            decided = self._decided(out, message)
            if usual:
                if len(self._alike) >= ALIKE_KEPT:
                    self._alike.clear()
                self._alike[said] = decided
        return Message.of_sound(
            {
                **decided,  # all that the worker decides was checked
                # Derived from its cause: a second handling here says the same thing under the same id.
                "message_id": self._id(f"{message.message_id}/{place}"),
                "correlation_id": message.correlation_id,
                "causation_id": out.causation_id or under_way.original.message_id,
                "content": content,
                "timestamp": now,
                "principal": under_way.conversation[0].principal,
                "traceparent": under_way.noted.traceparent,
                "handling_id": handling,
            }
        )

    def _decided(self, out: Outgoing, message: Message) -> dict[str, Any]:
        """Fields of a row with what the worker decides of it. Raises ValidationError when that makes no message."""
        row = Message(
            message_id="-",
            correlation_id="-",
            causation_id=out.causation_id,
            from_agent=self.worker.name,
            to_agent=out.to,
            message_type=out.message_type,
            kind=out.payload.kind(),
            priority=out.priority or message.priority,
            content="",
            timestamp=0,
            not_before=out.not_before,
            expires_at=out.expires_at,
        )
        return row.__dict__


_RECEIPT = Receipt.kind()


class _UnderWay:
    """One message from arrival to receipt. `original`: what the handler gets, which differs when it was redriven."""

    __slots__ = ("conversation", "message", "noted", "original", "started")

    def __init__(self, message: Message, noted: Handling, started: float) -> None:
        self.message = self.original = message
        self.noted = noted
        self.started = started
        self.conversation: Sequence[Message] = ()


def _redelivered(under_way: _UnderWay) -> Outgoing:
    """For the auditor: by whose word a message that was given up has been handled after all."""
    message, original = under_way.message, under_way.original
    return audit(
        "message.redriven",
        "done",
        causation_id=message.message_id,
        kind=original.kind,
        original=original.message_id,
        by=message.from_agent,
        attempt=message.attempt,
    )


def _is_cancelled() -> bool:
    """Whether somebody cancelled us; a handler may raise the same exception for reasons of its own."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


def _storable(reason: str) -> str:
    """Whatever an exception said, as text the log can hold."""
    reason = reason if len(reason) <= REASON else f"{reason[:REASON]} …"
    return reason.encode("utf-8", "replace").decode()

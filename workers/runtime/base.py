"""What a worker is: a name, the kinds it handles, and one function from a message to what is to be sent."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Literal

from schemas.envelope import EVERYONE, Message
from schemas.payloads import AuditRecorded, Payload
from workers.ports import NO_MEMORY, Memory


class Permanent(Exception):
    """Raised by a handler: no further attempt would change this. The message is dead at once, with these words."""


@dataclass(
    slots=True
)  # these are not frozen: one is made for every message, and a frozen one takes three times as long
class Received:
    """A message whose payload was validated. Of a redriven message, the one that was not handled the first time."""

    message: Message
    payload: Payload

    @property
    def sender(self) -> str:
        return self.message.from_agent


@dataclass(slots=True)
class Outgoing:
    """Something to send. The runner adds ids, sender, principal, trace and time, and commits it with the receipt.

    `not_before` and `expires_at` are UTC microseconds. `causation_id` is the handled message unless said otherwise.
    """

    to: str
    payload: Payload
    message_type: Literal["request", "response", "event"] = "request"
    priority: int | None = None
    not_before: int | None = None
    expires_at: int | None = None
    causation_id: str | None = None


def reply(received: Received, payload: Payload) -> Outgoing:
    """Answer whoever sent this message."""
    return Outgoing(received.sender, payload, "response")


def request(agent: str, payload: Payload, **how: Any) -> Outgoing:
    """Ask another agent."""
    return Outgoing(agent, payload, "request", **how)


def event(payload: Payload) -> Outgoing:
    """Tell whoever subscribes to the kind."""
    return Outgoing(EVERYONE, payload, "event")


def audit(
    action: str,
    decision: Literal["allowed", "refused", "done", "failed"],
    *,
    rule: str = "",
    reason: str = "",
    causation_id: str | None = None,
    **details: Any,
) -> Outgoing:
    """A fact for the auditor, committed with the receipt. `causation_id`: what it is about, if not the handled message."""
    fact = AuditRecorded(action=action, decision=decision, rule=rule, reason=reason, details=details)
    return Outgoing(EVERYONE, fact, "event", causation_id=causation_id)


class Handling:
    """What is noted while a message is handled: attempts so far, and the span its outputs come out of."""

    __slots__ = ("attempts", "traceparent")

    def __init__(self, traceparent: str = "") -> None:
        self.attempts = 1
        self.traceparent = traceparent


async def always() -> bool:
    """Where there is nobody who could take over."""
    return True


@dataclass(slots=True)
class Context:
    """What a handler may know beside its message.

    `conversation`: valid messages up to and including this one, and what this agent has said since, in log order.
    `principal`: on whose behalf, as the root message was signed. `commit`: sends something before the handling ends, by
    compare-and-set; False when the log has decided otherwise. Only an agent with effects needs it, for its claim, and
    `still_ours`, between claim and effect: False when others have ended this instance's lease, as they do when it sleeps.
    `memory`: what agents share beside the conversation, with the rights of the principal. `traceparent` of `handling`
    goes into calls to other services, so that their spans join the trace.
    """

    conversation: Sequence[Message]
    principal: str | None
    now: datetime
    instance: str
    attempt: int
    commit: Callable[[Sequence[Outgoing]], Awaitable[bool]]
    still_ours: Callable[[], Awaitable[bool]] = always
    claims: Mapping[str, Message] = field(default_factory=dict)
    memory: Memory = NO_MEMORY
    handling: Handling = field(default_factory=Handling)


class Worker:
    """An agent's code. Subclasses say what they handle, and handle it; they hold no state that the log does not have."""

    #: The agent's name on the bus; the class name unless said otherwise.
    name: ClassVar[str] = ""
    #: Payloads it accepts when addressed.
    handles: ClassVar[tuple[type[Payload], ...]] = ()
    #: Events it gets, whoever they come from.
    subscribes: ClassVar[tuple[type[Payload], ...]] = ()
    #: Conversations handled at once by one instance.
    concurrency: ClassVar[int] = 8
    #: Seconds one attempt may take.
    timeout_s: ClassVar[float] = 60.0
    #: Attempts before a message is dead.
    max_attempts: ClassVar[int] = 3

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if not cls.__dict__.get("name"):
            cls.name = cls.__name__

    @classmethod
    def kinds(cls) -> dict[str, type[Payload]]:
        return {model.kind(): model for model in (*cls.handles, *cls.subscribes)}

    async def handle(self, message: Received, context: Context) -> list[Outgoing]:
        """Do the work; return what to send. An exception is retried, then the message is dead."""
        raise NotImplementedError

    async def warm(self) -> None:
        """Get ready what would make the first message slow."""
        return

    async def close(self) -> None:
        """Let go of what the constructor got hold of."""
        return

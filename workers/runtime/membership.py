"""Who of an agent's instances owns which conversation: a pure fold over the lease rows, as one of them sees it.

The rules. An instance is *live* from its `started` row until `stopped` or `ended`. A conversation's *owner* is the live
instance with the highest hash of (conversation, instance): who joins or leaves moves only what it gains or had.

1. An instance takes a message only if it owns the conversation among all that are live in its view.
2. It must have *joined*: each instance that was live when it started has answered it, or is gone.
3. Whoever sees somebody start first lets go of what it no longer owns, then answers by a `renewed` row. That row says up
   to which version its writer had seen lease rows (`seen`), for a renewal that was on its way already is no answer, and
   names the messages under way there whose conversations are another's now (`busy`). While these are open and their holder
   lives, nobody takes another message of their conversations.

Why no message is under way twice, and no conversation in two places, while nobody fails. Let A and B each have a message of
conversation c under way at one time, and let A have started first. B has joined (2), so B has read an answer r of A, or A's
end; but A says `stopped` only when nothing is under way. When A wrote r it had seen B. If A's hash for c is the higher one,
B owns c only in a view without A (1), so B has read A's end, as above. If B's is the higher one, A takes none of c once it
has seen B, so it took its message before r, r names it, and B takes none of c until that one's receipt (3). Neither can be.

An instance that was ended by others while it slept may still work: then the receipts decide, as they always do. A wrong
answer of this module costs time, never correctness. All of it is read from the newest row of each live instance
(`State.leases`), so a newcomer needs no history.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Set
from dataclasses import dataclass
from hashlib import blake2b

from pydantic import ValidationError

from schemas.envelope import Message
from schemas.payloads import InstanceChanged

#: The conversation of a message that is still open for the agent; None when it is not.
ConversationOf = Callable[[str], str | None]


def rank(conversation: str, instance: str) -> bytes:
    """How much this instance is meant for this conversation: the highest has it."""
    return blake2b(f"{conversation}\0{instance}".encode(), digest_size=8).digest() + instance.encode()


def lease_fact(row: Message) -> InstanceChanged | None:
    """What a row says about an instance of its sender; None when it says nothing that counts."""
    try:
        fact = InstanceChanged.model_validate_json(row.content)
    except ValidationError:
        return None
    return fact if fact.agent == row.from_agent else None


@dataclass(frozen=True)
class Seat:
    """A live instance by its newest row. `came`: when that was, on the observer's own clock."""

    instance: str
    host: str
    number: int
    duration_s: float
    position: tuple[int, int]
    came: float


@dataclass(frozen=True)
class Change:
    """What a row may have meant for my share: conversations that are not mine any more, or that are mine now."""

    lost: bool = False
    gained: bool = False

    def __bool__(self) -> bool:
        return self.lost or self.gained


class Membership:
    """The live instances of one agent as `me` sees them. `now` is always a reading of my own monotonic clock."""

    def __init__(
        self, agent: str, me: str, leases: Iterable[Message], now: float, conversation_of: ConversationOf
    ) -> None:
        self.agent, self.me = agent, me
        self.seats: dict[str, Seat] = {}
        #: The version of my `started` row, and who has not answered it yet; None before it is there.
        self._began: int | None = None
        self._unanswered: set[str] = set()
        #: The version up to which I have seen lease rows, where the youngest of the others began, and what I answered.
        self.seen = -1
        self._youngest = -1
        self._answered = -1
        #: Conversations that others keep for the messages they have under way: conversation -> those messages.
        self.held: dict[str, set[str]] = {}
        self._busy: dict[str, dict[str, str]] = {}
        self._conversation_of = conversation_of
        self._since = now
        for row in leases:
            if row.from_agent == agent:
                self.absorb(row, now)

    # --- the fold ----------------------------------------------------------------------------------------------------

    def absorb(self, row: Message, now: float) -> Change:
        """Take in a lease row of this agent. Old rows change nothing."""
        fact = lease_fact(row)
        if fact is None or fact.agent != self.agent:
            return Change()
        before = self._outlook()
        self.seen = max(self.seen, row.log_version)
        if fact.step in ("stopped", "ended"):
            self.seats.pop(fact.instance, None)
            self._busy.pop(fact.instance, None)
            self._unanswered.discard(fact.instance)
        elif fact.instance not in self.seats or row.position > self.seats[fact.instance].position:
            self._sit(fact, row, now)
        self._count()
        return self._since_then(*before)

    def _sit(self, fact: InstanceChanged, row: Message, now: float) -> None:
        self.seats[fact.instance] = Seat(
            fact.instance, fact.host, fact.number, fact.duration_ms / 1000, row.position, now
        )
        if fact.instance == self.me:
            self._answered = max(self._answered, fact.seen)
            if fact.step == "started":
                self._began, self._since = row.log_version, now
                self._unanswered = {seat.instance for seat in self.others}
            return
        self._hold(fact)
        if fact.step == "started":
            self._youngest = max(self._youngest, row.log_version)
        elif self._began is not None and fact.seen >= self._began:
            self._unanswered.discard(fact.instance)

    def _hold(self, fact: InstanceChanged) -> None:
        found = {message: self._conversation_of(message) for message in fact.busy}
        self._busy[fact.instance] = {m: c for m, c in found.items() if c is not None}

    def _count(self) -> None:
        self.held = {}
        for kept in self._busy.values():
            for message, conversation in kept.items():
                self.held.setdefault(conversation, set()).add(message)

    def receipted(self, message: str) -> str | None:
        """A message has its receipt; returns the conversation that nobody keeps any more because of it."""
        kept = [messages.pop(message) for messages in self._busy.values() if message in messages]
        self._count()
        return next((conversation for conversation in kept if conversation not in self.held), None)

    def _outlook(self) -> tuple[Set[str], bool, Set[str]]:
        return set(self.seats), self.joined, set(self.held)

    def _since_then(self, seats: Set[str], joined: bool, held: Set[str]) -> Change:
        now_seats, now_joined, now_held = self._outlook()
        return Change(
            lost=bool(now_seats - seats or now_held - held or (joined and not now_joined)),
            gained=bool(seats - now_seats or held - now_held or (now_joined and not joined)),
        )

    @property
    def kept(self) -> set[str]:
        """Messages that others keep."""
        return {message for messages in self.held.values() for message in messages}

    # --- whose is what -----------------------------------------------------------------------------------------------

    @property
    def is_live(self) -> bool:
        """Whether the log has my lease."""
        return self.me in self.seats

    @property
    def has_begun(self) -> bool:
        """Whether my `started` row has come."""
        return self._began is not None

    @property
    def has_company(self) -> bool:
        return len(self.seats) > self.is_live

    @property
    def joined(self) -> bool:
        """Rule 2: whoever was there before me has answered me."""
        return self._began is not None and self.is_live and not self._unanswered

    def owner(self, conversation: str) -> str | None:
        """Who is meant to handle this conversation among those that are live; None when nobody is."""
        return max(self.seats, key=lambda instance: rank(conversation, instance), default=None)

    def owns(self, conversation: str) -> bool:
        """Rule 1: whether I may take a message of this conversation now."""
        if not self.joined or conversation in self.held:
            return False
        return len(self.seats) == 1 or self.owner(conversation) == self.me

    @property
    def others(self) -> list[Seat]:
        return [seat for seat in self.seats.values() if seat.instance != self.me]

    # --- time --------------------------------------------------------------------------------------------------------

    @property
    def owes_answer(self) -> bool:
        """Rule 3: somebody has started whom I had not seen when I wrote my newest row."""
        return self.is_live and self._youngest > self._answered

    @property
    def number(self) -> int:
        """Of my newest row."""
        return self.seats[self.me].number

    def is_overdue(self, seat: Seat, now: float) -> bool:
        """Whether I have watched it for the whole duration of its lease without a renewal. Who is alone does not renew, so
        nobody is watched for longer than I have been its company."""
        return now - max(seat.came, self._since) > seat.duration_s

    def watch_anew(self, now: float) -> None:
        """I was away myself, and may have missed what they said: their time begins now."""
        self._since = now

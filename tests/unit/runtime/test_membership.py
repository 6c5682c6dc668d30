"""Who owns which conversation: one at a time, whatever the order in which instances start, answer, stop, crash and hear."""

from __future__ import annotations

import itertools
import json
from collections import Counter, deque
from typing import Any

from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bus.fold import INSTANCE_CHANGED, State
from schemas.envelope import EVERYONE, Message
from schemas.payloads import InstanceChanged
from workers.runtime.membership import Membership

AGENT = "Pinger"
_ids = itertools.count()


def lease(instance: str, step: str, place: int, *, agent: str = AGENT, **said: Any) -> Message:
    fact = InstanceChanged(
        **{"agent": agent, "instance": instance, "host": "here:1", "engine": "tail", "step": step, "kinds": []}
        | {"duration_ms": 10_000}
        | said
    )
    return row(INSTANCE_CHANGED, fact.model_dump_json(), place, instance, from_agent=agent)


def row(kind: str, content: str, place: int, conversation: str, **envelope: Any) -> Message:
    return Message(
        **{
            "message_id": f"r{next(_ids)}",
            "correlation_id": conversation,
            "from_agent": AGENT,
            "to_agent": EVERYONE,
            "message_type": "event",
            "kind": kind,
            "content": content,
            "timestamp": 0,
            "log_version": place,
            "seq": 0,
        }
        | envelope
    )


def seen_by(me: str, rows: list[Message], now: float = 0.0) -> Membership:
    membership = Membership(AGENT, me, [], now, lambda _: None)
    for one in rows:
        membership.absorb(one, now)
    return membership


# --- hashing ---------------------------------------------------------------------------------------------------------

names = st.lists(st.text(min_size=1, max_size=12), min_size=1, max_size=6, unique=True)


def owners(instances: list[str], conversations: list[str]) -> dict[str, str | None]:
    membership = seen_by(instances[0], [lease(name, "started", at) for at, name in enumerate(instances)])
    return {conversation: membership.owner(conversation) for conversation in conversations}


@settings(max_examples=30)
@given(names, st.data())
def test_who_joins_or_leaves_moves_only_what_it_gains_or_had(instances: list[str], data: st.DataObject) -> None:
    conversations = [f"c{n}" for n in range(20)]
    newcomer = data.draw(st.text(min_size=1, max_size=12).filter(lambda name: name not in instances))
    before, after = owners(instances, conversations), owners([*instances, newcomer], conversations)
    assert set(before.values()) <= set(instances)
    assert all(after[c] in (before[c], newcomer) for c in conversations)


def test_shares_are_even() -> None:
    found = Counter(owners([f"i{n}" for n in range(4)], [f"c{n}" for n in range(4000)]).values())
    assert all(850 < count < 1150 for count in found.values()), found


# --- one instance's view ---------------------------------------------------------------------------------------------


def test_alone_it_owns_everything_as_soon_as_its_row_is_there() -> None:
    membership = seen_by("a", [])
    assert not membership.owns("c")
    membership.absorb(lease("a", "started", 0), 0.0)
    assert membership.owns("c")
    assert not membership.has_company


def test_a_newcomer_owns_nothing_until_the_older_has_answered() -> None:
    rows = [lease("old", "started", 0), lease("new", "started", 1, seen=0)]
    membership = seen_by("new", rows)
    conversations = [c for c in map(str, range(20)) if membership.owner(c) == "new"]
    assert not any(membership.owns(c) for c in conversations)
    membership.absorb(lease("old", "renewed", 2, number=1, seen=0), 0.0)  # was on its way already: no answer
    assert not any(membership.owns(c) for c in conversations)
    membership.absorb(lease("old", "renewed", 3, number=2, seen=1), 0.0)
    assert all(membership.owns(c) for c in conversations)


def test_the_older_lets_go_as_soon_as_it_sees_the_newcomer_and_owes_an_answer() -> None:
    membership = seen_by("old", [lease("old", "started", 0)])
    membership.absorb(lease("new", "started", 1), 0.0)
    assert {c for c in map(str, range(20)) if membership.owns(c)} == {
        c for c in map(str, range(20)) if membership.owner(c) == "old"
    }
    assert membership.owes_answer
    membership.absorb(lease("old", "renewed", 2, number=1, seen=1), 0.0)
    assert not membership.owes_answer


def test_a_conversation_under_way_elsewhere_stays_there_until_its_message_has_a_receipt() -> None:
    rows = [lease("old", "started", 0), lease("new", "started", 1, seen=0)]
    free = Membership(AGENT, "new", rows, 0.0, {"m1": "c1", "m2": "c2"}.get)
    mine = next(c for c in map(str, range(20)) if free.owner(c) == "new")
    membership = Membership(AGENT, "new", [], 0.0, {"m1": mine}.get)
    for one in [*rows, lease("old", "renewed", 2, number=1, seen=1, busy=["m1", "done long ago"])]:
        membership.absorb(one, 0.0)
    assert membership.joined
    assert not membership.owns(mine)
    assert membership.receipted("another") is None
    assert membership.receipted("m1") == mine
    assert membership.owns(mine)


def test_what_is_kept_by_one_who_is_gone_is_free() -> None:
    for step in ("stopped", "ended"):
        membership = Membership(AGENT, "new", [], 0.0, lambda _: "c")
        rows = [lease("old", "started", 0), lease("new", "started", 1)]
        for one in [*rows, lease("old", "renewed", 2, number=1, seen=1, busy=["m"])]:
            membership.absorb(one, 0.0)
        assert not membership.owns("c")
        membership.absorb(lease("old", step, 3, number=1), 0.0)
        assert membership.owns("c")


def test_who_was_ended_owns_nothing() -> None:
    membership = seen_by("a", [lease("a", "started", 0), lease("b", "started", 1), lease("a", "ended", 2)])
    assert membership.has_begun
    assert not membership.is_live
    assert not any(membership.owns(str(n)) for n in range(20))


def test_a_row_that_comes_late_changes_nothing() -> None:
    rows = [lease("a", "started", 0), lease("b", "started", 1, seen=0), lease("b", "renewed", 5, number=2, seen=1)]
    membership = seen_by("a", rows)
    assert not membership.absorb(lease("b", "renewed", 4, number=1, busy=["m"]), 9.0)
    assert membership.seats["b"].number == 2
    assert not membership.held


def test_other_agents_and_what_makes_no_sense_are_not_heard() -> None:
    membership = seen_by("a", [lease("a", "started", 0)])
    forged = lease("b", "started", 1).model_copy(update={"from_agent": "Mallory"})
    nonsense = row(INSTANCE_CHANGED, '{"step": "started"}', 2, "x")
    for one in (forged, nonsense, lease("z", "started", 3, agent="Other")):
        assert not membership.absorb(one, 0.0)
    assert set(membership.seats) == {"a"}


# --- time ------------------------------------------------------------------------------------------------------------


def test_a_lease_is_overdue_only_after_it_was_watched_for_its_whole_duration() -> None:
    membership = seen_by("new", [lease("old", "started", 0)], now=0.0)
    membership.absorb(lease("new", "started", 1), 100.0)  # the old one was alone, and had nothing to renew
    (old,) = membership.others
    assert not membership.is_overdue(old, 110.0)
    assert membership.is_overdue(old, 110.1)
    membership.absorb(lease("old", "renewed", 2, number=1, seen=1), 108.0)
    (old,) = membership.others
    assert not membership.is_overdue(old, 118.0)
    assert membership.is_overdue(old, 118.1)


def test_who_was_away_watches_anew() -> None:
    membership = seen_by("new", [lease("old", "started", 0), lease("new", "started", 1)], now=0.0)
    (old,) = membership.others
    assert membership.is_overdue(old, 1000.0)
    membership.watch_anew(1000.0)
    assert not membership.is_overdue(old, 1010.0)
    assert membership.is_overdue(old, 1010.1)


# --- several views of one log ----------------------------------------------------------------------------------------


class Process:
    """An instance: what its bus has absorbed, what its loop has heard of it, and what it is doing."""

    def __init__(self, name: str, log: list[Message]) -> None:
        self.name = name
        self.log = log
        self.state = State()
        self.heard: deque[Message] = deque()
        self.under_way: dict[str, str] = {}
        self.composed: Message | None = None
        self.read = 0
        self.catch_up()
        self.heard.clear()
        self.membership = Membership(AGENT, name, self.state.leases.values(), 0.0, self._conversation_of)

    def _conversation_of(self, message: str) -> str | None:
        found = self.state.open.get((message, AGENT))
        return None if found is None else found.correlation_id

    def catch_up(self, count: int | None = None) -> None:
        """The bus's thread: absorb rows of the log."""
        upto = len(self.log) if count is None else min(len(self.log), self.read + count)
        for one in self.log[self.read : upto]:
            self.heard.extend(self.state.absorb([one]))
        self.read = upto

    def listen(self, count: int | None = None) -> None:
        """The loop: hear of what the bus has absorbed, in order."""
        for _ in range(len(self.heard) if count is None else min(count, len(self.heard))):
            one = self.heard.popleft()
            if one.kind == INSTANCE_CHANGED:
                self.membership.absorb(one, 0.0)
            elif one.message_type == "receipt":
                self.membership.receipted(one.causation_id or "")

    def append(self, one: Message) -> bool:
        """Decided by everything below it, as a commit is."""
        self.catch_up()
        placed = one.model_copy(update={"log_version": len(self.log), "seq": 0})
        if self.state.decided(placed) is not None:
            return False
        self.log.append(placed)
        self.catch_up()
        return True

    @property
    def busy(self) -> list[str]:
        return [m for m, c in self.under_way.items() if self.membership.owner(c) != self.name]

    def compose(self) -> None:
        number = self.membership.number + 1
        said = {"number": number, "seen": self.membership.seen, "busy": self.busy}
        self.composed = lease(self.name, "renewed", -1, **said)


class Sharing(RuleBasedStateMachine):
    """Every step of every instance, in any order: in particular a renewal that is on its way when somebody starts."""

    def __init__(self) -> None:
        super().__init__()
        self.log: list[Message] = []
        self.live: list[Process] = []
        self.crashed: list[str] = []
        self.started = 0
        self.sent = 0

    def pick(self, data: st.DataObject) -> Process:
        return self.live[data.draw(st.integers(0, len(self.live) - 1))]

    @precondition(lambda self: len(self.live) < 4)
    @rule()
    def start(self) -> None:
        process = Process(f"i{self.started}", self.log)
        self.started += 1
        assert process.append(lease(process.name, "started", -1, seen=process.membership.seen))
        self.live.append(process)

    @rule(conversation=st.integers(0, 5))
    def send(self, conversation: int) -> None:
        self.sent += 1
        sent = row("Ping", "{}", len(self.log), f"c{conversation}", message_id=f"m{self.sent}", to_agent=AGENT)
        self.log.append(sent.model_copy(update={"message_type": "request", "from_agent": "user:eli"}))

    @precondition(lambda self: self.live)
    @rule(data=st.data(), rows=st.integers(1, 5), heard=st.integers(0, 5))
    def hear(self, data: st.DataObject, rows: int, heard: int) -> None:
        process = self.pick(data)
        process.catch_up(rows)
        process.listen(heard)

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def compose(self, data: st.DataObject) -> None:
        """A renewal is written, and not committed yet: with or without a reason."""
        process = self.pick(data)
        if process.membership.is_live and process.composed is None:
            process.compose()

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def commit(self, data: st.DataObject) -> None:
        process = self.pick(data)
        if process.composed is not None:
            assert process.append(process.composed)
            process.composed = None
            process.listen()  # its own row is heard of before the commit is

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def take(self, data: st.DataObject) -> None:
        process = self.pick(data)
        busy = set(process.under_way.values())
        for message in process.state.open_for(AGENT):
            if message.correlation_id not in busy and process.membership.owns(message.correlation_id):
                process.under_way[message.message_id] = message.correlation_id
                self.taken_in_order(message)
                return

    def taken_in_order(self, message: Message) -> None:
        whole = State()
        whole.load(self.log)
        waiting = [m.message_id for m in whole.open_for(AGENT) if m.correlation_id == message.correlation_id]
        assert waiting[0] == message.message_id

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        process = self.pick(data)
        for message, conversation in list(process.under_way.items())[:1]:
            receipt = row("Receipt", "{}", -1, conversation, causation_id=message, to_agent="", message_type="receipt")
            assert process.append(receipt)
            del process.under_way[message]

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def stop(self, data: st.DataObject) -> None:
        process = self.pick(data)
        if not process.under_way and process.composed is None:
            assert process.append(lease(process.name, "stopped", -1))
            self.live.remove(process)

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def crash(self, data: st.DataObject) -> None:
        process = self.pick(data)
        self.live.remove(process)
        self.crashed.append(process.name)

    @precondition(lambda self: self.crashed and self.live)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        observer, gone = self.pick(data), self.crashed.pop()
        observer.catch_up()
        number = json.loads(observer.state.leases[gone].content)["number"]
        assert observer.append(lease(gone, "ended", -1, number=number, by=observer.name))

    @invariant()
    def nothing_is_under_way_twice(self) -> None:
        conversations = Counter(c for process in self.live for c in process.under_way.values())
        assert not conversations or max(conversations.values()) == 1, conversations

    def teardown(self) -> None:
        """Left in peace, they come to own everything, each conversation once."""
        if not self.live:
            return
        while self.crashed:
            observer, gone = self.live[0], self.crashed.pop()
            observer.catch_up()
            number = json.loads(observer.state.leases[gone].content)["number"]
            assert observer.append(lease(gone, "ended", -1, number=number))
        for _ in range(3):
            for process in self.live:
                process.catch_up()
                process.listen()
                if process.composed is not None:
                    assert process.append(process.composed)
                    process.composed = None
                for message, conversation in process.under_way.items():
                    done = row("Receipt", "{}", -1, conversation, causation_id=message, to_agent="")
                    assert process.append(done.model_copy(update={"message_type": "receipt"}))
                process.under_way.clear()
                process.catch_up()
                process.listen()
                if process.membership.owes_answer:
                    process.compose()
        for conversation in (f"c{n}" for n in range(6)):
            assert [p.name for p in self.live if p.membership.owns(conversation)] == [
                self.live[0].membership.owner(conversation)
            ]


TestSharing = Sharing.TestCase
TestSharing.settings = settings(
    max_examples=25,
    stateful_step_count=50,
    deadline=None,
    # A failing run of fifty steps takes minutes to shrink, and reads well enough as it is.
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)

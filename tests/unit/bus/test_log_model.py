"""The log against a plain list of commits: whoever races, sleeps, starts anew or cleans up, everybody says what the list says."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deltalake import DeltaTable
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from bus.errors import Superseded
from bus.log import rows as codec
from bus.log.bus import LogBus
from bus.log.consumers import Consumers
from bus.log.snapshot import Snapshots
from bus.log.store import LocalStore
from bus.log.table import DeltaLog
from bus.log.upkeep import Folding, Limits, Upkeep
from schemas.envelope import EVERYONE, Message
from schemas.payloads import ExecutionClaimed, GrantRevoked, InstanceChanged
from schemas.tables import AGENT_MESSAGES
from tests.unit.bus.logs import append, message

AGENTS = ("A", "B")
WRITERS = ("one", "two")
CONVERSATIONS = ("c0", "c1", "c2", "leases", "grants")
#: Stands for a signature.
KEY = "key"

what = st.sampled_from
picks = st.integers(0, 1_000)


def accept(row: Message) -> bool:
    return row.key_id == KEY


class Model:
    """Commits as they stand in the log, and what they mean: the rules once more, from the beginning each time."""

    def __init__(self) -> None:
        self.commits: dict[int, list[Message]] = {}

    def add(self, version: int, rows: list[Message]) -> None:
        assert version not in self.commits
        self.commits[version] = [m.model_copy(update={"log_version": version, "seq": n}) for n, m in enumerate(rows)]

    def judge(self, also: list[Message] | None = None) -> Judged:
        judged = Judged()
        for version in sorted(self.commits):
            judged.commit(self.commits[version])
        if also is not None:
            judged.commit(also)
        return judged


class Judged:
    """Sets that only grow; what is open is what is owed and not settled."""

    def __init__(self) -> None:
        self.valid: list[Message] = []
        self.ids: set[str] = set()
        self.published: set[str] = set()
        self.owed: dict[tuple[str, str], Message] = {}
        self.settled: set[tuple[str, str]] = set()
        self.claims: dict[str, Message] = {}
        self.leases: dict[str, Message] = {}
        self.subscribed: dict[str, set[str]] = {}
        self.lost: list[Message] = []

    @property
    def open(self) -> dict[tuple[str, str], Message]:
        return {key: row for key, row in self.owed.items() if key not in self.settled}

    def commit(self, rows: list[Message]) -> None:
        receipts: set[str | None] = set()
        for row in rows:
            if self._counts(row, receipts):
                self.valid.append(row)
                self.ids.add(row.message_id)
                self._means(row, receipts)

    def _counts(self, row: Message, receipts: set[str | None]) -> bool:
        said = json.loads(row.content)
        if row.message_type == "receipt":
            key = (row.causation_id or "", row.from_agent)
            first = key not in self.settled and (key in self.owed or key[0] in self.published)
            if not first:
                self.lost.append(row)
            return accept(row) and first
        if row.handling_id is not None and row.handling_id not in receipts:
            return False
        first = True
        if row.kind == "ExecutionClaimed":
            first = accept(row) and f"{row.from_agent}/{said['grant_id']}" not in self.claims
        elif row.kind == "GrantRevoked" and row.from_agent == "GovernanceAgent":
            first = accept(row) and f"{said['executor']}/{said['grant_id']}" not in self.claims
        elif row.kind == "InstanceChanged" and said["step"] in ("renewed", "ended"):
            newest = self.leases.get(said["instance"])
            known = -2 if newest is None else json.loads(newest.content)["number"]
            follows = said["number"] == known if said["step"] == "ended" else said["number"] > known
            first = newest is not None and newest.from_agent == row.from_agent and follows
        if not first:
            self.lost.append(row)
        return first and row.message_id not in self.ids

    def _means(self, row: Message, receipts: set[str | None]) -> None:
        said = json.loads(row.content)
        if row.message_type == "receipt":
            self.settled.add((row.causation_id or "", row.from_agent))
            receipts.add(row.handling_id)
            return
        if row.kind == "ExecutionClaimed":
            self.claims[f"{row.from_agent}/{said['grant_id']}"] = row
        if row.kind == "GrantRevoked" and row.from_agent == "GovernanceAgent":
            self.claims[f"{said['executor']}/{said['grant_id']}"] = row
        if row.kind == "InstanceChanged":
            self.leases.pop(said["instance"], None)
            if said["step"] in ("started", "renewed"):
                self.leases[said["instance"]] = row
            if said["step"] == "started":
                self.subscribed[row.from_agent] = set(said["subscribes"])
        if row.to_agent == EVERYONE:
            self.published.add(row.message_id)
            for agent, kinds in self.subscribed.items():
                if row.kind in kinds:
                    self.owed[row.message_id, agent] = row
        elif row.to_agent in AGENTS:
            self.owed[row.message_id, row.to_agent] = row


class Interrupted(LocalStore):
    """Does something else between the data file and the entry of its next commit: whoever sleeps there sleeps long."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.between: Callable[[], None] | None = None

    @contextmanager
    def turn(self) -> Iterator[None]:
        yield  # nobody waits for one who is asleep

    def put_if_absent(self, path: str, data: bytes) -> bool:
        between, self.between = self.between, None
        if between is not None:
            between()
        return super().put_if_absent(path, data)


class OnlyWhenTold(LogBus):
    """Follows when it commits, and when it is asked to look: nothing happens by itself."""

    def _tail_loop(self) -> None:
        return


class Participant:
    """A bus and what was heard on it since it began."""

    def __init__(self, folder: Path, *, with_states: bool) -> None:
        self.store = Interrupted(folder)
        log = DeltaLog(self.store, AGENT_MESSAGES)
        self.bus = OnlyWhenTold(log, snapshots=Snapshots(log) if with_states else None, accept=accept)
        self.since = self.bus.state.version
        self.heard: list[str] = []
        self.bus.subscribe(lambda arrival: self.heard.extend(row.message_id for row in arrival.rows))

    def check(self, model: Model) -> None:
        self.bus.catch_up()
        state, judged = self.bus.state, model.judge()
        assert {key: row.position for key, row in state.open.items()} == {k: r.position for k, r in judged.open.items()}
        for agent in AGENTS:
            waiting = sorted(row.position for (_, name), row in judged.open.items() if name == agent)
            assert [row.position for row in state.open_for(agent)] == waiting
        assert {g: r.position for g, r in state.claims.items()} == {g: r.position for g, r in judged.claims.items()}
        assert {i: r.position for i, r in state.leases.items()} == {i: r.position for i, r in judged.leases.items()}
        assert {a: set(k) for a, k in state.subscriptions.items()} == judged.subscribed
        said = [row for row in judged.valid if row.message_type != "receipt"]
        for conversation in CONVERSATIONS:
            expected = [row.position for row in said if row.correlation_id == conversation]
            assert [row.position for row in self.bus.conversation(conversation)] == expected
        assert self.heard == [row.message_id for row in judged.valid if row.log_version > self.since]


class LogMachine(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self._scratch = tempfile.TemporaryDirectory()
        self.folder = Path(self._scratch.name) / "agent_messages"
        self.table = DeltaLog(self.folder, AGENT_MESSAGES)
        self.table.create()
        self.model = Model()
        self.numbers = 0
        self.writers = {name: Participant(self.folder, with_states=True) for name in WRITERS}
        self.sleeper = Participant(self.folder, with_states=True)
        limits = Limits(keep_s=0.0, checkpoint_every=2, fan_out=2)
        self.passes = Upkeep(self.table, Consumers(self.table), limits, Folding(Snapshots(self.table), accept))

    # --- what may be said --------------------------------------------------------------------------------------------

    def fresh(self) -> str:
        self.numbers += 1
        return f"m{self.numbers}"

    def row(self, **envelope: Any) -> Message:
        return message(
            **{"message_id": self.fresh(), "correlation_id": f"c{self.numbers % 3}", "key_id": KEY, **envelope}
        )

    def event(self, sender: str, payload: Any, conversation: str) -> Message:
        return self.row(
            correlation_id=conversation,
            from_agent=sender,
            to_agent=EVERYONE,
            message_type="event",
            kind=payload.kind(),
            content=payload.model_dump_json(),
        )

    def request(self, to: str, again: int | None) -> list[Message]:
        old = [row for row in self.model.judge().valid if row.kind == "Ping"]
        if again is not None and old:
            return [old[again % len(old)].model_copy(update={"log_version": -1, "seq": 0})]
        if to == EVERYONE:
            return [self.row(to_agent=EVERYONE, message_type="event", kind="Rang")]
        return [self.row(to_agent=to)]

    def handling(self, pick: int, key_id: str | None = KEY) -> list[Message]:
        """Of a message that is owed to an agent, settled or not."""
        owed = sorted(self.model.judge().owed.items())
        if not owed:
            return []
        (message_id, agent), of = owed[pick % len(owed)]
        common = {
            "correlation_id": of.correlation_id,
            "causation_id": message_id,
            "from_agent": agent,
            "key_id": key_id,
        }
        receipt_id = self.fresh()
        receipt = self.row(
            **{**common, "message_id": receipt_id, "to_agent": "", "message_type": "receipt", "kind": "Receipt"},
            handling_id=receipt_id,
        )
        to = ("user:eli", *AGENTS)[pick % 3]
        return [receipt, self.row(**common, kind="Pong", to_agent=to, handling_id=receipt_id)]

    def claim(self, pick: int) -> list[Message]:
        said = ExecutionClaimed(
            grant_id=f"g{pick % 3}",
            requester="eli",
            question="",
            code="",
            target=None,
            approved_by="ada",
            instance="i",
        )
        return [self.event(AGENTS[pick % 2], said, "grants")]

    def revocation(self, pick: int) -> list[Message]:
        said = GrantRevoked(grant_id=f"g{pick % 3}", executor=AGENTS[pick % 2], actor="ada", reason="")
        return [self.event("GovernanceAgent" if pick % 4 else "A", said, "grants")]

    def lease(self, step: str, pick: int) -> list[Message]:
        known = self.model.judge().leases
        instance, agent, number = f"i{pick % 3}", AGENTS[pick % 2], 0
        if instance in known:
            agent, number = known[instance].from_agent, json.loads(known[instance].content)["number"]
            number += (step == "renewed") - (pick % 5 == 0)
            step = "renewed" if step == "started" else step
        said = InstanceChanged(
            agent=agent,
            instance=instance,
            host="h",
            engine="tail",
            step=step,
            number=number,
            kinds=[],
            subscribes=["Rang"] if pick % 2 else [],
        )
        return [self.event(agent, said, "leases")]

    # --- saying it ---------------------------------------------------------------------------------------------------

    def say(self, who: str, rows: list[Message], between: Callable[[], None] | None = None) -> None:
        """By `who`; the list decides what must come of it, as it is after whatever happened `between`."""
        if not rows:
            return
        before = len(self.model.judge().lost)
        if self.model.judge(rows).lost[before:]:
            between = None  # known to be lost: nothing is put
        writer = self.writers[who]
        writer.store.between = between
        future = writer.bus.submit(rows)
        error = future.exception(30)
        writer.store.between = None
        before = len(self.model.judge().lost)
        lost = bool(self.model.judge(rows).lost[before:])
        if error is not None and not isinstance(error, Superseded):
            raise error
        assert lost == isinstance(error, Superseded)
        if error is None:
            self.model.add(future.result(), rows)

    @rule(who=what(WRITERS), to=what([*AGENTS, EVERYONE, "user:eli"]), again=st.none() | picks)
    def send(self, who: str, to: str, again: int | None) -> None:
        self.say(who, self.request(to, again))

    @rule(who=what(WRITERS), pick=picks)
    def handle(self, who: str, pick: int) -> None:
        self.say(who, self.handling(pick))

    @rule(who=what(WRITERS), pick=picks)
    def take_a_grant(self, who: str, pick: int) -> None:
        self.say(who, self.claim(pick))

    @rule(who=what(WRITERS), pick=picks)
    def revoke_a_grant(self, who: str, pick: int) -> None:
        self.say(who, self.revocation(pick))

    @rule(who=what(WRITERS), step=what(["started", "renewed", "stopped", "ended"]), pick=picks)
    def change_a_lease(self, who: str, step: str, pick: int) -> None:
        self.say(who, self.lease(step, pick))

    @rule(pick=picks, kind=what(["handle", "claim", "revocation", "lease", "send"]), slept=st.booleans())
    def race(self, pick: int, kind: str, slept: bool) -> None:
        """Both decide the same; one of them first. `slept`: and the log was cleaned before the other went on."""

        def rows() -> list[Message]:
            match kind:
                case "handle":
                    return self.handling(pick)
                case "claim":
                    return self.claim(pick)
                case "revocation":
                    return self.revocation(pick)
                case "lease":
                    return self.lease("ended", pick)
                case _:
                    return self.request("A", None)

        def between() -> None:
            self.say("two", rows())
            if slept:
                for _ in range(3):
                    self.say("two", self.request("B", None))
                    self.passes.run()

        self.say("one", rows(), between)

    @rule(who=what(WRITERS), count=st.integers(1, 4))
    def bulk(self, who: str, count: int) -> None:
        plain = [
            {
                "message_id": self.fresh(),
                "correlation_id": "c0",
                "to_agent": "A",
                "kind": "Ping",
                "content": "{}",
                "timestamp": 1,
            }
            for _ in range(count)
        ]
        common = {"from_agent": "user:eli", "message_type": "request", "principal": "eli"}
        version = self.writers[who].bus.submit_rows(plain, common).result(30)
        self.model.add(version, [Message(**common, **one) for one in plain])

    @rule(pick=picks)
    def somebody_forges_a_handling(self, pick: int) -> None:
        rows = self.handling(pick, key_id=None)
        if rows:
            self.model.add(append(self.table, *rows), rows)

    @rule()
    def upkeep(self) -> None:
        self.passes.run()

    @rule(who=what(WRITERS), with_states=st.booleans())
    def start_anew(self, who: str, with_states: bool) -> None:
        self.writers[who].bus.close()
        self.writers[who] = Participant(self.folder, with_states=with_states)

    # --- what must be so ---------------------------------------------------------------------------------------------

    @rule(who=what([*WRITERS, "sleeper"]))
    def look(self, who: str) -> None:
        (self.sleeper if who == "sleeper" else self.writers[who]).check(self.model)

    @invariant()
    def an_entry_says_what_its_file_says(self) -> None:
        """Few rows stand twice: followers believe the entry, every Delta reader the file."""
        for version in list(self.model.commits)[-1:]:
            entry = self.table.entry(version)
            if entry is not None and self.table.store.exists(entry.added[0].file):
                assert codec.of_entry(self.table, entry) == codec.from_arrow(self.table.read(entry), version)

    def teardown(self) -> None:
        if not hasattr(self, "model"):
            return
        try:
            everybody = [*self.writers.values(), self.sleeper]
            for with_states in (False, True):
                everybody.append(Participant(self.folder, with_states=with_states))
            for one in everybody:
                one.check(self.model)
            found = (
                DeltaTable(str(self.folder)).to_pyarrow_table(columns=["message_id", "log_version", "seq"]).to_pylist()
            )
            said = [row for version in sorted(self.model.commits) for row in self.model.commits[version]]
            expected = [{"message_id": m.message_id, "log_version": m.log_version, "seq": m.seq} for m in said]
            assert sorted(found, key=lambda r: (r["log_version"], r["seq"])) == expected
        finally:
            for one in everybody:
                one.bus.close()
            self._scratch.cleanup()


def test_everybody_says_what_the_list_says() -> None:
    how = settings(max_examples=15, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(LogMachine, settings=how)


def test_a_forged_handling_does_not_change_a_conversation_that_is_read_again() -> None:
    """A bus that began from a written state reads closed conversations from the table, where the forged receipt came first."""
    machine = LogMachine()
    machine.begin()
    machine.send("one", "A", None)
    machine.somebody_forges_a_handling(0)
    machine.handle("one", 0)
    machine.send("two", "user:eli", None)
    machine.upkeep()
    machine.start_anew("one", with_states=True)
    machine.teardown()

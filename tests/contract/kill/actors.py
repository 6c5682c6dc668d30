"""Who works over the log while processes die: producers, hosts with two agents and a doer of effects, upkeep."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from concurrent.futures import TimeoutError as TookTooLong
from pathlib import Path
from typing import Any

from bus.audit import AuditChain
from bus.keys import Keyring, KeyWitness, Signer, create_keys
from bus.log.bus import LogBus
from bus.log.consumers import Consumers, Registered
from bus.log.seal import SigningSeal
from bus.log.snapshot import Snapshots
from bus.log.table import DeltaLog
from bus.log.upkeep import Folding, Limits, Upkeep
from bus.projections.projector import Projection, Projector
from bus.projections.tables import event_row
from bus.tail import TailFeed
from bus.trust import SignedTrust
from schemas.envelope import Message
from schemas.payloads import ExecutionClaimed, Payload
from schemas.tables import AGENT_EVENTS, AGENT_MESSAGES
from tests.contract.kill.points import CLAIMED, EFFECT, HANDLED, Fate, FatedLog, FatedStore, note
from workers.runtime.base import Context, Outgoing, Received, Worker, audit, event, reply, request
from workers.runtime.clock import SystemClock
from workers.runtime.host import Host
from workers.runtime.leases import Timing

ENVIRONMENT = "test"
AGENTS = ("Teller", "Echo", "ExecutionAgent")
HOLDERS = {"user-eli": ["user:eli"], "host": [*AGENTS], "upkeep": ["Upkeep"]}
#: Short, so that whoever sleeps for a second or two has slept through it.
LEASE_S = 0.5
#: A follower that is silent for longer holds no clean-up back.
LOST_S = 1.0
#: Pings of one conversation come from all producers.
TOGETHER = 4
#: Files that left the table stay for this long: a reader may be asleep.
KEEP_S = 15.0


class Ping(Payload):
    n: int


class Told(Payload):
    """What the handler saw: ids of the conversation's pings, in the order in which they stood there."""

    saw: list[str]


class Heard(Payload):
    about: str


class Rang(Payload):
    about: str


class Do(Payload):
    grant_id: str


class Did(Payload):
    outcome: str


class Teller(Worker):
    """Asks another agent, publishes, writes an audit fact, and answers what it saw: everything one commit can hold."""

    handles = (Ping,)

    def __init__(self, fate: Fate) -> None:
        self._fate = fate

    async def handle(self, message: Received, context: Context) -> list[Outgoing]:
        saw = [row.message_id for row in context.conversation if row.kind == "Ping"]
        about = message.message.message_id
        self._fate.passes(HANDLED)
        told = audit("told", "done", about=about)
        return [request("Echo", Heard(about=about)), event(Rang(about=about)), told, reply(message, Told(saw=saw))]


class Echo(Worker):
    """Hears of everything twice: as a request, and as an event it subscribes to."""

    handles = (Heard,)
    subscribes = (Rang,)

    async def handle(self, message: Received, context: Context) -> list[Outgoing]:
        return [Outgoing("user:eli", Did(outcome=message.message.message_id), "response")]


class ExecutionAgent(Worker):
    """Claims, then does what nothing can take back: a line in a file outside of the log."""

    handles = (Do,)

    def __init__(self, fate: Fate, effects: Path) -> None:
        self._fate, self._effects = fate, effects

    async def handle(self, message: Received, context: Context) -> list[Outgoing]:
        assert isinstance(message.payload, Do)
        grant = message.payload.grant_id
        claim = context.claims.get(grant)
        if claim is not None:
            mine = claim.causation_id == message.message.message_id
            return [reply(message, Did(outcome="in doubt" if mine else "used"))]
        said = ExecutionClaimed(
            grant_id=grant,
            requester="eli",
            question="",
            code="",
            target=None,
            approved_by="ada",
            instance=context.instance,
        )
        if not await context.commit([event(said)]):
            return [reply(message, Did(outcome="used"))]
        self._fate.passes(CLAIMED)
        if not await context.still_ours():
            return [reply(message, Did(outcome="not begun"))]
        note(self._effects, grant)
        self._fate.passes(EFFECT)
        return [reply(message, Did(outcome="done"))]


class Place:
    """The folder all of them share."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.keys = folder / "keys"
        self.effects, self.fates = folder / "effects.txt", folder / "fates.txt"

    def create(self) -> None:
        create_keys(self.keys, HOLDERS, 0)
        for schema in (AGENT_MESSAGES, AGENT_EVENTS):
            DeltaLog(self.folder / schema.name, schema).create()

    def fate(self, how: str, point: str, after: int) -> Fate:
        return Fate(how, point, after, self.fates)

    def log(self, schema: Any, fate: Fate) -> FatedLog:
        log = FatedLog(FatedStore(self.folder / schema.name, fate), schema)
        log.fate = fate
        return log

    def bus(self, fate: Fate, subjects: tuple[str, ...], writer: str, **how: Any) -> LogBus:
        log = self.log(AGENT_MESSAGES, fate)
        table_id = log.check()
        seal = SigningSeal(Signer.load(self.keys, subjects, table_id, ENVIRONMENT), AuditChain(writer))
        keyring = Keyring.load(self.keys)
        return LogBus(
            log,
            seal=seal,
            snapshots=self.snapshots(log, table_id),
            accept=lambda row: keyring.accepts(row, table_id, ENVIRONMENT),
            **how,
        )

    def snapshots(self, log: DeltaLog, table_id: str, *, writes: bool = False) -> Snapshots:
        signer = Signer.load(self.keys, ["Upkeep"], table_id, ENVIRONMENT) if writes else None
        return Snapshots(log, KeyWitness(Keyring.load(self.keys), "Upkeep", (table_id, ENVIRONMENT), signer))

    def produced(self, name: str) -> Path:
        return self.folder / f"{name}.sent.txt"


def ping(name: str, n: int) -> Message:
    """The same message however often it is made; each fourth asks for an effect, under a grant that others ask for too."""
    kind, to, content = "Ping", "Teller", Ping(n=n).model_dump_json()
    if n % 4 == 3:
        kind, to, content = "Do", "ExecutionAgent", Do(grant_id=f"g{n}").model_dump_json()
    return Message(
        message_id=f"{name}-{n}",
        correlation_id=f"c{n // TOGETHER}",
        from_agent="user:eli",
        to_agent=to,
        message_type="request",
        kind=kind,
        content=content,
        timestamp=1_767_225_600_000_000 + n,
        principal="eli",
    )


def producer(place: Place, fate: Fate, name: str, seed: int) -> None:
    """Notes before it sends and after it was told; whoever comes after it sends again what was never acknowledged."""
    luck = random.Random(seed)
    file = place.produced(name)
    lines = [line.split("\t") for line in file.read_text().splitlines()] if file.exists() else []
    told = {int(number) for what, number in lines if what == "ack"}
    n = max((int(number) for _, number in lines), default=-1) + 1
    again = sorted({int(number) for what, number in lines} - told)
    bus = place.bus(fate, ("user:eli",), name, follow_only=True)
    while True:
        numbers = again or list(range(n, n + luck.choice([1, 1, 1, 2, 5])))
        n = max([n - 1, *numbers]) + 1
        again = []
        for number in numbers:
            note(file, f"sent\t{number}")
        waiting = [(number, bus.submit([ping(name, number)])) for number in numbers]
        for number, future in waiting:
            try:
                future.result(30)
            except TookTooLong:
                again.append(number)
                continue
            note(file, f"ack\t{number}")
        if luck.random() < 0.1:  # somebody does not know that it came
            again += [luck.choice(numbers)]
        time.sleep(luck.uniform(0.02, 0.12))


def host(place: Place, fate: Fate, name: str, seed: int) -> None:
    asyncio.run(_host(place, fate, name, is_registered=bool(seed % 2)))


async def _host(place: Place, fate: Fate, name: str, *, is_registered: bool) -> None:
    bus = place.bus(fate, AGENTS, name)
    keyring = Keyring.load(place.keys)

    def accept(row: Message) -> bool:
        return keyring.accepts(row, bus.table_id, ENVIRONMENT)

    projection = Projection(place.log(AGENT_EVENTS, fate), event_row, accept)
    companions: list[Any] = [Projector(bus, bus.table, [projection], pause_s=0.005, accept=accept)]
    if is_registered:
        companions.append(Registered(Consumers(bus.table, LOST_S), name, lambda: bus.state.version, every_s=0.3))
    host = Host(
        [Teller(fate), Echo(), ExecutionAgent(fate, place.effects)],
        bus,
        TailFeed(bus),
        SignedTrust(keyring, bus.table_id, ENVIRONMENT),
        SystemClock(),
        [],
        companions=companions,
        timing=Timing(LEASE_S),
    )
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await host.start()
    assert host.lost is not None
    await asyncio.wait([asyncio.ensure_future(stop.wait()), host.lost], return_when=asyncio.FIRST_COMPLETED)
    if host.lost.done():
        raise host.lost.result()
    await host.stop()


def upkeep(place: Place, fate: Fate, name: str, seed: int) -> None:
    log = place.log(AGENT_MESSAGES, fate)
    table_id = log.check()
    keyring = Keyring.load(place.keys)
    folding = Folding(
        place.snapshots(log, table_id, writes=True), lambda row: keyring.accepts(row, table_id, ENVIRONMENT)
    )
    passes = Upkeep(log, Consumers(log, LOST_S), Limits(keep_s=KEEP_S, checkpoint_every=20, fan_out=4), folding)
    while True:
        passes.run(force=True)
        time.sleep(0.05)


def settled(place: Place, fate: Fate, name: str, seed: int) -> None:
    """Ends when nothing waits any more."""
    bus = place.bus(fate, ("user:eli",), name)
    while bus.state.open:
        time.sleep(0.05)
        bus.catch_up()
    bus.close()


ROLES = {"producer": producer, "host": host, "upkeep": upkeep, "settled": settled}

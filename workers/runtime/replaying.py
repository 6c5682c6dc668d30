"""Replaying: a recorded message through a worker again, in the world it saw then, with nothing committed."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

from pydantic import ValidationError

from bus.base import Listener
from bus.errors import Superseded
from bus.fold import State, claim_of, decision_key
from bus.trust import Trust
from schemas.envelope import Message
from schemas.payloads import Receipt
from workers.runtime.base import Context, Outgoing, Received, Worker
from workers.runtime.middleware import Handler
from workers.runtime.middleware.time_limit import time_limit
from workers.runtime.redrive import MayRedrive
from workers.runtime.runner import MemoryOf, Runner, no_memory, nobody

#: Microseconds a row may be older than the handling it belongs to: both times come from a clock that is not ours.
SLACK = 100_000


@dataclass(frozen=True)
class Recording:
    """One message as one agent handled it. `rows`: the valid rows of the conversation, receipts included, in log order."""

    message: Message
    receipt: Message
    rows: Sequence[Message]
    #: What the handling wrote into shared memory, as rows.
    noted: Sequence[Message] = ()
    #: Whether the message has left the table for an archive.
    from_archive: bool = False

    @property
    def agent(self) -> str:
        return self.receipt.from_agent

    @cached_property
    def said(self) -> Receipt:
        """What the receipt says. A receipt that says nothing readable counts as handled."""
        try:
            return Receipt.model_validate_json(self.receipt.content)
        except ValidationError:
            return Receipt(outcome="handled")

    @property
    def began(self) -> int:
        """When the handling began, as far as the receipt tells (UTC microseconds)."""
        return self.receipt.timestamp - round((self.said.handled_ms or 0.0) * 1000)

    @cached_property
    def committed(self) -> tuple[Message, ...]:
        """What this handling sent before it ended. An earlier handling that died left its own; that was seen then."""
        causes = self._repeated()
        return tuple(
            row
            for row in self.rows
            if row.from_agent == self.agent
            and row.causation_id in causes
            and row.handling_id is None
            and row.message_type != "receipt"
            and self.message.position < row.position < self.receipt.position
            and row.timestamp >= self.began - SLACK
        )

    def _repeated(self) -> set[str]:
        """The message, and those it repeats when it was redriven: what came out names the first of them as its cause."""
        by_id = {row.message_id: row for row in self.rows} if self.message.attempt > 1 else {}
        found, message = {self.message.message_id}, self.message
        while message.attempt > 1 and (before := by_id.get(message.causation_id or "")) is not None:
            found.add(before.message_id)
            message = before
        return found

    @cached_property
    def outputs(self) -> tuple[Message, ...]:
        """Everything that came out: rows in log order, then what was written into shared memory."""
        handling = self.receipt.handling_id or self.receipt.message_id
        settled = (r for r in self.rows if r.handling_id == handling and r.message_type != "receipt")
        return (*self.committed, *settled, *self.noted)

    @cached_property
    def known(self) -> list[Message]:
        """The conversation as it stood when this was handled: what its own handling added is not in it."""
        own = {row.message_id for row in self.committed}
        return [
            row
            for row in self.rows
            if row.message_type != "receipt" and row.position < self.receipt.position and row.message_id not in own
        ]


def recordings(rows: Sequence[Message]) -> Iterator[Recording]:
    """Every handling in one conversation's valid rows, in the order they ended."""
    by_id = {row.message_id: row for row in rows if row.message_type != "receipt"}
    for row in rows:
        if row.message_type == "receipt" and (message := by_id.get(row.causation_id or "")) is not None:
            yield Recording(message, row, rows)


class Claims(Mapping[str, Message]):
    """The claims that were in the log when the recording ended, without the one it made itself."""

    def __init__(self, every: Mapping[str, Message], recording: Recording) -> None:
        self._every = every
        self._before = recording.receipt.position
        self._own = {row.message_id for row in recording.committed}

    def __getitem__(self, grant_id: str) -> Message:
        claim = self._every[grant_id]
        if claim.position >= self._before or claim.message_id in self._own:
            raise KeyError(grant_id)
        return claim

    def __iter__(self) -> Iterator[str]:
        return (grant_id for grant_id in self._every if grant_id in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, grant_id: object) -> bool:
        try:
            return isinstance(grant_id, str) and self[grant_id] is not None
        except KeyError:
            return False


class SkippedEffect(Exception):
    """The worker asked for something that the log does not tell and that cannot be done without effects."""


class Moment:
    """The recording that is being replayed, for ports that answer as the log did.

    A port that cannot says so here too: a worker may take its exception for an ordinary failure.
    """

    def __init__(self) -> None:
        self.recording: Recording | None = None
        self.skipped: str | None = None
        #: What was written beside the bus, as rows: only noted, like all that comes out.
        self.noted: list[Message] = []

    def begin(self, recording: Recording) -> None:
        self.recording, self.skipped, self.noted = recording, None, []

    @property
    def version(self) -> int:
        """Version of the log that the handling saw at most."""
        return -1 if self.recording is None else self.recording.receipt.log_version

    def skip(self, why: str) -> SkippedEffect:
        self.skipped = self.skipped or why
        return SkippedEffect(why)


@dataclass(frozen=True)
class Replayed:
    """What came out this time. `where`: the line that raised, for a person; `skipped`: why nothing can be said."""

    receipt: Receipt
    outputs: tuple[Message, ...]
    instance: str
    where: str = ""
    skipped: str | None = None


class Replayer:
    """Runs an agent's recordings through a worker. `claims`: every claim of the log, by grant.

    The worker is run by the very runner that hosts use; only its bus records instead of committing.
    """

    def __init__(
        self,
        worker: Worker,
        trust: Trust,
        moment: Moment | None = None,
        claims: Mapping[str, Message] | None = None,
        may_redrive: MayRedrive = nobody,
        memory_of: MemoryOf = no_memory,
    ) -> None:
        self.worker = worker
        self.instance = f"{worker.name}-replaying"
        self._trust = trust
        self._moment = moment or Moment()
        self._claims = claims or {}
        self._may_redrive = may_redrive
        self._memory_of = memory_of
        self._state = State()

    async def replay(self, recording: Recording) -> Replayed:
        self._moment.begin(recording)
        bus = RecordingBus(recording, Claims(self._claims, recording), self._state)
        attempt = _Attempt(recording.said.attempts)
        clock = _Then(recording.began)
        around = [attempt, time_limit]
        runner = Runner(
            self.worker,
            self.instance,
            bus,
            self._trust,
            clock,
            around,
            may_redrive=self._may_redrive,
            memory_of=self._memory_of,
        )
        try:
            bus.settle(await runner.handle(recording.message))
        except (Exception, SystemExit) as error:  # nothing that one message does ends the replay of the others
            bus.failed(f"{type(error).__name__}: {error}")
        outputs = (*bus.outputs, *self._moment.noted)
        return Replayed(bus.receipt, outputs, self.instance, attempt.where, self._moment.skipped)


class RecordingBus:
    """A bus as the handling saw it. What is submitted is remembered; the answer is the one the log gave."""

    def __init__(self, recording: Recording, claims: Mapping[str, Message], state: State) -> None:
        """`state` is made over into that of the moment: a new one for each message would cost more than most handlers."""
        self.state = state
        self.state.version = recording.receipt.log_version
        self.state.claims = claims
        self.state.open = {(recording.message.message_id, recording.agent): recording.message}
        self.on_failure: Any = lambda _: None
        self.outputs: list[Message] = []
        self._recording = recording
        #: What the runner says of the handling; it settles every message it runs.
        self.receipt = Receipt(outcome="dead", reason="it ended without a word")

    def settle(self, rows: Sequence[Message]) -> None:
        """What would be the commit that ends the handling: the receipt and the outputs."""
        self.receipt = Receipt.model_validate_json(next(r.content for r in rows if r.message_type == "receipt"))
        self.outputs += [row for row in rows if row.message_type != "receipt"]

    def failed(self, reason: str) -> None:
        """The handling ended in a way that no runner survives."""
        self.receipt = Receipt(outcome="dead", reason=reason)

    def submit(self, messages: Sequence[Message]) -> Future[int]:
        done: Future[int] = Future()
        taken = next((decision_key(row) for row in messages if self._is_taken(row)), None)
        if taken is not None:
            done.set_exception(Superseded(taken))
            return done
        self.outputs += messages
        done.set_result(self._recording.receipt.log_version)
        return done

    def _is_taken(self, row: Message) -> bool:
        return decision_key(row) is not None and claim_of(row) in self.state.claims

    def subscribe(self, listener: Listener) -> Any:
        return lambda: None

    def conversation(self, correlation_id: str) -> list[Message]:
        return list(self._recording.known) if correlation_id == self._recording.message.correlation_id else []

    def catch_up(self) -> int:
        return self.state.version

    def close(self) -> None:
        return


class _Then:
    """The clock of the recording; whoever sleeps gets the time at once."""

    def __init__(self, micros: int) -> None:
        self._now = datetime.fromtimestamp(micros / 1e6, UTC)

    def now(self) -> datetime:
        return self._now

    async def sleep(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)
        await asyncio.sleep(0)


class _Attempt:
    """A middleware: one attempt, with the number of the one that counted then; remembers where it failed."""

    def __init__(self, number: int) -> None:
        self._number = number
        self.where = ""

    async def __call__(self, call_next: Handler, message: Received, context: Context, worker: Worker) -> list[Outgoing]:
        context.handling.attempts = self._number
        try:
            return await call_next(message, replace(context, attempt=self._number))
        except Exception as error:
            frames = traceback.extract_tb(error.__traceback__)
            if frames:
                self.where = f"{frames[-1].filename}:{frames[-1].lineno} in {frames[-1].name}"
            raise

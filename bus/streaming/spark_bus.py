"""The bus over a table that Spark writes (Unity Catalog): append first, read back, and only then know what was decided.

LogBus decides before it commits, and whoever loses writes nothing. Here the version is Spark's to give, so the decision
comes after the commit: the bus reads every version whole, folds it, and acknowledges a submission when it has seen its own
rows count. Whoever lost a race is told so (Superseded), and leaves rows in the table that count for nothing: every fold,
and the view `valid_messages`, drops them. What is known to be lost before the append is not written at all.

What follows for a submission: one receipt or one claim at most (leases may come together), and with a receipt every row
gets its `handling_id`, so that all of them count or none. Audit facts of a handling that lost stay in their writer's
chain: whoever verifies a chain here reads all rows, not the valid ones alone.
"""

from __future__ import annotations

import queue
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import structlog

from bus.base import Arrival, Listener, enlist, tell, too_large
from bus.errors import Closed, LogError, Superseded, Untrusted
from bus.fold import State, decision_key, is_binding, valid_rows
from bus.log.bus import COMMIT_LIMIT, Accept, accept_all
from bus.log.follower import deciding
from bus.log.seal import NoSeal, Seal
from bus.log.snapshot import Snapshots
from bus.streaming.spark_table import Commit, SparkTable
from schemas.envelope import Message

log = structlog.get_logger(__name__)

#: Characters of content one commit carries at most: they pass through the driver.
BYTES_LIMIT = 32 << 20
#: Seconds between two looks at the table, each of them work for the driver; up to IDLE times that when nothing comes.
POLL_S = 0.2
IDLE = 5
#: Looks that may fail, one after the other, before the log counts as lost.
PATIENCE = 10
#: Seconds after a look that failed.
RETRY_AFTER = 1.0


@dataclass
class _Submission:
    messages: Sequence[Message]
    done: Future[int]


@dataclass
class _Append:
    """A commit that was handed to Spark and not yet seen in the table."""

    number: int
    messages: list[Message]
    waiting: list[_Submission]


class SparkBus:
    """A bus whose state follows the change feed of `table`. One writer thread (group commit) and one that follows.

    `follow_only`: starts at the head without the history. `snapshots`: written states, so that a start reads what came
    after the newest, not everything. `accept`: whether a row's signature holds.
    """

    def __init__(
        self,
        table: SparkTable,
        *,
        seal: Seal | None = None,
        state: State | None = None,
        snapshots: Snapshots | None = None,
        follow_only: bool = False,
        linger_ms: float = 0.0,
        accept: Accept = accept_all,
        poll_s: float | None = None,
    ) -> None:
        self.table = table
        self.table_id = table.check()
        self._snapshots = snapshots
        self.state = state or State(partial=follow_only)
        self.on_failure: Callable[[BaseException], None] = lambda _: None
        self._seal = seal or NoSeal()
        self._linger = linger_ms / 1000
        self._accept = accept
        self._poll = POLL_S if poll_s is None else poll_s
        #: Whom the table knows our commits by: of one name, a number is committed once.
        self._app_id = f"tailrace:{uuid.uuid4().hex}"
        self._number = 0
        self._under_way: _Append | None = None
        self._lock = threading.RLock()  # state and listeners
        self._reading = threading.RLock()  # one look at a time; taken before the other
        self._listeners: list[Listener] = []
        self._submissions: queue.SimpleQueue[_Submission | None] = queue.SimpleQueue()
        self._gate = threading.Lock()
        self._closed = False
        self._stopping = threading.Event()
        #: Every version up to `_head` is absorbed. The next look begins at `_next`: above it, after a clean-up by far.
        self._head = table.head() if follow_only else self._load()
        self._next = self._head + 1
        self.state.version = self._head
        self._writer = threading.Thread(target=self._write_loop, name="spark-bus-writer", daemon=True)
        self._follower = threading.Thread(target=self._follow_loop, name="spark-bus-follower", daemon=True)
        self._writer.start()
        self._follower.start()

    # --- the interface -----------------------------------------------------------------------------------------------

    def submit(self, messages: Sequence[Message]) -> Future[int]:
        done: Future[int] = Future()
        done.set_running_or_notify_cancel()  # whoever gives up waiting does not take it out of a commit it shares
        with self._gate:
            error: Exception | None = Closed("the bus is closed") if self._closed else too_large(messages)
            if error is not None:
                done.set_exception(error)
            else:
                self._submissions.put(_Submission(messages, done))
        return done

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        return enlist(self._listeners, listener, self._lock)

    def conversation(self, correlation_id: str) -> list[Message]:
        with self._lock:
            known = self.state.conversation(correlation_id)
        if known is not None:
            return known
        found = self.table.scan(conversation=correlation_id)
        rows = self._deciding([row for _, commit in found for row in commit])
        return [m for m in valid_rows(rows) if m.message_type != "receipt"]

    def catch_up(self) -> int:
        with self._reading:
            for version, rows in self._news():
                self._fold(version, rows)
            return self._head

    def close(self) -> None:
        with self._gate:
            if self._closed:
                return
            self._closed = True
            self._submissions.put(None)
        self._writer.join()
        self._stopping.set()
        self._follower.join()

    # --- absorbing ---------------------------------------------------------------------------------------------------

    def _load(self) -> int:
        """The newest state that was written down and what came after it; without one, everything."""
        if self._snapshots is not None and (written := self._snapshots.newest()) is not None:
            self.state = written
        return absorb_news(self.table, self.state, self._accept)

    def _news(self) -> list[Commit]:
        """Commits above the head. Where only commits without data came, the next look begins at the same place."""
        try:
            found = self.table.changes(self._next)
        except LogError:
            raise
        except Exception:
            newest = self.table.head()
            if newest < self._next:
                raise
            # The feed may not reach back that far any more: what we missed is in the table itself.
            log.warning("bus.overtaken", was_at=self._head, now_at=newest)
            found = self.table.scan(above=self._head)
            self._next = newest + 1
        return [commit for commit in found if commit[0] > self._head]

    def _deciding(self, rows: Sequence[Message]) -> list[Message]:
        return deciding(rows, self._accept)

    def _fold(self, version: int, rows: Sequence[Message]) -> None:
        with self._lock:
            valid = self.state.absorb(self._deciding(rows))
            self._head = self.state.version = version
            self._next = max(self._next, version + 1)
            append = self._under_way
            own = append is not None and _marks(rows) == _marks(append.messages)
            tell(self._listeners, Arrival(version, tuple(valid), own))
            if append is not None and own:
                self._under_way = None
                self._seal.commit()
                self._answer(append, version, valid)

    def _answer(self, append: _Append, version: int, valid: Sequence[Message]) -> None:
        counting = {row.message_id for row in valid}
        refused = {row.message_id: row for row in append.messages if is_binding(row) and not self._accept(row)}
        for one in append.waiting:
            lost = next((m for m in one.messages if decision_key(m) and m.message_id not in counting), None)
            if lost is None:
                one.done.set_result(version)
            elif lost.message_id in refused:
                said = f"nobody here accepts the signature of {lost.from_agent} ({refused[lost.message_id].key_id})"
                one.done.set_exception(Untrusted("signature.own", said))
            else:
                one.done.set_exception(Superseded(decision_key(lost) or ""))

    def _follow_loop(self) -> None:
        failures, wait = 0, self._poll
        while not self._stopping.is_set():
            try:
                known = self._head
                wait = self._poll if self.catch_up() > known else min(wait * 1.5, self._poll * IDLE)
                failures = 0
                self._stopping.wait(wait)
            except Exception as error:
                failures += 1
                if isinstance(error, LogError) or failures >= PATIENCE:
                    log.exception("bus.follow_failed", table=self.table.name)
                    self.on_failure(error)
                    return
                log.warning("bus.follow_interrupted", table=self.table.name, error=str(error)[:300])
                self._stopping.wait(RETRY_AFTER)

    # --- committing --------------------------------------------------------------------------------------------------

    def _write_loop(self) -> None:
        open_for_more = True
        while open_for_more:
            batch = [self._submissions.get()]
            if self._linger:
                time.sleep(self._linger)
            count = size = 0
            while count < COMMIT_LIMIT and size < BYTES_LIMIT and not self._submissions.empty():
                batch.append(self._submissions.get())
                count += len(batch[-1].messages) if batch[-1] else 0
                size += sum(len(m.content) for m in batch[-1].messages) if batch[-1] else 0
            open_for_more = None not in batch
            pending = [one for one in batch if one is not None]
            if pending:
                self._commit(pending)

    def _commit(self, pending: list[_Submission]) -> None:
        try:
            self._fence()
            self.catch_up()
            with self._lock:
                pending = self._still_wanted(pending)
            if not pending:
                return
            try:
                sealed = self._seal.apply([m for one in pending for m in one.messages])
            except Exception:
                if len(pending) == 1:
                    raise
                for one in pending:  # one of them cannot be signed; its neighbours go on
                    self._commit([one])
                return
            self._number += 1
            append = _Append(self._number, sealed, pending)
            with self._lock:
                self._under_way = append
            self.table.append(append.messages, self._app_id, append.number)
            self._await(append)
        except Exception as error:
            with self._lock:
                for one in pending:
                    if not one.done.done():
                        one.done.set_exception(error)
                if self._under_way is not None:
                    self._under_way.waiting = []

    def _await(self, append: _Append) -> None:
        """Until our rows came back. Spark shows what it has committed, if not to the first look."""
        for _ in range(PATIENCE):
            self.catch_up()
            if self._under_way is not append:
                return
            self._stopping.wait(self._poll)
        raise LogError(f"Spark said that {self.table.name} has our commit {append.number}, and it does not show it")

    def _fence(self) -> None:
        """After an append whose outcome stayed open: make sure that it cannot come any more, then see whether it came.

        A later number under our name ends the earlier one. Without this, a commit that was given up could appear after
        its successors, and the audit facts in it would take places in the chain that were given to others.
        """
        if self._under_way is None:
            return
        self._number += 1
        self.table.append([], self._app_id, self._number)
        self.catch_up()
        with self._lock:
            self._under_way = None

    def _still_wanted(self, pending: list[_Submission]) -> list[_Submission]:
        """Drop what the log has decided against, or what a neighbour in this very commit decides first."""
        taken: set[str] = set()
        kept: list[_Submission] = []
        for one in pending:
            keys = [key for message in one.messages if (key := decision_key(message))]
            lost = next((k for m in one.messages if (k := self.state.decided(m))), None)
            lost = lost or next((key for key in keys if key in taken), None)
            try:
                if lost is not None:
                    raise Superseded(lost)
                kept.append(_Submission(indivisible(one.messages), one.done))
            except (Superseded, ValueError) as error:
                one.done.set_exception(error)
                continue
            taken.update(keys)
        return kept


def absorb_news(
    table: SparkTable, state: State, accept: Accept, heard: Callable[[Sequence[Message]], None] = lambda _: None
) -> int:
    """Fold what the table holds above the state's version; returns the version reached. `heard`: told what counts."""
    known = max(state.version, 0)
    found = table.scan() if known == 0 else _above(table, known)
    for version, rows in found:
        if version > known:
            heard(state.absorb(deciding(rows, accept)))
            state.version = version
    return max(state.version, known)


def _above(table: SparkTable, version: int) -> list[Commit]:
    """By the change feed, which reads new files only; where it does not reach back that far any more, by a scan."""
    try:
        return table.changes(version + 1)
    except LogError:
        raise
    except Exception as error:
        log.warning("bus.scans_the_table", table=table.name, after=version, reason=str(error)[:200])
        return table.scan(above=version)


def indivisible(messages: Sequence[Message]) -> list[Message]:
    """The rows, marked so that after a lost race none of them counts. Raises ValueError where no mark can do that.

    Leases are exempt: each stands for itself, and correctness never depends on one.
    """
    decisions = [m for m in messages if (key := decision_key(m)) and not key.startswith("lease:")]
    if not decisions:
        return list(messages)
    decision, others = decisions[0], [m for m in messages if m is not decisions[0]]
    if len(decisions) > 1 or (others and decision.message_type != "receipt"):
        raise ValueError(
            "through Spark a submission decides one thing, one receipt with its outputs or one claim alone; "
            f"this one holds {', '.join(m.kind for m in messages)}"
        )
    mark = {"handling_id": decision.handling_id or decision.message_id}
    return [decision, *(m if m.handling_id else m.model_copy(update=mark) for m in others)]


def _marks(rows: Sequence[Message]) -> list[tuple[str, str, str | None, str | None]]:
    """What tells one commit from another, in order."""
    return [(row.message_id, row.content, row.handling_id, row.signature) for row in rows]

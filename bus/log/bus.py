"""The bus over the Delta log: decide first, encode second, put if absent; whoever loses absorbs and decides again."""

from __future__ import annotations

import queue
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog

from bus.base import Arrival, Listener, enlist, tell, too_large
from bus.errors import Closed, LogError, Superseded
from bus.fold import State, decision_key, valid_rows
from bus.log import rows as codec
from bus.log.columns import Columns, Signatures
from bus.log.follower import Accept, Follower, accept_all, deciding
from bus.log.seal import NoSeal, Seal
from bus.log.snapshot import Snapshots
from bus.log.table import DeltaLog
from bus.log.tail import Waiter
from schemas.envelope import Message

log = structlog.get_logger(__name__)

#: Messages one commit carries at most.
COMMIT_LIMIT = 5_000
#: Seconds a commit waits for each submission that shared the last one, and at most.
LINGER_EACH = 0.0002
LONGEST_LINGER = 0.02
#: Seconds since another committed within which a writer is not alone, and how long it then steps back before its turn.
RIVALRY = 0.05
COURTESY = 0.001
#: Seconds until a writer that lost a version tries again, at most.
BACKOFF = 0.005
#: Seconds until the tail looks again after the disk said no.
RETRY_AFTER = 0.5


#: Told what became of a submission, in the bus's thread: the error, or None and the version.
Answer = Callable[[BaseException | None, int], None]


class _Submission:
    """Messages that are committed together or not at all. `deciding`: those that decide something, each with its key."""

    __slots__ = ("_answer", "answered", "deciding", "messages")

    def __init__(self, messages: Sequence[Message], answer: Answer) -> None:
        self.messages = messages
        self.deciding: list[tuple[str, Message]] | None = None
        self.answered = False
        self._answer = answer

    def settle(self, error: BaseException | None, version: int = -1) -> None:
        self.answered = True
        try:
            self._answer(error, version)
        except Exception:
            log.exception("bus.not_told")  # the commit is in the log, and its neighbours are to hear of theirs


@dataclass
class _Bulk:
    """A commit of its own."""

    columns: Columns
    signatures: Signatures | None
    done: Future[int]

    def messages(self, version: int) -> list[Message]:
        return codec.from_arrow(codec.dated(self.columns.table(version, self.signatures)), version)


class LogBus:
    """A bus whose state follows the log. One writer thread (group commit) and one tail thread share `_lock`.

    `follow_only`: starts at the head without the history, for clients that need no open set. `accept`: whether a row's
    signature holds; a receipt or claim that nobody signed must not decide anything.
    """

    def __init__(
        self,
        table: DeltaLog,
        *,
        seal: Seal | None = None,
        state: State | None = None,
        snapshots: Snapshots | None = None,
        follow_only: bool = False,
        linger_ms: float = 0.0,
        accept: Accept = accept_all,
    ) -> None:
        self.table = table
        self.table_id = table.check()
        self._accept = accept
        self._listeners: list[Listener] = []
        self._own_listeners: list[Listener] = []
        self._follower = Follower(
            table,
            state=state,
            snapshots=snapshots,
            follow_only=follow_only,
            accept=accept,
            is_heard=lambda: bool(self._listeners),
        )
        self.state = self._follower.state
        self._seal = seal or NoSeal()
        self._linger = linger_ms / 1000
        self._lock = threading.RLock()
        self._submissions: queue.SimpleQueue[_Submission | _Bulk | None] = queue.SimpleQueue()
        self._gate = threading.Lock()
        self._alone = threading.Lock()
        self._closed = False
        self._unrivalled = False
        self._looked = -1
        self._rivals_seen = float("-inf")
        self._stopping = threading.Event()
        self.on_failure: Callable[[BaseException], None] = lambda _: None
        self._waiter = Waiter(table.store)
        self._writer = threading.Thread(target=self._write_loop, name="bus-writer", daemon=True)
        self._tailer = threading.Thread(target=self._tail_loop, name="bus-tail", daemon=True)
        self._writer.start()
        self._tailer.start()

    # --- the interface -----------------------------------------------------------------------------------------------

    def submit_here(self, messages: Sequence[Message]) -> Future[int]:
        """`submit` for a caller who waits anyway: in its own thread when nothing else is under way, which saves two changes
        of thread."""
        if not self._submissions.empty() or not self._alone.acquire(blocking=False):
            return self.submit(messages)
        try:
            done = _future()
            one = _Submission(messages, partial(_answer, done))
            if (error := self._refusal(messages)) is not None:
                one.settle(error)
            else:
                self._commit([one])
            return done
        finally:
            self._alone.release()

    def submit(self, messages: Sequence[Message]) -> Future[int]:
        done = _future()
        self.submit_told(messages, partial(_answer, done))
        return done

    def submit_told(self, messages: Sequence[Message], answer: Answer) -> None:
        """`submit` for a host, which has hundreds under way: a future, with its lock and condition, costs as much as a commit's
        share of all else."""
        one = _Submission(messages, answer)
        with self._gate:
            error = self._refusal(messages)
            if error is None:
                self._submissions.put(one)
        if error is not None:
            one.settle(error)

    def _refusal(self, messages: Sequence[Message]) -> Exception | None:
        return too_large(messages) or (Closed("the bus is closed") if self._closed else None)

    def submit_rows(self, rows: Sequence[Mapping[str, Any]], common: Mapping[str, Any]) -> Future[int]:
        """Commit many plain rows of one sender in one commit, faster than messages; `common`: what all of them share.

        From the caller's thread. They are requests or events; the future raises NotAMessage, ContentTooLarge or Closed.
        """
        done = _future()
        try:
            columns = Columns(rows, common)
            sealed = self._seal.columns(columns)
        except Exception as error:
            done.set_exception(error)
            return done
        bulk = _Bulk(columns, sealed, done)
        # Here as well when nothing else is under way: of two threads that hardly ever let go of the interpreter, one encoding
        # and one writing, each waits for the other most of the time.
        if self._submissions.empty() and self._alone.acquire(blocking=False):
            try:
                if not self._closed:
                    self._commit_bulk(bulk)
                    return done
            finally:
                self._alone.release()
        with self._gate:
            if self._closed:
                done.set_exception(Closed("the bus is closed"))
            else:
                self._submissions.put(bulk)
        return done

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        return enlist(self._listeners, listener, self._lock)

    def subscribe_own(self, listener: Listener) -> None:
        """Call `listener` for the commits of this bus alone, which costs no look at what others commit."""
        self._own_listeners.append(listener)

    def conversation(self, correlation_id: str) -> list[Message]:
        # Without the lock: a commit under way holds it for milliseconds, and one look at a dictionary needs none.
        known = self.state.conversation(correlation_id)
        if known is not None:
            return known
        if not self.state.partial:
            with self._lock:
                self.state.conversations.expect(correlation_id, self.state.version)
        rows = read_conversation(self.table, correlation_id, self._accept)
        found = [m for m in rows if m.message_type != "receipt"]
        if self.state.partial:
            return found
        with self._lock:
            self.state.conversations.recall(correlation_id, found)
            return self.state.conversation(correlation_id) or found

    def catch_up(self) -> int:
        with self._lock:
            return self._follower.advance(self._told)

    def close(self) -> None:
        # In this order, as whoever commits in its own thread may be told to submit something.
        with self._alone, self._gate:
            if self._closed:
                return
            self._closed = True
            self._submissions.put(None)
        self._writer.join()
        self._stopping.set()
        self._waiter.wake()
        self._tailer.join()
        self._waiter.close()

    # --- absorbing ---------------------------------------------------------------------------------------------------

    def _told(self, version: int, valid: list[Message], own: bool = False) -> None:
        tell([*self._listeners, *self._own_listeners] if own else self._listeners, Arrival(version, tuple(valid), own))

    def _tail_loop(self) -> None:
        while not self._stopping.is_set():
            try:
                while self._waiter.wait(self._is_behind, self._stopping.is_set):
                    with self._lock:
                        # What stood above the place where we looked may have been our own commit, folded meanwhile.
                        if self._follower.head == self._looked and not self._stopping.is_set():
                            self.catch_up()
            except OSError as error:
                log.warning("bus.tail_interrupted", table=self.table.uri, error=str(error))
                self._stopping.wait(RETRY_AFTER)
            except Exception as error:
                log.exception("bus.tail_failed", table=self.table.uri)
                self.on_failure(error)
                return

    def _is_behind(self) -> bool:
        self._looked = self._follower.head
        return self.table.exists(self._looked + 1) or self._follower.is_overtaken()

    # --- committing --------------------------------------------------------------------------------------------------

    def _write_loop(self) -> None:
        open_for_more, company = True, 0
        while open_for_more:
            batch = [self._submissions.get()]
            # Whoever has company waits for more of it: a commit costs the same for one message and for a hundred.
            if pause := max(self._linger, min(LONGEST_LINGER, company * LINGER_EACH)):
                time.sleep(pause)
            size = 0
            while size < COMMIT_LIMIT and not self._submissions.empty():
                batch.append(self._submissions.get())
                size += len(batch[-1].messages) if isinstance(batch[-1], _Submission) else 0
            open_for_more = None not in batch
            company = len(batch) - 1
            pending = [one for one in batch if isinstance(one, _Submission)]
            if pending:
                self._commit(pending)
            for one in batch:
                if isinstance(one, _Bulk):
                    self._commit_bulk(one)

    def _commit_bulk(self, bulk: _Bulk) -> None:
        try:
            while True:
                with self._lock, self.table.store.turn():
                    self.catch_up()
                    version = self._follower.head + 1
                    if self.table.put_encoded(version, bulk.columns.encoded(version, bulk.signatures)).won:
                        # A client that came in the middle of the log keeps no open set: to it they are only a version.
                        folded = [] if self.state.partial else bulk.messages(version)
                        self._follower.fold(version, folded, partial(self._told, own=True))
                        break
                time.sleep(random.uniform(0, BACKOFF))
            bulk.done.set_result(version)
        except Exception as error:
            bulk.done.set_exception(error)

    def _commit(self, pending: list[_Submission]) -> None:
        try:
            while pending:
                if time.monotonic() - self._rivals_seen < RIVALRY:
                    time.sleep(random.uniform(0.5, 1.5) * COURTESY)  # whoever has just won lets others win
                with self._lock:
                    with self.table.store.turn():
                        # Where looking costs a request, whoever won last time tries at once: losing tells as much.
                        known = self._follower.head
                        if not self._unrivalled and self.catch_up() > known:
                            self._rivals_seen = time.monotonic()
                        pending = self._still_wanted(pending)
                        if not pending:
                            return
                        rows = self._put(pending)
                    if rows is not None:  # what follows is nothing that rivals have to wait for
                        self._follower.fold(self._follower.head + 1, rows, partial(self._told, own=True))
                        self._waiter.hasten()
                        for one in pending:
                            one.settle(None, self._follower.head)
                        self._unrivalled = self.table.store.lists_at_once
                        return
                self._unrivalled = False
                # Lost the version. Jitter, so that rivals do not stay in step; the lock is free meanwhile.
                time.sleep(random.uniform(0, BACKOFF))
        except Exception as error:
            waiting = [one for one in pending if not one.answered]
            if len(waiting) > 1 and not isinstance(error, (OSError, LogError)):
                for one in waiting:  # one of them cannot be written; its neighbours go on
                    self._commit([one])
                return
            for one in waiting:
                one.settle(error)

    def _still_wanted(self, pending: list[_Submission]) -> list[_Submission]:
        """Drop what the log has decided against, or what a neighbour in this very commit decides first."""
        taken: set[str] = set()
        kept: list[_Submission] = []
        for one in pending:
            if one.deciding is None:
                one.deciding = [(key, message) for message in one.messages if (key := decision_key(message))]
            lost = next((key for key, message in one.deciding if key in taken or self.state.decided(message)), None)
            if lost is not None:
                one.settle(Superseded(lost))
                continue
            taken.update(key for key, _ in one.deciding)
            kept.append(one)
        return kept

    def _put(self, pending: Sequence[_Submission]) -> Sequence[Message] | None:
        """The rows as they stand in the log now; None when the version is another's."""
        version = self._follower.head + 1
        rows = self._seal.apply([m for one in pending for m in one.messages], version)
        decided = [key for one in pending for key, _ in one.deciding or ()]
        if not self.table.put_encoded(version, codec.encode(rows, version, decided)).won:
            return None
        self._seal.commit()
        return rows


def _future() -> Future[int]:
    done: Future[int] = Future()
    done.set_running_or_notify_cancel()  # whoever gives up waiting does not take it out of a commit it shares
    return done


def _answer(done: Future[int], error: BaseException | None, version: int) -> None:
    if error is None:
        done.set_result(version)
    else:
        done.set_exception(error)


def read_conversation(table: DeltaLog, correlation_id: str, accept: Accept = accept_all) -> list[Message]:
    """A conversation from the table itself, receipts included: valid rows in log order, as the fold finds them."""
    from pyarrow import compute as pc

    found, _ = table.scan(filters=pc.field("correlation_id") == correlation_id)
    return valid_rows(deciding(codec.from_arrow(found), accept))

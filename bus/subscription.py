"""A subscription: events of some kinds, in log order, each once. The log is its buffer: whoever is slow reads on from it."""

from __future__ import annotations

import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType

from bus.base import Arrival, Bus
from bus.errors import Closed, TimedOut
from bus.ids import IdSet
from bus.past import Past, Position
from bus.watch import Accept
from schemas.envelope import Message

#: Events kept for a subscriber that is busy; what comes on top is read from the log when its turn comes.
BUFFERED = 10_000
#: Events whose ids are remembered at least, so that a copy of one is not given out.
IDS_KEPT = 100_000


class Subscription(Iterator[Message]):
    """Iterate over it, or call `next_event`. It listens from the moment it is made until `close`.

    `after`: the place in the log behind which it begins, or None for now. An event's `position` is the place to go on from.
    """

    def __init__(
        self,
        bus: Bus,
        past: Past,
        kinds: Sequence[str],
        accept: Accept,
        after: Position | None,
        buffered: int = BUFFERED,
    ) -> None:
        self.kinds = tuple(kinds)
        self._past = past
        self._accept = accept
        self._buffered = buffered
        self._came = threading.Condition()
        self._reading = threading.Lock()
        self._ready: deque[Message] = deque()
        self._end: BaseException | None = None
        #: Called, from the bus's thread, when there may be something to take; for whoever waits in an event loop.
        self.on_arrival: Callable[[], None] = lambda: None
        # Listens first, reads what was before second: what both see is dropped by its position.
        self._behind = after is not None
        #: Everything up to here was put into `_ready`.
        self._position = after if after is not None else (-1, -1)
        #: While it is behind: the reading of the log, and what arrived since that began (`_missed`: not all of it).
        self._chunks: Iterator[list[Message]] | None = None
        self._fresh: list[Message] = []
        self._missed = True
        #: Ids given out since the log was first read. The bus drops what was copied in the log, a table shows it again.
        self._given: IdSet | None = None
        self._leave = _subscribed(bus, self)

    def __enter__(self) -> Subscription:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Subscription:
        return self

    def __next__(self) -> Message:
        """The next event, however long it takes. Ends when the subscription or its client is closed."""
        try:
            return self.next_event()
        except Closed:
            raise StopIteration from None

    def next_event(self, timeout: float | None = None) -> Message:
        """The next event. Raises TimedOut after `timeout` seconds, Closed, or why the log cannot be followed any more."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            if (event := self.poll()) is not None:
                return event
            if self.is_behind:
                self.read_on()
                continue
            with self._came:
                if self._ready or self._behind or self._end is not None:
                    continue
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    raise TimedOut(f"no {' or '.join(self.kinds)} within {timeout:g} s; it may still come")
                self._came.wait(left)

    # --- for whoever waits in another way ----------------------------------------------------------------------------

    def poll(self) -> Message | None:
        """The next event if it is here already. Raises Closed, or why the log cannot be followed any more."""
        while True:
            with self._came:
                if not self._ready:
                    if self._end is not None:
                        raise self._end
                    return None
                row = self._ready.popleft()
            if self._accept(row) and (self._given is None or self._given.add(row.message_id)):
                return row

    @property
    def is_behind(self) -> bool:
        """Whether `read_on` has to be called: the next events are in the log, and not here."""
        return self._behind and not self._ready

    def read_on(self) -> None:
        """Read the next chunk of what is missing from the log. Blocks as long as that takes."""
        with self._reading:
            with self._came:
                if not self.is_behind:
                    return
                if self._chunks is None:
                    # Kept from here on; whatever came before is in the log that is read now.
                    self._fresh, self._missed = [], False
                    self._given = IdSet(IDS_KEPT) if self._given is None else self._given
                    self._chunks = self._past.events(self.kinds, self._position)
            try:
                chunk = next(self._chunks, None)
            except BaseException:
                self._chunks = None  # the next call tries again, from the same place
                raise
            with self._came:
                if chunk is not None:
                    self._hand_out(chunk)
                    return
                self._chunks = None
                if not self._missed:
                    self._hand_out(self._fresh)
                    self._behind = False
                self._fresh = []

    def _hand_out(self, rows: Sequence[Message]) -> None:
        fresh = [row for row in rows if row.position > self._position]
        if fresh:
            self._ready.extend(fresh)
            self._position = fresh[-1].position

    # --- the bus's thread --------------------------------------------------------------------------------------------

    def arrived(self, arrival: Arrival) -> None:
        wanted = [row for row in arrival.rows if row.message_type == "event" and row.kind in self.kinds]
        if not wanted:
            return
        with self._came:
            if not self._behind and len(self._ready) + len(wanted) <= self._buffered:
                self._hand_out(wanted)
            elif not self._behind:
                self._behind = True  # they are in the log, and are read from there when their turn comes
                self._position = (wanted[0].log_version, wanted[0].seq - 1)
            elif len(self._fresh) + len(wanted) <= self._buffered and not self._missed:
                self._fresh += wanted
            else:
                self._missed = True
            self._came.notify_all()
        self.on_arrival()

    def fail(self, error: BaseException) -> None:
        """Nothing more comes; what is here already is still given out."""
        with self._came:
            self._end = self._end or error
            self._came.notify_all()
        self.on_arrival()

    def close(self) -> None:
        """Idempotent; from any thread."""
        self._leave()
        self.fail(Closed("the subscription was closed"))


def _subscribed(bus: Bus, subscription: Subscription) -> Callable[[], None]:
    """Listen without keeping the subscription alive: a loop that was left by `break` closes nothing.

    The way out is taken in the bus's own thread. A finalizer would run anywhere, also where a lock is held.
    """
    known = weakref.ref(subscription)

    def arrived(arrival: Arrival) -> None:
        alive = known()
        if alive is None:
            leave()
        else:
            alive.arrived(arrival)

    leave = bus.subscribe(arrived)
    return leave

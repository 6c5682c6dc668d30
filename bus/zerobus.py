"""A producer over Zerobus Ingest: rows go straight into a managed table of Unity Catalog, without Spark or a warehouse.

At least once: a row whose acknowledgement got lost is sent again, and the fold counts each `message_id` once. An
acknowledged row is durable, and in the table some seconds later. The service has no local endpoint, so **nothing here was
ever run against it**: the rows, the handling of what was not acknowledged and the errors are tested with a stream of our
own that behaves as the SDK (1.10) says its streams do.

The table must exist, be managed, and not be catalog-managed (its commits are not Zerobus's to make).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime
from typing import Any, Protocol

import structlog

from bus.errors import ContentTooLarge, NotAcknowledged, StoreRefused, StoreUnavailable
from bus.log.seal import NoSeal, Seal
from bus.producer import check_sendable
from schemas.envelope import MAX_CONTENT, Message
from schemas.tables import AGENT_MESSAGES

log = structlog.get_logger(__name__)

#: What one request carries at most; the service takes 10 MB a record.
ROWS_TOGETHER = 1_000
BYTES_TOGETHER = 4 << 20
#: Streams one batch is given to before it counts as not acknowledged; each has tried several times by itself.
ATTEMPTS = 2
_EPOCH = date(1970, 1, 1)


class Stream(Protocol):
    """What we use of the SDK's `ZerobusStream` in JSON mode."""

    def ingest_records_offset(self, payloads: list[str]) -> int | None: ...

    def wait_for_offset(self, offset: int) -> None: ...

    def close(self) -> None: ...


class ZerobusProducer:
    """One stream into `agent_messages`, opened when it is first needed and again when it breaks. For one thread.

    `open_stream` makes a stream (see `connect`); `seal` signs, and its table id is that of the Unity Catalog table.
    """

    def __init__(
        self,
        open_stream: Callable[[], Stream],
        seal: Seal | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._open_stream = open_stream
        self._seal = seal or NoSeal()
        self._now = now
        self._stream: Stream | None = None

    def send_many(self, messages: Sequence[Message]) -> None:
        """Returns when the service has made every row durable.

        Raises NotAcknowledged with the messages of which nobody knows; those before them are safe.
        """
        check_sendable(messages)
        for message in messages:
            if len(message.content.encode()) > MAX_CONTENT:
                raise ContentTooLarge(f"{message.kind} is longer than {MAX_CONTENT} bytes")
        if not messages:
            return
        sealed = self._seal.apply(messages)
        self._seal.commit()  # a link of the chain that got lost is a gap; one that is used twice would be a forgery
        day = self._now().date()
        rows = [json.dumps(row(message, place, day), separators=(",", ":")) for place, message in enumerate(sealed)]
        done = 0
        for batch in _batches(rows):
            self._deliver(batch, messages[done:])
            done += len(batch)

    def close(self) -> None:
        if self._stream is not None:
            stream, self._stream = self._stream, None
            stream.close()

    def _deliver(self, batch: list[str], waiting: Sequence[Message]) -> None:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                if self._stream is None:
                    self._stream = self._open_stream()
                offset = self._stream.ingest_records_offset(batch)
                if offset is not None:
                    self._stream.wait_for_offset(offset)
                return
            except Exception as error:
                self._forget()
                if attempt == ATTEMPTS or _is_final(error):
                    raise NotAcknowledged(
                        f"{len(waiting)} messages were not acknowledged ({error}); they may be in the table all the same. "
                        "Send them again as they are: an id counts once",
                        waiting,
                    ) from error
                log.warning("zerobus.stream_broke", attempt=attempt, rows=len(batch), error=str(error))

    def _forget(self) -> None:
        """A stream that failed takes nothing any more, and may fail to close."""
        stream, self._stream = self._stream, None
        if stream is not None:
            try:
                stream.close()
            except Exception as error:
                log.info("zerobus.stream_not_closed", error=str(error))


def connect(endpoint: str, workspace: str, table: str, client_id: str, client_secret: str) -> Callable[[], Stream]:
    """Opens streams of the real service. `table`: catalog.schema.agent_messages. Raises StoreUnavailable without the SDK."""
    try:
        from zerobus.sdk.shared import RecordType, StreamConfigurationOptions, TableProperties
        from zerobus.sdk.sync import ZerobusSdk
    except ImportError as error:
        raise StoreUnavailable(
            "Zerobus needs its SDK: pip install 'tailrace[zerobus]' (with protobuf below 7)"
        ) from error
    sdk = ZerobusSdk(endpoint, workspace, application_name="tailrace/0.1")
    options = StreamConfigurationOptions(record_type=RecordType.JSON)

    def open_stream() -> Stream:
        try:
            stream: Stream = sdk.create_stream(client_id, client_secret, TableProperties(table), options)
        except Exception as error:
            if _is_final(error):
                raise StoreRefused(
                    f"{endpoint} refuses a stream into {table}: {error}; check the grants on it"
                ) from error
            raise
        return stream

    return open_stream


def row(message: Message, place: int, day: date) -> dict[str, Any]:
    """A record in the service's JSON: times are microseconds, dates are days, and what is null is left out."""
    values = {column.name: getattr(message, column.name, None) for column in AGENT_MESSAGES.columns}
    # The order is the table's own (`_commit_version`), then the place in what was sent together.
    values |= {"log_version": None, "seq": place, "date": (day - _EPOCH).days}
    return {name: value for name, value in values.items() if value is not None}


def _batches(rows: Sequence[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for one in rows:
        if batch and (len(batch) == ROWS_TOGETHER or size + len(one) > BYTES_TOGETHER):
            yield batch
            batch, size = [], 0
        batch.append(one)
        size += len(one)
    if batch:
        yield batch


def _is_final(error: Exception) -> bool:
    """Whether trying again is in vain. By name, so that the SDK is not needed to ask."""
    names = {kind.__name__ for kind in type(error).__mro__}
    return bool(names & {"NonRetriableException", "StoreRefused"})

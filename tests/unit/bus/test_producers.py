"""Producers: into the log itself, and into Zerobus through a stream of our own that behaves as the SDK says."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bus.errors import ContentTooLarge, NotAcknowledged, NotAMessage, StoreUnavailable
from bus.fold import State
from bus.log.bus import LogBus
from bus.producer import BusProducer, Producer
from bus.zerobus import ROWS_TOGETHER, ZerobusProducer, connect, row
from schemas.envelope import Message
from schemas.tables import AGENT_MESSAGES
from tests.unit.bus.logs import ids, make_log, message, open_log

NOW = datetime(2026, 3, 1, 23, 59, tzinfo=UTC)


class NonRetriableException(Exception):
    """As the SDK names it."""


class Service:
    """The table at the other end. A stream takes requests until it `breaks`, and what it took may be in the table."""

    def __init__(self, breaks: list[str] | None = None, error: type[Exception] = RuntimeError) -> None:
        self.rows: list[dict[str, object]] = []
        self.requests: list[int] = []
        self.opened = self.closed = 0
        self._breaks, self._error = breaks or [], error

    def open(self) -> Service:
        self.opened += 1
        if self._breaks[:1] == ["opening"]:
            raise self._error(self._breaks.pop(0))
        return self

    def ingest_records_offset(self, payloads: list[str]) -> int | None:
        if self._breaks[:1] == ["before"]:
            raise self._error(self._breaks.pop(0))
        self.requests.append(len(payloads))
        self.rows += [json.loads(one) for one in payloads]
        return len(self.requests)

    def wait_for_offset(self, offset: int) -> None:
        assert offset == len(self.requests)
        if self._breaks[:1] == ["answer"]:
            raise self._error(self._breaks.pop(0))

    def close(self) -> None:
        self.closed += 1
        if self._error is not RuntimeError:
            raise self._error("closed already")

    @property
    def ids(self) -> list[object]:
        return [row["message_id"] for row in self.rows]


def producer(service: Service) -> ZerobusProducer:
    return ZerobusProducer(service.open, now=lambda: NOW)


# --- rows ----------------------------------------------------------------------------------------------------------------


def test_a_row_has_the_tables_columns_with_times_and_days_as_numbers() -> None:
    sent = message(
        "m", content='{"a":"ü\\n"}', not_before=1, traceparent="t", signature="s", key_id="k", principal="eli"
    )
    found = row(sent, 7, NOW.date())
    assert set(found) <= set(AGENT_MESSAGES.arrow.names)
    assert found == {
        **{name: getattr(sent, name) for name in found if name not in ("seq", "date")},
        "seq": 7,
        "date": 20513,
    }
    assert (datetime(1970, 1, 1, tzinfo=UTC).toordinal() + 20513) == NOW.date().toordinal()
    assert found["timestamp"] == sent.timestamp
    assert not {"log_version", "expires_at", "handling_id", "causation_id"} & set(found)


def test_every_column_of_the_table_is_a_field_of_a_message_or_the_writers() -> None:
    assert set(AGENT_MESSAGES.arrow.names) - set(Message.model_fields) == {"date"}


# --- sending -------------------------------------------------------------------------------------------------------------


def test_many_messages_go_in_order_in_few_requests() -> None:
    service = Service()
    sent = [message() for _ in range(ROWS_TOGETHER * 2 + 1)]
    producer(service).send_many(sent)
    assert service.ids == [one.message_id for one in sent]
    assert [row["seq"] for row in service.rows] == list(range(len(sent)))
    assert service.requests == [ROWS_TOGETHER, ROWS_TOGETHER, 1]
    assert service.opened == 1


def test_large_contents_make_smaller_requests() -> None:
    service = Service()
    producer(service).send_many([message(content=json.dumps("x" * 900_000)) for _ in range(9)])
    assert service.requests == [4, 4, 1]


def test_nothing_to_send_opens_nothing() -> None:
    service = Service()
    producer(service).send_many([])
    assert service.opened == 0


@pytest.mark.parametrize(("breaks", "copies"), [("opening", 1), ("before", 1), ("answer", 2)])
def test_a_stream_that_breaks_is_replaced_and_the_rows_sent_again(breaks: str, copies: int) -> None:
    service = Service([breaks])
    producer(service).send_many([message("m1")])
    assert service.ids == ["m1"] * copies
    assert service.opened == 2


def test_what_was_not_acknowledged_is_handed_back_and_can_be_sent_again() -> None:
    service = Service(["answer"] * 2)
    sending = producer(service)
    sent = [message() for _ in range(3)]
    with pytest.raises(NotAcknowledged, match=r"3 messages were not acknowledged .*an id counts once") as caught:
        sending.send_many(sent)
    assert caught.value.messages == tuple(sent)
    sending.send_many(sent)
    assert set(service.ids) == {one.message_id for one in sent}


def test_requests_that_were_acknowledged_before_are_not_handed_back() -> None:
    service = Service()
    sending = producer(service)
    sent = [message() for _ in range(ROWS_TOGETHER + 2)]
    waits = service.wait_for_offset

    def breaks_later(offset: int) -> None:
        waits(offset)
        if offset > 1:
            raise RuntimeError("gone")

    service.wait_for_offset = breaks_later
    with pytest.raises(NotAcknowledged) as caught:
        sending.send_many(sent)
    assert caught.value.messages == tuple(sent[ROWS_TOGETHER:])


def test_what_can_never_succeed_is_tried_once_even_if_the_stream_cannot_be_closed() -> None:
    service = Service(["before"] * 3, NonRetriableException)
    with pytest.raises(NotAcknowledged):
        producer(service).send_many([message()])
    assert (service.opened, service.rows) == (1, [])


def test_copies_of_what_was_sent_twice_count_once() -> None:
    service = Service(["answer"])
    producer(service).send_many([message("m1"), message("m2")])
    assert service.ids == ["m1", "m2", "m1", "m2"]
    state = State()
    names = set(Message.model_fields)
    for version, values in enumerate(service.rows, 1):
        state.absorb([Message(**{k: v for k, v in values.items() if k in names} | {"log_version": version})])
    assert [one.message_id for one in state.open_for("A")] == ["m1", "m2"]


# --- what is refused, by every producer ------------------------------------------------------------------------------------


@pytest.fixture(params=["log", "zerobus"])
def any_producer(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Producer]:
    if request.param == "zerobus":
        made: Producer = ZerobusProducer(Service().open)
    else:
        make_log(tmp_path)
        made = BusProducer(LogBus(open_log(tmp_path)))
    yield made
    made.close()


def test_a_producer_decides_nothing(any_producer: Producer) -> None:
    receipt = message(
        message_type="receipt", kind="Receipt", to_agent="", causation_id="m1", from_agent="A", handling_id="h"
    )
    with pytest.raises(NotAMessage, match="takes a bus"):
        any_producer.send_many([message(), receipt])


def test_content_over_the_limit(any_producer: Producer) -> None:
    with pytest.raises(ContentTooLarge):
        any_producer.send_many([message(content=json.dumps("ü" * (1 << 19)))])


def test_the_log_has_it_when_the_call_returns(tmp_path: Path) -> None:
    log = make_log(tmp_path)
    sending = BusProducer(LogBus(open_log(tmp_path)))
    sent = [message() for _ in range(20)]
    sending.send_many(sent)
    assert ids(log) == [one.message_id for one in sent]
    sending.close()


def test_without_the_sdk_one_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zerobus", None)
    monkeypatch.setitem(sys.modules, "zerobus.sdk.shared", None)
    with pytest.raises(StoreUnavailable, match=r"pip install 'tailrace\[zerobus\]'"):
        connect("https://z", "https://w", "c.s.t", "id", "secret")

"""Spans arrive at a real collector's door: OTLP over HTTP on loopback, across two hosts of one conversation."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from bus.redaction import Redactor
from config.settings import Settings
from jobs.telemetry import Spans
from schemas.trace import new_traceparent, parse_traceparent
from tests.contract.harness import Listener, MemoryWorld, Ping, Pinger, eventually, message, result


class Collector:
    """Takes what OTLP exporters send. `answer` is the status it gives."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.services: set[str] = set()
        self.answer = 200
        self.asked = 0

    def take(self, path: str, body: bytes) -> int:
        self.asked += 1
        if self.answer == 200 and path == "/v1/traces":
            request = ExportTraceServiceRequest.FromString(body)
            for resource in request.resource_spans:
                self.services |= {a.value.string_value for a in resource.resource.attributes if a.key == "service.name"}
                self.spans += [span for scope in resource.scope_spans for span in scope.spans]
        return self.answer


@contextmanager
def listening(collector: Collector) -> Iterator[str]:
    class Door(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                import gzip

                body = gzip.decompress(body)
            self.send_response(collector.take(self.path, body))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Door)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
async def world() -> Any:
    made = MemoryWorld()
    yield made
    await made.close()


async def test_a_conversation_is_one_trace_whoever_handles_it(world: MemoryWorld) -> None:
    collector = Collector()
    with listening(collector) as address:
        spans = [
            Spans(Settings.load(otlp_endpoint=address + "/"), host, Redactor.of_secrets())
            for host in ("first", "second")
        ]
        await world.host(Pinger(rings=True), middlewares=spans[0].middlewares)
        await world.host(Listener(), middlewares=spans[1].middlewares)
        root = new_traceparent()
        result(world.bus().submit([message(Ping(n=1), traceparent=root)]))
        await eventually(lambda: world.receipts("Listener"))
        for one in spans:
            one.stop()
    named = {span.name: span for span in collector.spans}
    assert sorted(named) == ["Listener Rang", "Pinger Ping"]
    came = parse_traceparent(root)
    assert came is not None
    assert {span.trace_id.hex() for span in named.values()} == {came.trace_id}
    assert named["Pinger Ping"].parent_span_id.hex() == came.span_id
    assert named["Listener Rang"].parent_span_id == named["Pinger Ping"].span_id
    assert collector.services == {"tailrace"}


async def test_a_collector_that_says_no_costs_spans_and_no_messages(world: MemoryWorld) -> None:
    collector = Collector()
    collector.answer = 400
    with listening(collector) as address:
        spans = Spans(Settings.load(otlp_endpoint=address), "first", Redactor.of_secrets())
        await world.host(Pinger(), middlewares=spans.middlewares)
        result(world.bus().submit([message(Ping(n=n)) for n in range(10)]))
        await eventually(lambda: len(world.receipts("Pinger")) == 10)
        spans.stop()
    assert collector.asked == 1
    assert {row["kind"] for row in world.rows()} >= {"Pong", "Receipt"}

"""Spans: one a handling, in the message's trace, and what a handler sends continues from it."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from bus.memory import MemoryBus
from bus.redaction import Redactor
from bus.trust import TrustEverybody
from config.settings import Settings
from jobs.telemetry import Spans
from schemas.envelope import Message
from schemas.trace import new_traceparent, parse_traceparent
from tests.contract.harness import HastyClock, Ping, Pinger, message
from workers.runtime.middleware.retry import Retry
from workers.runtime.middleware.tracing import Tracing
from workers.runtime.runner import Runner


class Stage:
    def __init__(self, fails: int = 0) -> None:
        self.exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        clock = HastyClock()
        around = [Tracing(provider.get_tracer("test")), Retry(clock)]
        self.runner = Runner(Pinger(fails=fails), "Pinger-1", MemoryBus(), TrustEverybody(), clock, around)

    async def handle(self, **envelope: Any) -> list[Message]:
        return await self.runner.handle(message(Ping(n=1), **envelope))

    @property
    def span(self) -> ReadableSpan:
        (found,) = self.exporter.get_finished_spans()
        return found


def ids(span: ReadableSpan) -> tuple[str, str]:
    found = span.get_span_context()
    assert found is not None
    return f"{found.trace_id:032x}", f"{found.span_id:016x}"


async def test_a_handling_is_a_span_under_its_message_and_over_its_outputs() -> None:
    stage, root = Stage(), new_traceparent()
    rows = await stage.handle(traceparent=root, conversation="c")
    came, went = parse_traceparent(root), parse_traceparent(rows[1].traceparent)
    assert came is not None
    assert went is not None
    assert stage.span.name == "Pinger Ping"
    assert stage.span.parent is not None
    assert f"{stage.span.parent.span_id:016x}" == came.span_id
    assert ids(stage.span) == (went.trace_id, went.span_id)
    assert went.trace_id == came.trace_id
    said = dict(stage.span.attributes or {})
    assert (said["messaging.message.conversation_id"], said["tailrace.principal"]) == ("c", "eli")
    assert (said["tailrace.attempts"], said["tailrace.outputs"]) == (1, 1)


async def test_attempts_are_one_span_and_a_failure_is_said() -> None:
    stage = Stage(fails=99)
    await stage.handle()
    assert dict(stage.span.attributes or {})["tailrace.attempts"] == 3
    assert stage.span.status.status_code is StatusCode.ERROR
    assert "meant to fail" in (stage.span.status.description or "")
    assert [event.name for event in stage.span.events] == ["exception"]


async def test_what_is_not_recorded_stays_so_for_what_follows() -> None:
    stage = Stage()
    rows = await stage.handle(traceparent=new_traceparent()[:-2] + "00")
    assert stage.exporter.get_finished_spans() == ()
    went = parse_traceparent(rows[1].traceparent)
    assert went is not None
    assert went.flags == "00"


@pytest.mark.parametrize("traceparent", [None, "nonsense"])
async def test_without_a_trace_the_conversation_is_one(traceparent: str | None) -> None:
    stage = Stage()
    first = await stage.handle(conversation="c", traceparent=traceparent)
    second = await stage.handle(conversation="c", traceparent=traceparent)
    traces = {found.trace_id for rows in (first, second) if (found := parse_traceparent(rows[1].traceparent))}
    assert traces == {ids(span)[0] for span in stage.exporter.get_finished_spans()}
    assert len(traces) == 1


def test_without_a_collector_there_are_no_spans() -> None:
    spans = Spans(Settings.load(), "main", Redactor.of_secrets())
    assert spans.middlewares == []
    spans.start()
    spans.stop()


def test_nothing_of_opentelemetry_is_imported_unasked() -> None:
    code = "import sys, jobs.run_worker; print([m for m in sys.modules if m.startswith('opentelemetry')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_collector_without_the_extra_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    from config.files import ConfigError

    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(ConfigError, match=r"tailrace\[otel\]"):
        Spans(Settings.load(otlp_endpoint="http://127.0.0.1:4318"), "main", Redactor.of_secrets())

"""A span for every handling, in the trace that its message names; outputs and calls to others continue from it.

Only `jobs.telemetry` imports this module, and only when spans are wanted: OpenTelemetry is an extra.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable

from opentelemetry import trace
from opentelemetry.context import Context as OtelContext
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags, Tracer

from schemas.trace import TraceContext, parse_traceparent
from workers.runtime.base import Context, Outgoing, Received, Worker
from workers.runtime.middleware import Handler


class Tracing:
    """First in the list, so that its span covers every attempt."""

    def __init__(self, tracer: Tracer, redact: Callable[[str], str] = str) -> None:
        """`redact`: masks what must not leave in the words of an error."""
        self._tracer = tracer
        self._redact = redact

    async def __call__(self, call_next: Handler, message: Received, context: Context, worker: Worker) -> list[Outgoing]:
        row = message.message
        # What the runner made up for this handling says the trace, even where the message names none.
        handling = parse_traceparent(context.handling.traceparent)
        came_from = parse_traceparent(row.traceparent)
        parent = came_from or handling
        with self._tracer.start_as_current_span(
            f"{worker.name} {row.kind}",
            context=OtelContext() if parent is None else _remote(parent),
            kind=SpanKind.CONSUMER,
            attributes={
                "messaging.system": "tailrace",
                "messaging.operation.type": "process",
                "messaging.destination.name": worker.name,
                "messaging.message.id": row.message_id,
                "messaging.message.conversation_id": row.correlation_id,
                "tailrace.kind": row.kind,
                "tailrace.sender": row.from_agent,
                "tailrace.principal": context.principal or "",
                "tailrace.instance": context.instance,
                "tailrace.log_version": row.log_version,
                "tailrace.delivery": row.attempt,
            },
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            own = span.get_span_context()
            if own.is_valid:
                flags = f"{int(own.trace_flags):02x}"
                context.handling.traceparent = str(TraceContext(f"{own.trace_id:032x}", f"{own.span_id:016x}", flags))
            try:
                outputs = await call_next(message, context)
            except Exception as error:
                said = "".join(traceback.format_exception(error))
                masked = {"exception.message": self._redact(str(error)), "exception.stacktrace": self._redact(said)}
                span.record_exception(error, attributes=masked)
                span.set_status(Status(StatusCode.ERROR, self._redact(f"{type(error).__name__}: {error}")))
                raise
            finally:
                span.set_attribute("tailrace.attempts", context.handling.attempts)
            span.set_attribute("tailrace.outputs", len(outputs) if isinstance(outputs, list) else 0)
            return outputs


def _remote(parent: TraceContext) -> OtelContext:
    """The span of whoever sent the message, which is another process's."""
    span = SpanContext(
        int(parent.trace_id, 16), int(parent.span_id, 16), is_remote=True, trace_flags=TraceFlags(int(parent.flags, 16))
    )
    return trace.set_span_in_context(NonRecordingSpan(span), OtelContext())

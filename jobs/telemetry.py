"""Spans to OpenTelemetry, when a collector is configured; without the extra `otel` nothing of it is imported."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from config.files import ConfigError

if TYPE_CHECKING:
    from bus.redaction import Redactor
    from config.settings import Settings
    from workers.runtime.middleware import Middleware


class Spans:
    """The middleware that makes spans, and what sends them, for as long as a host runs. Raises ConfigError.

    Without a collector in the settings it is empty.
    """

    def __init__(self, settings: Settings, host: str, redactor: Redactor) -> None:
        self.middlewares: list[Middleware] = []
        self._shut: Callable[[], None] = lambda: None
        if settings.otlp_endpoint is None:
            return
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ImportError as error:
            raise ConfigError(
                f"otlp_endpoint is set, but OpenTelemetry is not installed ({error.name}): pip install 'tailrace[otel]'"
            ) from error
        from workers.runtime.middleware.tracing import Tracing

        resource = Resource.create(
            {"service.name": "tailrace", "service.instance.id": host, "deployment.environment.name": settings.env}
        )
        provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        exporter = OTLPSpanExporter(endpoint=f"{settings.otlp_endpoint.rstrip('/')}/v1/traces", timeout=5)
        # A collector that is away costs spans, never messages: they wait beside the loop, and are dropped when too many do.
        provider.add_span_processor(BatchSpanProcessor(exporter))
        self.middlewares = [Tracing(provider.get_tracer("tailrace"), partial(redactor.text, place="log"))]
        self._shut = provider.shutdown

    def start(self) -> None:
        return

    def stop(self) -> None:
        """Send what waits."""
        self._shut()

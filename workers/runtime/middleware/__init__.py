"""What stands around every handler: an explicit list, outermost first, of plain callables."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from workers.runtime.base import Context, Outgoing, Received, Worker

Handler = Callable[[Received, Context], Awaitable[list[Outgoing]]]
#: (call_next, message, context, worker) -> what to send. It may refuse by raising, or call `call_next` again.
Middleware = Callable[[Handler, Received, Context, Worker], Awaitable[list[Outgoing]]]


def stack(middlewares: Sequence[Middleware], worker: Worker) -> Handler:
    """One handler out of the list and the worker."""
    handler: Handler = worker.handle
    for middleware in reversed(middlewares):
        handler = _bind(middleware, handler, worker)
    return handler


def _bind(middleware: Middleware, call_next: Handler, worker: Worker) -> Handler:
    def handle(message: Received, context: Context) -> Awaitable[list[Outgoing]]:
        return middleware(call_next, message, context, worker)

    return handle

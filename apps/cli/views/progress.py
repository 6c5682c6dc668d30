"""A spinner with what is being done and for how long; gone without a trace when it ends."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner as RichSpinner
from rich.text import Text


class Spinner:
    """Turns in its own thread, so that the work needs not know of it."""

    def __init__(self, console: Console, what: str) -> None:
        self._what = what
        self._began = time.monotonic()
        self._wheel = RichSpinner("dots", style="cyan")
        self._console = console
        self._live = self._made()

    def _made(self) -> Live:
        return Live(
            get_renderable=self._now,
            console=self._console,
            transient=True,
            refresh_per_second=12,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def pause(self) -> None:
        self._live.stop()

    def go_on(self) -> None:
        self._live = self._made()
        self._live.start()

    def change(self, what: str) -> None:
        self._what = what

    def _now(self) -> RichSpinner:
        elapsed = time.monotonic() - self._began
        self._wheel.update(text=Text.assemble(self._what, (f"  {elapsed:.0f} s", "dim")))
        return self._wheel

    def __enter__(self) -> Spinner:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

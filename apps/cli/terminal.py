"""What a command shows and where: answers on standard output, the rest on standard error, JSON as one document."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console, RenderableType
from rich.text import Text
from rich.theme import Theme

if TYPE_CHECKING:
    from apps.cli.views.progress import Spinner

#: Few colours, by meaning: who, what, and how it went.
THEME = Theme(
    {
        "agent": "cyan",
        "person": "bold magenta",
        "kind": "default",
        "quiet": "dim",
        "good": "green",
        "warn": "yellow",
        "bad": "red",
        "command": "bold",
        "title": "bold",
    }
)
#: Columns where nobody says how wide a line may be: a log file, a pipe.
PLAIN_WIDTH = 120


class Terminal:
    """One command's way to speak. `json`: whether standard output carries one JSON document instead of words."""

    def __init__(self) -> None:
        self.json = False
        self.emitted = False
        self._spinner: Spinner | None = None

    @property
    def out(self) -> Console:
        return _console(sys.stdout)

    @property
    def err(self) -> Console:
        return _console(sys.stderr)

    def show(self, *parts: RenderableType, soft_wrap: bool = False) -> None:
        """For a person, on standard output; nothing in JSON mode. `soft_wrap`: lines to copy, which are not broken."""
        if not self.json:
            with self.paused():
                for part in parts:
                    self.out.print(part, soft_wrap=soft_wrap)

    def note(self, *parts: RenderableType, soft_wrap: bool = False) -> None:
        """For a person, on standard error, in JSON mode too."""
        with self.paused():
            for part in parts:
                self.err.print(part, soft_wrap=soft_wrap)

    def emit(self, document: Any) -> None:
        """The one JSON document; nothing otherwise."""
        if self.json and not self.emitted:
            self.emitted = True
            sys.stdout.write(json.dumps(document, ensure_ascii=False, indent=2, default=str) + "\n")
            sys.stdout.flush()

    def say(self, text: str, style: str = "quiet") -> None:
        """A remark on standard error."""
        self.note(Text(text, style=style))

    def hint(self, before: str, command: str, after: str = "") -> None:
        """A remark with something to type, which is never broken over lines."""
        self.note(Text.assemble((before, "quiet"), (command, "command"), (after, "quiet")), soft_wrap=True)

    @contextmanager
    def working(self, what: str) -> Iterator[Callable[[str], None]]:
        """Something long: a spinner on a terminal, elsewhere a line a step. Yields what changes the text."""
        console = self.err
        if not console.is_terminal:
            yield _Lines(console, what).change
            return
        from apps.cli.views.progress import Spinner

        with Spinner(console, what) as self._spinner:
            yield self._spinner.change
        self._spinner = None

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Without a spinner in the way: for what is printed, or asked of a person, while one turns."""
        spinner = self._spinner
        if spinner is not None:
            spinner.pause()
        try:
            yield
        finally:
            if spinner is not None:
                spinner.go_on()


class _Lines:
    """A line for each change of what is being done."""

    def __init__(self, console: Console, what: str) -> None:
        self._console = console
        self._said = ""
        self.change(what)

    def change(self, what: str) -> None:
        if what != self._said:
            self._said = what
            self._console.print(Text(f"… {what}", style="quiet"))


def _console(stream: Any) -> Console:
    known_width = stream.isatty() or os.environ.get("COLUMNS")
    return Console(file=stream, theme=THEME, highlight=False, width=None if known_width else PLAIN_WIDTH)


def counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def ago(seconds: float) -> str:
    """A span of time in the words of a table."""
    seconds = abs(seconds)
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 90:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 172800 else f"{seconds / 86400:.0f} days"


def milliseconds(value: float | None) -> str:
    """Milliseconds for a narrow column: `0.4 ms`, `34 ms`, `2.31 s`."""
    if value is None:
        return ""
    if value < 9.95:
        return f"{value:.1f} ms"
    if value < 999.5:
        return f"{value:.0f} ms"
    seconds = value / 1000
    return f"{seconds:.2f} s" if seconds < 9.995 else f"{seconds:.1f} s" if seconds < 99.95 else f"{seconds:.0f} s"


def moment(micros: int) -> str:
    """A UTC time of the bus as a person reads it here."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(micros / 1e6))

"""The entry point: one list of commands, and one place that turns whatever goes wrong into words and an exit code."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperGroup

from apps.cli.exits import FAILED, INTERRUPTED, CommandError, explained
from apps.cli.terminal import Terminal

#: Modules of the commands, in the order of the help. Groups have an `app`, the others a function of that name.
COMMANDS = (
    "init",
    "up",
    "worker",
    "ask",
    "send",
    "wait",
    "trace",
    "approvals",
    "grants",
    "knowledge",
    "executions",
    "undo",
    "agents",
    "dead",
    "memory",
    "replay",
    "redact",
    "policy",
    "audit",
    "upkeep",
    "jobs",
    "doctor",
    "demo",
    "bench",
)


class Commands(TyperGroup):
    """Runs a command and answers for what it raises."""

    def main(self, args: Sequence[str] | None = None, *rest: Any, standalone_mode: bool = True, **more: Any) -> Any:
        words = list(sys.argv[1:] if args is None else args)
        terminal = Terminal()
        terminal.json = "--json" in words
        try:
            code = super().main(words, *rest, standalone_mode=False, obj=terminal, **more)
            code = code if isinstance(code, int) else 0
        except typer.Abort:
            code = INTERRUPTED
        except KeyboardInterrupt:
            code = INTERRUPTED
        except BrokenPipeError:
            # Whoever read our output has gone; that is no failure of ours to talk about.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = FAILED
        except Exception as error:
            if os.environ.get("TAILRACE_DEBUG"):
                raise
            code = _report(terminal, error)
        if standalone_mode:
            sys.exit(code)
        return code


def _report(terminal: Terminal, error: Exception) -> int:
    """Say it once; in JSON mode the one document is the error."""
    if hasattr(error, "format_message"):  # a misuse that typer found
        context = getattr(error, "ctx", None)
        remedy = f"{context.command_path} --help" if context is not None else "tailrace --help"
        said = CommandError(str(error.format_message()), remedy, int(getattr(error, "exit_code", 2)))
    else:
        said = explained(error)
    error_said = {"cause": said.cause, "remedy": said.remedy, "rule": said.rule or None, "exit_code": said.code}
    terminal.emit({**said.done, "error": error_said})
    from apps.cli.views.failure import failure

    terminal.note(failure(said))
    return said.code


app = typer.Typer(
    cls=Commands,
    name="tailrace",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="rich",
)


@app.callback()
def tailrace() -> None:
    """Governed agent workers over a message bus made of Delta tables.

    TAILRACE_HOME says where the tables are (default .tailrace). Exit codes: 0 done, 1 failed, 2 misuse, 3 refused by
    governance, 4 timed out.
    """


def _register() -> None:
    for name in COMMANDS:
        module = importlib.import_module(f"apps.cli.commands.{name}")
        if hasattr(module, "app"):
            app.add_typer(module.app, name=name)
        else:
            app.command(name)(getattr(module, name))


_register()


def main() -> None:
    # Whoever ends us ends what we started: hosts that a question needed must not outlive it.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    app()


if __name__ == "__main__":
    main()

"""`tailrace doctor`: what is missing on this machine, and what to do about it."""

from __future__ import annotations

import typer

from apps.cli.exits import DONE, FAILED
from apps.cli.options import Json, terminal_of


def doctor(context: typer.Context, json: Json = False) -> None:
    """Look at the machine, the home and the agents; say what is wrong and how to mend it."""
    from apps.cli.diagnosis import examine
    from apps.cli.views.findings import findings

    terminal = terminal_of(context)
    with terminal.working("looking"):
        found = examine()
    sound = all(one.level != "fail" for one in found)
    terminal.show(findings(found))
    terminal.emit({"ok": sound, "checks": [vars(one) for one in found]})
    raise typer.Exit(DONE if sound else FAILED)

"""The whole examination: settings first, then machine, home and agents; works where nothing else does."""

from __future__ import annotations

import os
from pathlib import Path

from apps.cli.checks import Finding, Place, agents, fail, home, machine, ok, policy, run


def examine() -> list[Finding]:
    settings, place = _settings()
    checks = (*machine.CHECKS, *policy.CHECKS, *home.CHECKS)
    if place.home.root.is_dir():
        checks += (*home.INSIDE, *agents.CHECKS)
    return [settings, *run(checks, place)]


def _settings() -> tuple[Finding, Place]:
    from bus.home import Home

    try:
        from apps.cli.session import open_system

        system = open_system(home_needed=False)
    except Exception as error:
        place = Place(Home(Path(os.environ.get("TAILRACE_HOME") or ".tailrace").absolute()))
        return fail("settings", str(error) or type(error).__name__, "correct what it names"), place
    chosen = system.settings
    return ok("settings", f"environment {chosen.env}, engine {chosen.engine}, durability {chosen.durability}"), Place(
        system.home, system
    )

"""Checks of what runs: agents of this home, and messages that wait for agents nobody runs."""

from __future__ import annotations

import time

from apps.cli.checks import Check, Finding, Place, ok, warn


def running_agents(place: Place) -> Finding:
    from jobs.agents import AGENTS
    from jobs.liveness import running

    there = running(place.home)
    missing = [agent.name for agent in AGENTS if agent.name not in there]
    named = ", ".join(f"{name} ({one.engine}, process {one.pid})" for name, one in there.items())
    if not there:
        return ok("agents", "none runs; `tailrace ask` starts what it needs, `tailrace up` starts all")
    if missing:
        return warn("agents", f"{named}; not {', '.join(missing)}", "tailrace up starts what is missing")
    return ok("agents", named)


def waiting_messages(place: Place) -> Finding:
    from apps.cli.roster import roster
    from apps.cli.terminal import ago

    if place.system is None or not place.home.exists:
        return warn("waiting messages", "there is no log to look into", "see settings and home")
    members = roster(place.system)
    now = time.time()
    forgotten = [
        f"{one.waiting:,} for {one.agent}" + (f", the oldest {ago(now - one.oldest / 1e6)} old" if one.oldest else "")
        for one in members
        if one.waiting and one.state in ("stopped", "unknown")
    ]
    if forgotten:
        return warn(
            "waiting messages",
            f"nobody runs the agent: {'; '.join(forgotten)}",
            "tailrace up, or tailrace worker NAME",
        )
    waiting = sum(one.waiting for one in members)
    return ok("waiting messages", f"{waiting} wait for agents that run" if waiting else "none")


CHECKS: tuple[Check, ...] = (running_agents, waiting_messages)

"""Check of the policy: whether governance could start with it."""

from __future__ import annotations

from apps.cli.checks import Check, Finding, Place, fail, ok, warn
from apps.cli.terminal import counted


def policy(place: Place) -> Finding:
    from config.files import ConfigError
    from config.roles import Roles
    from jobs.policies import load_policy

    if place.system is None:
        return warn("policy", "not looked at: the settings are wrong", "correct the settings")
    try:
        loaded = load_policy(Roles.load(place.system.settings.env))
    except ConfigError as error:
        first, *more = str(error).splitlines()
        return fail("policy", first + (f" (and {len(more)} more)" if more else ""), "tailrace policy check")
    found = f"{counted(len(loaded.policy.rules), 'rule')}, digest {loaded.policy.digest[:12]}"
    if loaded.warnings:
        return warn("policy", f"{found}; {counted(len(loaded.warnings), 'thing')} to know of", "tailrace policy check")
    return ok("policy", found)


CHECKS: tuple[Check, ...] = (policy,)

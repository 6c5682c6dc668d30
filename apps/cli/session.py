"""What commands open: the settings, a home that is there, a user whose key can be read."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from apps.cli.exits import MISUSE, CommandError
from apps.cli.terminal import Terminal

if TYPE_CHECKING:
    from bus.client import TailraceClient
    from bus.home import Home
    from jobs.bootstrap import System
    from schemas.envelope import Message

PERSON = "user:"


def open_system(home_needed: bool = True, **overrides: Any) -> System:
    """The wired system. Raises ConfigError, or CommandError when there is no home yet."""
    from config.settings import Settings
    from jobs import logging
    from jobs.bootstrap import System

    settings = Settings.load(**{key: value for key, value in overrides.items() if value is not None})
    system = System(settings)
    # A person reads answers; what the bus logs belongs into the logs of the hosts.
    logging.configure(os.environ.get("TAILRACE_LOG_LEVEL", "WARNING"), redactor=lambda: system.redactor)
    if home_needed and not system.home.exists:
        raise CommandError(f"there is no home at {system.home.root}", "tailrace init (or set TAILRACE_HOME)")
    return system


@contextmanager
def speaking_as(system: System, user: str) -> Iterator[TailraceClient]:
    """A client that signs as this user. Raises CommandError (misuse) naming who there is."""
    check_user(system, user)
    with system.client(user) as client:
        yield client


def check_user(system: System, user: str) -> None:
    from bus.errors import MissingKey
    from bus.keys import Signer

    try:
        Signer.load(system.home.keys, [PERSON + user], "", "")
    except MissingKey as error:
        raise CommandError(_who_there_is(system, user, str(error)), "--as takes one of these", MISUSE) from error


def _who_there_is(system: System, user: str, error: str) -> str:
    there = readable_users(system.home)
    if user in there:
        return error
    named = ", ".join(there) if there else "nobody"
    return f"there is no readable private key of {user!r}; this home holds those of {named}"


def readable_users(home: Home) -> list[str]:
    """Users whose private key this process can read."""
    from bus.keys import Keyring

    found = []
    for key in Keyring.load(home.keys).keys.values():
        if os.access(home.keys / "private" / f"{key.key_id}.pem", os.R_OK):
            found += [s.removeprefix(PERSON) for s in key.subjects if s.startswith(PERSON)]
    return sorted(set(found))


def warn_of_shared_keys(system: System, terminal: Terminal) -> None:
    """Said once at start, so that nobody takes the sample for a separation of people."""
    if len(readable_users(system.home)) > 1:
        terminal.say("This home holds the private keys of all its users: --as separates nobody here.")


def checker(system: System) -> Callable[[Message], bool]:
    """Whether a row's signature holds."""
    from bus.keys import Keyring
    from schemas.tables import AGENT_MESSAGES

    table_id = system.log(AGENT_MESSAGES.name).check()
    return partial(Keyring.load(system.home.keys).accepts, table_id=table_id, environment=system.settings.env)

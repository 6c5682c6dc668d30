"""Checks of the home: the folder, the disk, keys, the tables of the bus, knowledge and sample data."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Sequence
from typing import TYPE_CHECKING

from apps.cli.checks import Check, Finding, Place, fail, ok, warn
from apps.cli.terminal import counted

if TYPE_CHECKING:
    from bus.log.health import Health
    from bus.log.store import Location

#: Free bytes below which something will fail soon.
LITTLE_SPACE = 1 << 30
#: The log whose health is said in any case.
AGENT_MESSAGES = "agent_messages"
INIT = "tailrace init"


def home(place: Place) -> Finding:
    root = place.home.root
    if not root.is_dir():
        return fail("home", f"there is none at {root}", f"{INIT} (or set TAILRACE_HOME)")
    if not os.access(root, os.R_OK | os.W_OK | os.X_OK):
        return fail("home", f"{root} cannot be written by this user", f"chown or chmod {root}")
    if not place.home.exists:
        return fail("home", f"{root} is not complete", f"{INIT} adds what is missing")
    return ok("home", str(root))


def disk(place: Place) -> Finding:
    there = next(path for path in (place.home.root, *place.home.root.parents) if path.exists())
    free = shutil.disk_usage(there).free
    found = f"{free / (1 << 30):.1f} GB free at {there}"
    return ok("disk space", found) if free >= LITTLE_SPACE else warn("disk space", found, "make room: at least 1 GB")


def keyring(place: Place) -> Finding:
    from bus.errors import MissingKey, Untrusted
    from bus.keys import Keyring

    try:
        found = Keyring.load(place.home.keys)
    except MissingKey as error:
        return fail("keyring", str(error), INIT)
    except (Untrusted, ValueError, TypeError) as error:
        reason = str(error) or type(error).__name__
        return fail(
            "keyring",
            f"it does not hold: {reason}",
            f"restore {place.home.keys}/keyring.json and root.pub from a backup",
        )
    return ok("keyring", f"signed by the root key; {len(found.keys)} keys for {len(found.subjects())} senders")


def private_keys(place: Place) -> Finding:
    folder = place.home.keys / "private"
    if not folder.is_dir():
        return fail("private keys", f"there are none in {folder}", INIT)
    keys = sorted(folder.glob("*.pem"))
    loose = [key.name for key in keys if stat.S_IMODE(key.stat().st_mode) & 0o077]
    if loose:
        return fail("private keys", f"others may read {', '.join(loose)}", f"chmod 600 {folder}/*.pem")
    people = [key for key in keys if key.name.startswith("user-") and os.access(key, os.R_OK)]
    if len(people) > 1:
        text = (
            f"{len(keys)}, for their owner only; {len(people)} people's keys in one home, so that --as separates nobody"
        )
        return warn("private keys", text, "for real use give each person a key in a place of the person's own")
    return ok("private keys", f"{len(keys)}, for their owner only")


def tables(place: Place) -> Finding:
    """Each bus table has our protocol and columns."""
    from bus.errors import ForeignLog, LogMissing
    from bus.log.table import DeltaLog
    from schemas.tables import TABLES

    missing, foreign = [], []
    for name, schema in TABLES.items():
        try:
            if name == AGENT_MESSAGES and place.home.catalogue is not None and place.system is not None:
                place.system.unity.check()
            else:
                DeltaLog(place.home.table(name), schema).check()
        except LogMissing:
            missing.append(name)
        except (ForeignLog, KeyError, ValueError) as error:
            foreign.append(f"{name} ({error})")
    if foreign:
        return fail(
            "bus tables", f"not ours to write: {'; '.join(foreign)}", "restore them; another writer has changed them"
        )
    if missing:
        return fail("bus tables", f"missing: {', '.join(missing)}", INIT)
    if place.home.catalogue is not None:
        return ok("bus tables", f"{AGENT_MESSAGES} in {place.home.tables}, and {len(TABLES) - 1} in the home")
    return ok("bus tables", f"{len(TABLES)}, with the protocol that only Tailrace writes")


def table_health(place: Place) -> Finding:
    """Short logs, few small files, nobody far behind: what upkeep sees to."""
    from bus.log.consumers import LOST_AFTER_S, Consumers
    from bus.log.health import health
    from bus.log.object_store import open_store
    from bus.log.table import DeltaLog
    from schemas.tables import TABLES

    limit = LOST_AFTER_S if place.system is None else place.system.settings.consumer_lost_after_s
    ours = {n: schema for n, schema in TABLES.items() if n != AGENT_MESSAGES or place.home.catalogue is None}
    logs = [DeltaLog(open_store(place.home.table(name)), schema) for name, schema in ours.items()]
    found = [health(log, Consumers(log, limit)) for log in logs]
    lines = [_health(one) for one in found if one.table == AGENT_MESSAGES or one.troubles or one.lost]
    if any(one.troubles for one in found):
        return warn("table health", "\n".join(lines), "tailrace upkeep (tailrace up keeps it running)")
    if any(one.lost for one in found):
        return warn("table health", "\n".join(lines), "look whether the host still runs; upkeep waits for it no more")
    if place.home.catalogue is not None:
        lines.append(f"{AGENT_MESSAGES} is Spark's to keep: predictive optimization, or OPTIMIZE once a day")
    return ok("table health", "\n".join(lines))


def _health(one: Health) -> str:
    parts = [
        f"a log of {one.entries:,}, {one.since_checkpoint:,} since the checkpoint",
        f"{counted(one.files, 'file')}, at most {one.small:,} small a day",
    ]
    if one.slowest is not None:
        parts.append(f"slowest consumer {one.slowest.name}, {one.lag:,} behind")
    parts += [f"{gone.name} is silent, {one.version - gone.version:,} behind" for gone in one.lost]
    return f"{one.table}: {'; '.join(parts)}"


def knowledge(place: Place) -> Finding:
    tables = [place.home.table(name) for name in ("knowledge_documents", "knowledge_chunks")]
    return _filled("knowledge", tables, data=True)


def sample(place: Place) -> Finding:
    from jobs.init_home import SAMPLE, SAMPLE_TABLES

    return _filled("sample data", [place.home.warehouse / SAMPLE / table for table in SAMPLE_TABLES], data=False)


def _filled(name: str, tables: Sequence[Location], data: bool) -> Finding:
    """These Delta tables are there, and have more than their first entry where `data` comes later."""
    from bus.log.object_store import open_store

    # A log that was cleaned up has no first entries; its checkpoint speaks for it.
    either = (f"_delta_log/{1 if data else 0:020d}.json", "_delta_log/_last_checkpoint")
    empty = [str(one).rsplit("/", 1)[-1] for one in tables if not any(map(open_store(one).exists, either))]
    if empty:
        return fail(name, f"nothing in {', '.join(empty)}", INIT)
    return ok(name, f"{len(tables)} tables")


CHECKS: tuple[Check, ...] = (home, disk)
#: What only makes sense where there is a home.
INSIDE: tuple[Check, ...] = (keyring, private_keys, tables, table_health, knowledge, sample)

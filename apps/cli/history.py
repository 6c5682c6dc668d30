"""What the log holds, read once: whole conversations, and everything there is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apps.cli.exits import MISUSE, CommandError
from apps.cli.session import PERSON, checker

if TYPE_CHECKING:
    import pyarrow as pa

    from bus.log.table import DeltaLog
    from jobs.bootstrap import System
    from schemas.envelope import Message

#: Characters of an id that are enough to name it.
SHORTEST_PREFIX = 4


def everything(system: System) -> list[Message]:
    """All valid rows, receipts included, in log order; also those whose signature does not hold, unless they decide."""
    return _rows(system)


def conversation(system: System, correlation_id: str) -> list[Message]:
    """Valid rows of one conversation, receipts included; from the archive when it has left. Raises CommandError when there is
    none, UnreadableArchive when the archive is not what it was."""
    import pyarrow as pa
    from pyarrow import compute as pc

    from bus.log.archive import beyond
    from bus.log.retention import older

    log = _messages(system)
    this = pc.field("correlation_id") == correlation_id
    found, _ = log.scan(filters=this)
    # A conversation leaves whole: where its beginning is, there is all of it.
    if not pc.any(pc.is_null(found.column("causation_id"))).as_py():
        left = beyond(found, older(log, this))
        found = pa.concat_tables([found, left.select(found.column_names).cast(found.schema)])
    rows = _valid(system, found)
    if not rows:
        raise _unknown(system, correlation_id)
    return rows


def _rows(system: System) -> list[Message]:
    return _valid(system, _messages(system).scan()[0])


def _valid(system: System, found: pa.Table) -> list[Message]:
    from bus.fold import decision_key, valid_rows
    from bus.log import rows as codec

    accept = checker(system)
    # As the bus itself folds: a receipt or claim that nobody signed decides nothing.
    return valid_rows(row for row in codec.from_arrow(found) if decision_key(row) is None or accept(row))


def _messages(system: System) -> DeltaLog:
    from schemas.tables import AGENT_MESSAGES

    return system.log(AGENT_MESSAGES.name)


def resolve(system: System, named: str) -> str:
    """The correlation id that begins like this; `last` is the newest conversation of a person. Raises CommandError,
    UnreadableArchive."""
    from pyarrow import compute as pc

    from bus.log.retention import older

    columns = ["correlation_id", "causation_id", "from_agent", "log_version"]
    found = _messages(system).scan(columns)[0].to_pylist()
    if named == "last":
        begun = [row for row in found if row["causation_id"] is None and str(row["from_agent"]).startswith(PERSON)]
        if not begun:
            cause = f"nobody has asked anything yet{_gone(system)}"
            raise CommandError(cause, 'tailrace ask "…" --as ana', MISUSE)
        return str(max(begun, key=lambda row: row["log_version"])["correlation_id"])
    ids = {str(row["correlation_id"]) for row in found}
    if named in ids:
        return named
    fitting = sorted(one for one in ids if one.startswith(named))
    if not fitting and len(named) >= SHORTEST_PREFIX:
        begins = pc.starts_with(pc.field("correlation_id"), named)
        left = older(_messages(system), begins)
        fitting = sorted(set(left.column("correlation_id").to_pylist()))
        if named in fitting:
            return named
    if len(named) < SHORTEST_PREFIX or not fitting:
        raise _unknown(system, named)
    if len(fitting) > 1:
        some = ", ".join(fitting[:5]) + (", …" if fitting[5:] else "")
        raise CommandError(f"{len(fitting)} conversations begin with {named}: {some}", "name more of the id", MISUSE)
    return fitting[0]


def _unknown(system: System, named: str) -> CommandError:
    cause = f"the log holds no conversation {named}{_gone(system)}"
    return CommandError(cause, "tailrace ask prints the id of each", MISUSE)


def _gone(system: System) -> str:
    """What cannot be looked up any more, or is elsewhere."""
    from bus.log.retention import archives

    left = archives(_messages(system))
    said = [
        f"days up to {day} went to {place}" if place else f"days up to {day} were discarded"
        for place, day in left.items()
    ]
    return f" ({'; '.join(said)})" if said else ""

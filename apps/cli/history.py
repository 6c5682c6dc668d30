"""What the log holds, read once: whole conversations, and everything there is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from apps.cli.exits import MISUSE, CommandError
from apps.cli.session import PERSON, checker

if TYPE_CHECKING:
    from jobs.bootstrap import System
    from schemas.envelope import Message

#: Characters of an id that are enough to name it.
SHORTEST_PREFIX = 4


def everything(system: System) -> list[Message]:
    """All valid rows, receipts included, in log order; also those whose signature does not hold, unless they decide."""
    return _rows(system)


def conversation(system: System, correlation_id: str) -> list[Message]:
    """Valid rows of one conversation, receipts included. Raises CommandError when there is none."""
    from pyarrow import compute as pc

    rows = _rows(system, pc.field("correlation_id") == correlation_id)
    if not rows:
        raise _unknown(correlation_id)
    return rows


def _rows(system: System, filters: Any = None) -> list[Message]:
    from bus.fold import decision_key, valid_rows
    from bus.log import rows as codec
    from schemas.tables import AGENT_MESSAGES

    accept = checker(system)
    found, _ = system.log(AGENT_MESSAGES.name).scan(filters=filters)
    # As the bus itself folds: a receipt or claim that nobody signed decides nothing.
    return valid_rows(row for row in codec.from_arrow(found) if decision_key(row) is None or accept(row))


def resolve(system: System, named: str) -> str:
    """The correlation id that begins like this; `last` is the newest conversation of a person. Raises CommandError."""
    from schemas.tables import AGENT_MESSAGES

    columns = ["correlation_id", "causation_id", "from_agent", "log_version"]
    found = system.log(AGENT_MESSAGES.name).scan(columns)[0].to_pylist()
    if named == "last":
        begun = [row for row in found if row["causation_id"] is None and str(row["from_agent"]).startswith(PERSON)]
        if not begun:
            raise CommandError("nobody has asked anything yet", 'tailrace ask "…" --as ana', MISUSE)
        return str(max(begun, key=lambda row: row["log_version"])["correlation_id"])
    ids = {str(row["correlation_id"]) for row in found}
    if named in ids:
        return named
    fitting = sorted(one for one in ids if one.startswith(named))
    if len(named) < SHORTEST_PREFIX or not fitting:
        raise _unknown(named)
    if len(fitting) > 1:
        some = ", ".join(fitting[:5]) + (", …" if fitting[5:] else "")
        raise CommandError(f"{len(fitting)} conversations begin with {named}: {some}", "name more of the id", MISUSE)
    return fitting[0]


def _unknown(named: str) -> CommandError:
    return CommandError(f"the log holds no conversation {named}", "tailrace ask prints the id of each", MISUSE)

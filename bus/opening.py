"""Opening what a client is given: the log under a home, for one user, or a bus that somebody else opened."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from bus.base import Bus
from bus.compose import Composer, system_micros
from bus.home import Home
from bus.logs import quiet_unless_configured
from bus.past import MemoryPast, NoPast, Past, TablePast
from bus.pressure import Advice, Pressure, WhenBusy
from bus.session import Opened, Session
from schemas.envelope import USER
from schemas.tables import AGENT_MESSAGES

if TYPE_CHECKING:
    from bus.redaction import Redactor


@dataclass(frozen=True)
class Options:
    """What TailraceClient takes besides the place; see there."""

    user: str
    environment: str = "dev"
    tables: str | None = None
    durability: Literal["os", "disk"] = "os"
    when_busy: WhenBusy = "wait"
    patience: float = 30.0
    advice: Advice | None = None
    now_micros: Callable[[], int] = system_micros
    redactor: Redactor | None = None


def open_session(home: Path | str, bus: Bus | None, options: Options) -> Session:
    """Raises LogMissing, MissingKey, Untrusted or ForeignLog."""
    opened = _opened(Home(Path(home), options.tables), options) if bus is None else Opened(bus, past_of(bus))
    pressure = Pressure(options.advice or opened.advice, options.patience)
    return Session(opened, Composer(options.user, options.now_micros), pressure, options.when_busy)


def past_of(bus: Bus) -> Past:
    """How to look into the past of a bus: through its table, if it is a log, or its memory."""
    table, memory = getattr(bus, "table", None), getattr(bus, "log", None)
    if table is not None and hasattr(table, "follow"):
        return TablePast(table, lambda message_id: message_id in bus.state.seen, bus.state.partial)
    return NoPast() if memory is None else MemoryPast(memory)


def _opened(home: Home, options: Options) -> Opened:
    if home.catalogue is None:
        return _log(home, options)
    # By name: whoever opens a folder or an object store must not load Spark, nor depend on it.
    found: Opened = import_module("bus.streaming.client").open_catalogue(home, options)
    return found


def _log(home: Home, options: Options) -> Opened:
    """Arrow and cryptography are loaded here, not when a client is imported."""
    from bus.audit import AuditChain
    from bus.flow import Flow
    from bus.keys import Signer
    from bus.log.bus import LogBus
    from bus.log.object_store import open_store
    from bus.log.seal import SigningSeal
    from bus.log.table import DeltaLog
    from bus.redaction import Redactor
    from bus.trusted import TrustedNow

    quiet_unless_configured()
    place = home.table(AGENT_MESSAGES.name)
    table = DeltaLog(open_store(place, options.durability), AGENT_MESSAGES)
    table_id = table.check()
    signer = Signer.load(home.keys, [USER + options.user], table_id, options.environment)
    trusted = TrustedNow(home.keys, table_id, options.environment)
    redactor = options.redactor or Redactor.of_secrets()
    seal = SigningSeal(signer, AuditChain(f"client-{uuid.uuid4().hex[:8]}"), redactor)
    bus = LogBus(table, seal=seal, follow_only=True, accept=trusted.accepts)
    return Opened(
        bus,
        past_of(bus),
        trusted.accepts,
        trusted.knows,
        trusted.agents,
        Flow(table.store),
        remote=not isinstance(place, Path),
    )

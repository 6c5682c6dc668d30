"""Whether an effect happened, as its target's own log proves it: what is left when nobody lived to see the outcome."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import structlog

from schemas.payloads import ExecutionClaimed
from workers.execution.limits import storable
from workers.ports import Engine

log = structlog.get_logger(__name__)

#: Whether a process, by its whereabouts, and all that it had started are gone for certain.
Gone = Callable[[str], bool]


def never(_: str) -> bool:
    """Where nobody can tell."""
    return False


@dataclass(frozen=True)
class Proof:
    """`happened`, by `said`. `table_version`: what it wrote, as long as the target's log still has that entry."""

    happened: bool
    said: str
    table_version: int | None = None

    @property
    def table_version_before(self) -> int | None:
        """What a commit replaced is the version before it."""
        return self.table_version - 1 if self.table_version else None

    @property
    def word(self) -> str:
        return "done" if self.happened else "failed"


class Prover:
    """`process`: where we run ourselves."""

    def __init__(self, engine: Engine, process: str, gone: Gone) -> None:
        self._engine = engine
        self._process = process
        self._gone = gone

    def is_over(self, claimed: ExecutionClaimed) -> bool:
        """Whether nothing of a claim can be running any more, given that this process runs nothing of it."""
        return bool(claimed.process) and (claimed.process == self._process or self._gone(claimed.process))

    async def proof(self, grant_id: str, target: str | None, *, over: bool, since: int | None = None) -> Proof | None:
        """None: the target cannot prove it. A mark proves that it happened; none proves the contrary only when it is over."""
        if target is None:
            return None
        try:
            outcome = await self._engine.outcome_of(grant_id, target, since)
        except Exception as error:  # whatever keeps the target from telling, it does not tell
            log.warning("execution.no_proof", grant=grant_id, target=target, error=storable(str(error)))
            return None
        if outcome is not None:
            version = "" if outcome.table_version is None else f", version {outcome.table_version},"
            return Proof(
                True, f"the log of {outcome.table}{version} bears the mark of {grant_id}", outcome.table_version
            )
        if not over:
            return None
        return Proof(False, f"the log of {target} bears no mark of {grant_id}, and nothing of it runs any more")

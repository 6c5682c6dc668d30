"""The claims of one agent among those of the log: what its handlers ask before an effect."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from bus.base import Bus
from schemas.envelope import Message


class OwnClaims(Mapping[str, Message]):
    """Grant -> the row that claimed or revoked it, for one agent. A view: it shows what the log says at the moment."""

    def __init__(self, bus: Bus, agent: str) -> None:
        self._bus, self._prefix = bus, f"{agent}/"

    def __getitem__(self, grant_id: str) -> Message:
        return self._bus.state.claims[self._prefix + grant_id]

    def __iter__(self) -> Iterator[str]:
        every = list(self._bus.state.claims)
        return (claim.removeprefix(self._prefix) for claim in every if claim.startswith(self._prefix))

    def __len__(self) -> int:
        return sum(1 for _ in self)

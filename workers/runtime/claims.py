"""The claims of one agent among those of the log: what its handlers ask before an effect."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from schemas.envelope import Message


class OwnClaims(Mapping[str, Message]):
    """Grant -> the row that claimed or revoked it, for one agent. A view: it shows what the log says at the moment."""

    def __init__(self, every: Mapping[str, Message], agent: str) -> None:
        self._every, self._prefix = every, f"{agent}/"

    def __getitem__(self, grant_id: str) -> Message:
        return self._every[self._prefix + grant_id]

    def __iter__(self) -> Iterator[str]:
        return (claim.removeprefix(self._prefix) for claim in list(self._every) if claim.startswith(self._prefix))

    def __len__(self) -> int:
        return sum(1 for _ in self)

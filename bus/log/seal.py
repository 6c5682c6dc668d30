"""Sealing: the last thing done to a row before it is committed. Audit facts get their place in the chain; all get signed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from bus.audit import AuditChain, fact_hash, is_audit
from bus.keys import Signer
from schemas.envelope import Message


class Seal(Protocol):
    """`apply` may be called again for the same batch after a lost race; only `commit` makes its chain positions final."""

    def apply(self, messages: Sequence[Message]) -> list[Message]: ...

    def commit(self) -> None: ...


class NoSeal:
    """For the buses of tests and tables without signatures."""

    def apply(self, messages: Sequence[Message]) -> list[Message]:
        return list(messages)

    def commit(self) -> None:
        return


class SigningSeal:
    """Links audit facts and signs every row. A row that came signed (a person's decision, relayed) is left as it is."""

    def __init__(self, signer: Signer, chain: AuditChain) -> None:
        self._signer = signer
        self._chain = chain
        self._tip = (chain.sequence, chain.previous)
        self._signed: dict[str, Message] = {}

    def apply(self, messages: Sequence[Message]) -> list[Message]:
        sequence, previous = self._chain.sequence, self._chain.previous
        sealed: list[Message] = []
        for message in messages:
            if is_audit(message):
                sequence += 1
                message = self._signer.sign(self._chain.link(message, sequence, previous))
                previous = fact_hash(message, self._signer.table_id, self._signer.environment)
            elif message.signature is None:
                # Signed once, however often the batch is tried: an ordinary row does not depend on its neighbours.
                message = self._signed.setdefault(message.message_id, self._signer.sign(message))
            sealed.append(message)
        self._tip = (sequence, previous)
        return sealed

    def commit(self) -> None:
        self._chain.advance(*self._tip)
        self._signed.clear()

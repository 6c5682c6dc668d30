"""Sealing: the last thing done to a row before it is committed. What must not be in a log is masked, audit facts get their
place in the chain, all get signed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from bus.audit import AuditChain, fact_hash, is_audit
from bus.keys import Signer
from bus.log.columns import Columns, Signatures
from bus.redaction import Redactor
from schemas.envelope import Message


class Seal(Protocol):
    """`apply` may be called again for the same batch after a lost race; only `commit` makes its chain positions final.

    `version`: what the commit tries to be, where that is known already; then the rows are given their place in it as well.
    """

    def apply(self, messages: Sequence[Message], version: int = -1) -> list[Message]: ...

    def commit(self) -> None: ...

    def columns(self, rows: Columns) -> Signatures | None:
        """For rows that are no messages yet, and no audit facts either."""
        ...


class NoSeal:
    """For the buses of tests and tables without signatures."""

    def apply(self, messages: Sequence[Message], version: int = -1) -> list[Message]:
        if version < 0:
            return list(messages)
        return [message.with_fields(log_version=version, seq=place) for place, message in enumerate(messages)]

    def commit(self) -> None:
        return

    def columns(self, rows: Columns) -> Signatures | None:
        return None


class SigningSeal:
    """Links audit facts and signs every row, with one signature a key for the whole commit.

    A row that came signed (a person's decision, relayed) is left as it is.
    """

    def __init__(self, signer: Signer, chain: AuditChain, redactor: Redactor | None = None) -> None:
        self._signer = signer
        self._chain = chain
        self._redactor = redactor
        self._tip = (chain.sequence, chain.previous)

    def apply(self, messages: Sequence[Message], version: int = -1) -> list[Message]:
        messages = self._redacted(messages)
        sequence, previous = self._chain.sequence, self._chain.previous
        sealed: list[Message] = []
        unsigned: list[int] = []
        for place, message in enumerate(messages):
            if message.signature is not None:
                if version >= 0:
                    message = message.with_fields(log_version=version, seq=place)
            else:
                unsigned.append(place)
                if is_audit(message):
                    sequence += 1
                    message = self._chain.link(message, sequence, previous)
                    key_id = self._signer.key_id(message.from_agent)
                    previous = fact_hash(message, self._signer.table_id, self._signer.environment, key_id)
            sealed.append(message)
        self._tip = (sequence, previous)
        signs = self._signer.signs([sealed[place] for place in unsigned])
        for place, (key_id, text) in zip(unsigned, signs, strict=True):
            # In one copy: copies are much of what a row costs.
            fields = {**sealed[place].__dict__, "key_id": key_id, "signature": text}
            if version >= 0:
                fields["log_version"], fields["seq"] = version, place
            sealed[place] = Message.of_sound(fields)
        return sealed

    def _redacted(self, messages: Sequence[Message]) -> Sequence[Message]:
        """Nothing is signed that was not looked at. What came signed stays as it was signed."""
        redactor = self._redactor
        if redactor is None or not redactor.suspicious((one.content for one in messages), "message"):
            return messages
        return [
            message
            if message.signature is not None or (content := redactor.content(message.content)) == message.content
            else message.with_fields(content=content)
            for message in messages
        ]

    def commit(self) -> None:
        self._chain.advance(*self._tip)

    def columns(self, rows: Columns) -> Signatures | None:
        key_id = self._signer.key_id(rows.sender)
        if self._redactor is not None and self._redactor.suspicious(rows.contents(), "message"):
            rows.change_contents(self._redactor.content)
        data = rows.signed_bytes(self._signer.table_id, self._signer.environment, key_id)
        return Signatures(key_id, *self._signer.group_signatures(rows.sender, data))

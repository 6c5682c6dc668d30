"""The audit chain: every fact names the hash of the one before it by the same writer, so none can be taken out unseen."""

from __future__ import annotations

import hashlib
import json

from schemas.envelope import Message, is_user

#: What the first fact of a chain points at.
GENESIS = "0" * 64
AUDIT_KIND = "AuditRecorded"


def is_audit(message: Message) -> bool:
    """Agents state facts. A person's key signs whatever that person likes, in any chain's name: see `says_fact`."""
    return says_fact(message) and not is_user(message.from_agent)


def says_fact(message: Message) -> bool:
    """Whether it looks like a fact. By a person it is none: nobody chains it, projects it, or builds on it."""
    return message.kind == AUDIT_KIND and message.message_type == "event"


def fact_hash(message: Message, table_id: str, environment: str, key_id: str | None = None) -> str:
    """sha256 over the bytes that are signed. `key_id`: of a row that does not have its signature yet."""
    return hashlib.sha256(message.signed_bytes(table_id, environment, key_id or message.key_id or "")).hexdigest()


class AuditChain:
    """One writer's chain. `link` is called as a commit is decided; `advance` once it is in the log."""

    def __init__(self, writer: str) -> None:
        self.writer = writer
        self.sequence = 0
        self.previous = GENESIS

    def link(self, message: Message, sequence: int, previous: str) -> Message:
        content = json.loads(message.content)
        content |= {"writer": self.writer, "sequence": sequence, "previous": previous}
        return message.model_copy(update={"content": json.dumps(content, separators=(",", ":"), ensure_ascii=False)})

    def advance(self, sequence: int, previous: str) -> None:
        self.sequence, self.previous = sequence, previous

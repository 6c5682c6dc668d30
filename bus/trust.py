"""Whether a message is what it says: signed by its sender's key, on behalf of whoever began the conversation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from bus.errors import Untrusted
from bus.keys import Keyring
from schemas.envelope import USER, Message, is_user


class Trust(Protocol):
    def check(self, message: Message, conversation: Sequence[Message]) -> str | None:
        """The principal the conversation was begun for. Raises Untrusted."""
        ...


class TrustEverybody:
    """For buses without keys: tests and single-process examples. Takes the root's word for its principal."""

    def check(self, message: Message, conversation: Sequence[Message]) -> str | None:
        return (conversation[0] if conversation else message).principal


class SignedTrust:
    """Signatures by the keyring; roles follow the key that signed the root message, never a later field."""

    def __init__(self, keyring: Keyring, table_id: str, environment: str) -> None:
        self._keyring = keyring
        self._table_id = table_id
        self._environment = environment
        self._roots: dict[str, str] = {}

    def check(self, message: Message, conversation: Sequence[Message]) -> str | None:
        self._signed(message)
        root = conversation[0] if conversation else message
        if root.message_id not in self._roots:
            self._signed(root)
            if root.causation_id is not None:
                raise Untrusted("principal.root", "the conversation does not begin with a root message")
            if len(self._roots) > 100_000:
                self._roots.clear()
            self._roots[root.message_id] = root.message_id
        if not is_user(message.from_agent) and message.principal != root.principal:
            raise Untrusted(
                "principal.changed", f"{message.from_agent} acts for {message.principal}, but the conversation is {root.principal}'s"
            )
        return root.principal

    def _signed(self, message: Message) -> None:
        self._keyring.check(message, self._table_id, self._environment)
        if is_user(message.from_agent) and message.principal != message.from_agent.removeprefix(USER):
            raise Untrusted("principal.claimed", f"{message.from_agent} cannot act for {message.principal}")

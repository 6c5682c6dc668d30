"""Whether a message is what it says: signed by its sender's key, on behalf of whoever began the conversation."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Protocol

from bus.errors import Untrusted
from bus.keys import Keyring
from schemas.envelope import USER, Message, is_user

#: On whose behalf an agent speaks in a conversation that it began itself.
AGENT = "agent:"
#: Rows whose check is remembered.
CHECKED = 20_000


class Trust(Protocol):
    def check(self, message: Message, conversation: Sequence[Message]) -> list[Message]:
        """The messages of the conversation that hold, root first. Raises Untrusted when `message` or the root doesn't."""
        ...


class TrustEverybody:
    """For buses without keys: tests and single-process examples."""

    def check(self, message: Message, conversation: Sequence[Message]) -> list[Message]:
        return list(conversation) or [message]


class SignedTrust:
    """Signatures by the keyring; roles follow the key that signed the root message, never a later field."""

    def __init__(self, keyring: Keyring, table_id: str, environment: str) -> None:
        self._keyring = keyring
        self._table_id = table_id
        self._environment = environment
        #: Rows by place: a signature is checked once in a process. A place alone proves nothing, nor does an id: a file that
        #: somebody else wrote may claim those of a row that was checked, but not all that it says.
        self._checked: OrderedDict[tuple[int, int], Message] = OrderedDict()

    def check(self, message: Message, conversation: Sequence[Message]) -> list[Message]:
        rows = conversation or [message]
        if len(rows) == 1 and rows[0] is message:
            self._signed(message)
            self._begins(message)
            return [message]
        # What nobody signed does not begin a conversation, wherever it stands.
        begin = next((place for place, row in enumerate(rows) if self._is_signed(row)), 0)
        root = rows[begin]
        self._signed(root)
        self._begins(root)
        self._holds(message, root)
        trusted = [root]
        for row in rows[begin + 1 :]:
            try:
                self._holds(row, root)
            except Untrusted:
                continue  # a forged row in a conversation is nobody's evidence; its own handling refuses it aloud
            trusted.append(row)
        return trusted

    def _begins(self, root: Message) -> None:
        if root.causation_id is not None:
            raise Untrusted("principal.root", "the conversation does not begin with a root message")
        if not is_user(root.from_agent) and root.principal != AGENT + root.from_agent:
            raise Untrusted("principal.claimed", f"{root.from_agent} cannot begin a conversation for {root.principal}")

    def _holds(self, row: Message, root: Message) -> None:
        self._signed(row)
        if not is_user(row.from_agent) and row.principal != root.principal:
            raise Untrusted(
                "principal.changed",
                f"{row.from_agent} acts for {row.principal}, but the conversation is {root.principal}'s",
            )

    def _is_signed(self, row: Message) -> bool:
        try:
            self._signed(row)
        except Untrusted:
            return False
        return True

    def _signed(self, row: Message) -> None:
        position = row.position
        known = self._checked.get(position)
        if known is row or (known is not None and known.__dict__ == row.__dict__):
            return
        self._keyring.check(row, self._table_id, self._environment)
        if is_user(row.from_agent) and row.principal != row.from_agent.removeprefix(USER):
            raise Untrusted("principal.claimed", f"{row.from_agent} cannot act for {row.principal}")
        self._checked[position] = row
        if len(self._checked) > CHECKED:
            self._checked.popitem(last=False)

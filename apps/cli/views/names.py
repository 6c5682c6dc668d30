"""Who is who on a line: agents without their suffix, people by name."""

from __future__ import annotations

from rich.text import Text

from apps.cli.views.safe import safe
from schemas.envelope import EVERYONE, USER, is_user

SUFFIX = "Agent"


def who(address: str) -> Text:
    address = safe(address)
    if is_user(address):
        return Text(address.removeprefix(USER), style="person")
    if address == EVERYONE:
        return Text("all", style="quiet")
    return Text(address.removesuffix(SUFFIX) or address, style="agent")


def status(word: str) -> Text:
    """The status of an answer, an approval or an execution, coloured by how it went."""
    good = {"answered", "approved", "done", "handled", "allowed", "ok", "ready"}
    bad = {"refused", "failed", "rejected", "dead", "in_doubt", "fail"}
    style = "good" if word in good else "bad" if word in bad else "warn"
    return Text(safe(word).replace("_", " "), style=style)

"""What became of a person's decision, in one or two lines."""

from __future__ import annotations

from rich.text import Text

from apps.cli.approving import Decided, Lent
from apps.cli.views.safe import safe

PAST = {"approve": "approved", "reject": "rejected", "changes": "sent back for changes"}


def decision(decided: Decided, user: str) -> Text:
    if decided.accepted:
        mark = ("✓ ", "good")
        name = f" for {safe(decided.for_user)}" if decided.for_user else ""
        still = decided.reason.partition("; ")[2]  # more people have to say yes
        return Text.assemble(
            mark,
            f"{PAST[decided.decision]} by ",
            (user, "person"),
            name,
            (f"  {decided.approval_id}", "quiet"),
            (f"\n  {safe(still)}" if still else "", "warn"),
        )
    if decided.accepted is None:
        return Text.assemble(
            ("… ", "warn"), "the decision of ", (user, "person"), f" is in the log, signed; {safe(decided.reason)}"
        )
    return Text.assemble(
        ("✗ ", "bad"), "not accepted: ", safe(decided.reason), "\n  ", ("rule ", "quiet"), (safe(decided.rule), "warn")
    )


def lent(said: Lent, user: str) -> Text:
    if said.accepted:
        return Text.assemble(("✓ ", "good"), safe(said.reason), (f"  {said.delegation_id}", "quiet"))
    if said.accepted is None:
        return Text.assemble(("… ", "warn"), "the word of ", (user, "person"), f" is in the log; {safe(said.reason)}")
    return Text.assemble(
        ("✗ ", "bad"), "not accepted: ", safe(said.reason), "\n  ", ("rule ", "quiet"), (safe(said.rule), "warn")
    )

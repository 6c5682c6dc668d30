"""What became of a person's decision, in one or two lines."""

from __future__ import annotations

from rich.text import Text

from apps.cli.approving import Decided
from apps.cli.views.safe import safe

PAST = {"approve": "approved", "reject": "rejected"}


def decision(decided: Decided, user: str) -> Text:
    if decided.accepted:
        mark = ("✓ ", "good")
        return Text.assemble(
            mark, f"{PAST[decided.decision]} by ", (user, "person"), (f"  {decided.approval_id}", "quiet")
        )
    if decided.accepted is None:
        return Text.assemble(
            ("… ", "warn"), "the decision of ", (user, "person"), f" is in the log, signed; {safe(decided.reason)}"
        )
    return Text.assemble(
        ("✗ ", "bad"), "not accepted: ", safe(decided.reason), "\n  ", ("rule ", "quiet"), (safe(decided.rule), "warn")
    )

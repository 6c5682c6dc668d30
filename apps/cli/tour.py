"""The requests of the demonstration, and how they are taken through the running system one after the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from apps.cli.approving import Decided, decide
from apps.cli.asking import Follower
from apps.cli.hosts import Hosts
from apps.cli.outcome import Outcome
from apps.cli.session import speaking_as

if TYPE_CHECKING:
    from jobs.bootstrap import System
    from workers.governance.approvals import Approval

APPROVER = "ada"


@dataclass(frozen=True)
class Request:
    """`expected` is the status it has to end with; `rows` and `with_code` say how much of the answer is shown."""

    user: str
    question: str
    expected: str
    about: str
    rows: int = 10
    with_code: bool = False


REQUESTS = (
    Request(
        "ana",
        "How are sales defined, and which discounts count?",
        "answered",
        "a question about definitions: answered from approved knowledge, with its sources",
    ),
    Request(
        "eli",
        "Generate SQL to find the top 10 customers by sales",
        "answered",
        "code is written and checked, not run",
        with_code=True,
    ),
    Request(
        "eli",
        "Execute SQL to find the top 10 customers by sales and save it to table top_customers",
        "answered",
        "code is run under governance: dry run, approval by another person, a grant for one use",
        rows=3,
    ),
    Request(
        "ana",
        "What are the top 10 customers by sales?",
        "answered",
        "an analyst may not run code, and gets the published governed result",
    ),
    Request(
        "ana",
        "Execute SQL to find the top 10 customers by sales",
        "refused",
        "an analyst who asks to run code is refused",
    ),
)


@dataclass
class Tour:
    """Asks by the very functions that `tailrace ask` and `tailrace approvals approve` use."""

    system: System
    hosts: Hosts
    timeout: float

    def take(
        self, request: Request, on_approval: Callable[[Approval], None], on_rows: Callable[[Outcome], None]
    ) -> Outcome:
        follower = Follower(self.timeout, self.hosts, on_rows, on_approval)
        with speaking_as(self.system, request.user) as client:
            return follower.ask(client, request.question)

    def approve(self, approval: Approval, user: str = APPROVER) -> Decided:
        return decide(self.system, user, approval, "approve", "the dry run reads what the question asks for")

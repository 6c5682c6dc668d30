"""Whose receipts count: a forged row that its addressee rejected is no problem, and nobody else can make it none."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from bus.keys import Signer
from bus.log import rows as codec
from jobs.audit import verifier, verify
from jobs.bootstrap import System
from schemas.envelope import MALFORMED, Message
from schemas.tables import AGENT_MESSAGES
from tests.unit.audit.forging import put_in, rows_of

NOBODY: dict[str, Any] = {"key_id": None, "signature": None, "causation_id": None, "handling_id": None}


def forged(system: System, **changed: Any) -> str:
    """A row that nobody signed; the id under which a host rejects it."""
    like = next(row for row in rows_of(system) if row["message_type"] == "request")
    version = put_in(system, [like | NOBODY | {"message_id": "forged", "to_agent": "RAGAgent"} | changed], {})
    log = system.log(AGENT_MESSAGES.name)
    entry = log.entry(version)
    assert entry is not None
    return codec.of_entry(log, entry)[0].message_id


def receipt(system: System, by: str, of: str, outcome: str = "rejected") -> None:
    begun = next(row for row in rows_of(system) if row["message_type"] == "request")
    log = system.log(AGENT_MESSAGES.name)
    unsigned = Message(
        message_id=f"receipt-{by}",
        correlation_id=begun["correlation_id"],
        causation_id=of,
        from_agent=by,
        to_agent="",
        message_type="receipt",
        kind="Receipt",
        content=f'{{"outcome":"{outcome}"}}',
        timestamp=rows_of(system)[-1]["timestamp"],
        principal=by.removeprefix("user:") if by.startswith("user:") else begun["principal"],
    )
    version = log.head() + 1
    row = Signer.load(system.home.keys, [by], log.check(), "dev").sign(unsigned)
    assert log.put(version, codec.to_arrow([row], version)).won


def found(system: System) -> tuple[set[str], Counter[str]]:
    """By both verifiers, which must agree."""
    ours, theirs = verify(system), verifier.verify(system.home.root, None, [])[0]
    assert set(ours.found) == set(theirs.found)
    counted = ("rejected rows", "receipts of people, which are none")
    assert [ours.checked[name] for name in counted] == [theirs.checked[name] for name in counted]
    return set(ours.found), ours.checked


@pytest.mark.parametrize("changed", [{}, {"to_agent": "*", "message_type": "event"}])
def test_what_its_addressee_rejected_is_no_problem(home: System, changed: dict[str, Any]) -> None:
    receipt(home, "RAGAgent", forged(home, **changed))
    rules, counted = found(home)
    assert (rules, counted["rejected rows"]) == (set(), 1)


@pytest.mark.parametrize(
    ("to", "by"), [("RAGAgent", "RAGAgent"), ("*", "GovernanceAgent"), ("user:ana", "GovernanceAgent")]
)
def test_so_it_is_of_what_is_no_message(home: System, to: str, by: str) -> None:
    name = forged(home, priority=99, to_agent=to)
    assert name.startswith(MALFORMED.lower())
    receipt(home, by, name)
    rules, counted = found(home)
    assert (rules, counted["rejected rows"]) == (set(), 1)


@pytest.mark.parametrize("by", ["CodeAgent", "user:ana"])
def test_nobody_else_rejects_it(home: System, by: str) -> None:
    """Else whoever alters a row could have it rejected, and nothing would be named."""
    receipt(home, by, forged(home))
    rules, counted = found(home)
    assert "signature.missing" in rules
    assert counted["rejected rows"] == 0


@pytest.mark.parametrize("of", ["no such message", None])
def test_a_receipt_that_a_person_signed_is_none(home: System, of: str | None) -> None:
    """It settles nothing, and cannot spoil the audit of the others."""
    request = next(row["message_id"] for row in rows_of(home) if row["message_type"] == "request")
    receipt(home, "user:ana", of or request, "handled")
    rules, counted = found(home)
    assert (rules, counted["receipts of people, which are none"]) == (set(), 1)

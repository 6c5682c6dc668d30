"""Votes are counted again by group, as governance counted them, from what the log says people's groups were then."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from bus.keys import Signer
from bus.log import rows as codec
from jobs.audit import verifier, verify
from jobs.bootstrap import System
from schemas.envelope import Message
from schemas.payloads import (
    ApprovalDecided,
    ApprovalEscalated,
    ApprovalRequested,
    Ask,
    Code,
    CountedVote,
    Decide,
    Grant,
    Need,
    Payload,
    RunCode,
)
from schemas.tables import AGENT_MESSAGES
from tests.unit.audit.forging import rows_of

SQL = "SELECT 1"
HOUR = 3_600_000_000
NEEDS = [Need(group="admin", count=1), Need(group="finance", count=1)]
GOVERNANCE = "GovernanceAgent"


def vote(actor: str, *groups: str, for_user: str | None = None) -> CountedVote:
    return CountedVote(actor=actor, groups=list(groups), for_user=for_user)


def told(
    system: System, votes: list[CountedVote], needs: list[Need] = NEEDS, escalated: list[Need] | None = None
) -> list[set[str]]:
    """What both verifiers find after eli's request was granted, ada and ana having said yes and governance so."""
    now = rows_of(system)[-1]["timestamp"]
    run = RunCode(
        grant=Grant(
            grant_id="g9",
            approval_id="apr9",
            code_sha256=hashlib.sha256(SQL.encode()).hexdigest(),
            dialect="sql",
            target=None,
            dry_run_digest="d",
            table_versions={},
            requester="eli",
            approved_by="ana",
            rule="r",
            policy="p",
            environment="dev",
            issued_at=now,
            expires_at=now + HOUR,
            approvers=["ada", "ana"],
        ),
        question="q",
        code=Code(language="sql", text=SQL),
        reply_to="A",
    )
    asked = ApprovalRequested(
        approval_id="apr9",
        requester="eli",
        question="q",
        code=Code(language="sql", text=SQL),
        target=None,
        digest="d",
        plan="",
        rule="r",
        expires_at=now + HOUR,
        needs=needs,
    )
    yes = Decide(approval_id="apr9", decision="approve", digest="d")
    end = ApprovalDecided(approval_id="apr9", decision="approved", actor="ana", actors=["ada", "ana"], votes=votes)
    said: list[tuple[str, Payload]] = [("user:eli", Ask(question="q")), (GOVERNANCE, asked)]
    if escalated:
        said.append((GOVERNANCE, ApprovalEscalated(approval_id="apr9", to=escalated)))
    said += [("user:ada", yes), ("user:ana", yes), (GOVERNANCE, end), (GOVERNANCE, run)]
    log = system.log(AGENT_MESSAGES.name)
    signer = Signer.load(system.home.keys, [GOVERNANCE, "user:eli", "user:ada", "user:ana"], log.check(), "dev")
    rows = [
        Message(
            message_id=f"v{number}",
            correlation_id="v0",
            causation_id=f"v{number - 1}" if number else None,
            from_agent=sender,
            to_agent="ExecutionAgent" if payload is run else "*",
            message_type="request" if sender.startswith("user:") or payload is run else "event",
            kind=payload.kind(),
            content=payload.model_dump_json(),
            timestamp=now,
            principal=sender.removeprefix("user:") if sender.startswith("user:") else "eli",
        )
        for number, (sender, payload) in enumerate(said)
    ]
    version = log.head() + 1
    assert log.put(version, codec.to_arrow(signer.sign_all(rows), version)).won
    theirs, _ = verifier.verify(system.home.root, None, [])
    return [set(verify(system).found), set(theirs.found)]


@pytest.mark.parametrize(
    ("votes", "more"),
    [
        ([vote("ada", "admin"), vote("ana", "finance")], {}),
        ([vote("ada", "admin", "finance"), vote("ana", "admin")], {}),  # ada makes room for ana
        ([vote("ada", "admin"), vote("ana", "board")], {"escalated": [Need(group="board", count=1)]}),
        ([vote("ada", "admin"), vote("ana", "admin")], {"needs": [Need(group="admin", count=2)]}),
        ([], {"needs": [Need(group="admin", count=2)]}),  # as releases before this one said it
    ],
)
def test_enough_of_each_group_holds(home: System, votes: list[CountedVote], more: dict[str, Any]) -> None:
    assert told(home, votes, **more) == [set(), set()]


@pytest.mark.parametrize(
    ("votes", "rule"),
    [
        ([vote("ada", "admin"), vote("ana", "admin")], "grant.votes"),
        ([vote("ada", "admin"), vote("ana")], "grant.votes"),
        ([vote("ada", "admin"), vote("ana", "board")], "grant.votes"),  # nobody asked the board
        ([vote("ada", "admin", "finance")], "grant.votes"),
        ([vote("ada", "admin"), vote("ada", "finance")], "grant.votes"),
        ([vote("ada", "admin"), vote("ana", "finance", for_user="ada")], "grant.votes"),
        ([vote("ada", "admin"), vote("ana", "finance", for_user="ned")], "grant.approval"),
    ],
)
def test_too_few_of_a_group_are_named(home: System, votes: list[CountedVote], rule: str) -> None:
    ours, theirs = told(home, votes)
    assert ours == theirs
    assert rule in ours


def test_governance_writes_down_whom_it_counted_and_by_which_group(home: System) -> None:
    said = [json.loads(row["content"]) for row in rows_of(home) if row["kind"] == "ApprovalDecided"]
    asked = [json.loads(row["content"]) for row in rows_of(home) if row["kind"] == "ApprovalRequested"]
    (approved,) = [one for one in said if one["decision"] == "approved"]
    assert asked[0]["needs"] == [{"group": "admin", "count": 1}]
    assert approved["votes"] == [{"actor": "ada", "for_user": None, "groups": ["admin"]}]

"""What governance, execution and people signed has to agree: every way in which it does not has a name."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from jobs.audit.grants import CLAIM_TAKES, Grants
from jobs.audit.report import AuditReport
from schemas.envelope import Message
from schemas.payloads import (
    ApprovalDecided,
    ApprovalEscalated,
    ApprovalRequested,
    ApprovalVoted,
    Code,
    Decide,
    DelegationChanged,
    ExecutionClaimed,
    ExecutionSettled,
    Grant,
    GrantRevoked,
    Need,
    Payload,
    RevokeGrant,
    RunCode,
    SettleExecution,
)
from tests.fakes import FixedRoles

NOW = 1_767_225_600_000_000
HOUR = 3_600_000_000
SQL = "SELECT 1"


class Told:
    """What was said, in order; `rules` is what the check makes of it."""

    def __init__(self) -> None:
        self.report = AuditReport()
        self._grants = Grants(FixedRoles(), "dev", self.report)
        self._number = 0

    def says(self, sender: str, payload: Payload, principal: str = "eli", after: int = 0) -> Told:
        self._number += 1
        message = Message(
            message_id=f"m{self._number}",
            correlation_id="c",
            from_agent=sender,
            to_agent="*",
            message_type="event",
            kind=payload.kind(),
            content=payload.model_dump_json(),
            timestamp=NOW + self._number + after,
            principal=principal,
            log_version=self._number,
            seq=0,
        )
        self._grants.take(message, payload.model_dump(mode="json"))
        return self

    def person(self, name: str, payload: Payload) -> Told:
        return self.says(f"user:{name}", payload, principal=name)

    def governance(self, payload: Payload, principal: str = "eli") -> Told:
        return self.says("GovernanceAgent", payload, principal)

    def execution(self, payload: Payload, after: int = 0) -> Told:
        return self.says("ExecutionAgent", payload, after=after)

    @property
    def rules(self) -> set[str]:
        self._grants.end()
        return set(self.report.found)


def asked(*needs: Need, **changed: Any) -> ApprovalRequested:
    return ApprovalRequested(
        **{
            "approval_id": "apr",
            "requester": "eli",
            "question": "q",
            "code": Code(language="sql", text=SQL),
            "target": None,
            "digest": "d",
            "plan": "",
            "rule": "r",
            "expires_at": NOW + HOUR,
            "needs": list(needs),
            **changed,
        }
    )


def yes(**changed: Any) -> Decide:
    return Decide(**{"approval_id": "apr", "decision": "approve", "digest": "d", **changed})


def granted(**changed: Any) -> RunCode:
    grant = Grant(
        **{
            "grant_id": "g",
            "approval_id": "apr",
            "code_sha256": hashlib.sha256(SQL.encode()).hexdigest(),
            "dialect": "sql",
            "target": None,
            "dry_run_digest": "d",
            "table_versions": {},
            "requester": "eli",
            "approved_by": "ada",
            "rule": "r",
            "policy": "p",
            "environment": "dev",
            "issued_at": NOW,
            "expires_at": NOW + HOUR,
            "approvers": ["ada"],
            **changed,
        }
    )
    return RunCode(grant=grant, question="q", code=Code(language="sql", text=SQL), reply_to="A")


def claimed(**changed: Any) -> ExecutionClaimed:
    return ExecutionClaimed(
        **{
            "grant_id": "g",
            "requester": "eli",
            "question": "q",
            "code": SQL,
            "target": None,
            "approved_by": "ada",
            "instance": "i",
            **changed,
        }
    )


def settled(step: str = "done", **changed: Any) -> ExecutionSettled:
    return ExecutionSettled(
        **{
            "grant_id": "g",
            "step": step,
            "requester": "eli",
            "question": "q",
            "code": SQL,
            "target": None,
            "approved_by": "ada",
            **changed,
        }
    )


ADMIN = Need(group="admin", count=1)


def approved(*needs: Need) -> Told:
    return Told().governance(asked(*(needs or (ADMIN,)))).person("ada", yes())


def test_what_was_asked_approved_granted_run_and_settled_holds() -> None:
    told = approved().governance(granted()).execution(claimed()).execution(settled())
    assert told.rules == set()
    assert told.report.checked["grants"] == told.report.checked["executions"] == 1


def test_a_grant_by_a_rule_of_the_policy_holds() -> None:
    run = granted(approved_by="policy", approvers=[], approval_id=None)
    assert Told().governance(run).execution(claimed(approved_by="policy")).rules == set()


def test_two_people_who_are_both_needed_hold() -> None:
    told = approved(Need(group="admin", count=2)).person("ned", yes())
    assert told.governance(granted(approvers=["ada", "ned"])).rules == set()


def test_a_vote_in_anothers_place_holds_while_it_is_lent() -> None:
    lent = DelegationChanged(delegation_id="x", from_user="ada", to_user="ned", until=NOW + HOUR)
    told = Told().governance(lent, principal="ada").governance(asked(ADMIN)).person("ned", yes(for_user="ada"))
    assert told.governance(granted()).rules == set()


def test_a_delegation_that_was_given_back_holds() -> None:
    lent = DelegationChanged(delegation_id="x", from_user="ada", to_user="ned", until=NOW + HOUR)
    back = lent.model_copy(update={"until": NOW})
    assert Told().governance(lent, principal="ada").governance(back, principal="ned").rules == set()


def test_who_was_asked_later_may_decide_too() -> None:
    told = Told().governance(asked(Need(group="admin", count=2)))
    told.governance(ApprovalEscalated(approval_id="apr", to=[ADMIN])).person("ada", yes())
    assert told.governance(granted()).rules == set()


def test_a_settlement_that_a_person_signed_holds() -> None:
    told = approved().governance(granted()).execution(claimed()).execution(settled("in_doubt"))
    told.person("ada", SettleExecution(grant_id="g", outcome="done", reason="I looked"))
    assert told.execution(settled("done", settled_by="ada")).rules == set()


def test_a_revocation_that_came_too_late_changes_nothing() -> None:
    told = approved().governance(granted()).person("ada", RevokeGrant(grant_id="g")).execution(claimed())
    revoked = GrantRevoked(grant_id="g", executor="ExecutionAgent", actor="ada")
    assert told.governance(revoked).rules == set()


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ("grant.approval", Told().governance(asked(ADMIN)).governance(granted())),
        ("grant.approval", Told().governance(asked(ADMIN)).person("ada", yes(digest="x")).governance(granted())),
        ("grant.approval", approved().governance(granted(approvers=["ned"], approved_by="ned"))),
        ("grant.unasked", Told().person("ada", yes()).governance(granted())),
        ("grant.unasked", approved().governance(granted(target="results.other"))),
        (
            "grant.four_eyes",
            Told().governance(asked(ADMIN)).person("eli", yes()).governance(granted(approvers=["eli"], approved_by="eli")),
        ),
        ("grant.votes", approved(Need(group="admin", count=2)).governance(granted())),
        ("grant.votes", approved(Need(group="admin", count=2)).governance(granted(approvers=["ada", "ada"]))),
        ("grant.approver", Told().governance(asked()).person("ana", yes()).governance(
            granted(approvers=["ana"], approved_by="ana")
        )),
        ("grant.rule", Told().governance(granted(approved_by="policy", approvers=[], rule=""))),
        ("grant.rule", Told().governance(granted(approved_by="policy", approvers=[], policy=""))),
        ("grant.late", approved().governance(granted(issued_at=NOW + HOUR + 1))),
        ("grant.environment", approved().governance(granted(environment="prod"))),
        ("grant.requester", approved().governance(granted(), principal="ana")),
        ("grant.code", approved().governance(granted(code_sha256="00"))),
        ("grant.twice", approved().governance(granted()).governance(granted(target="results.other"))),
        ("approval.own_vote", Told().governance(asked(ADMIN)).person("eli", yes()).governance(
            ApprovalVoted(approval_id="apr", actor="eli", group="admin", remaining=[])
        )),
        ("approval.unsigned", Told().governance(asked(ADMIN)).governance(
            ApprovalVoted(approval_id="apr", actor="ada", group="admin", remaining=[])
        )),
        ("approval.unsigned", Told().governance(asked(ADMIN)).governance(
            ApprovalDecided(approval_id="apr", decision="rejected", actor="ada")
        )),
        ("approval.delegation", Told().governance(asked(ADMIN)).person("ned", yes(for_user="ada")).governance(granted())),
        ("delegation.unasked", Told().governance(
            DelegationChanged(delegation_id="x", from_user="ada", to_user="ned", until=NOW + HOUR), principal="ned"
        )),
        ("execution.without_grant", Told().execution(claimed())),
        ("execution.twice", approved().governance(granted()).execution(claimed()).execution(claimed())),
        ("execution.without_claim", approved().governance(granted()).execution(settled())),
        ("execution.code", approved().governance(granted()).execution(claimed(code="DROP TABLE t"))),
        ("execution.target", approved().governance(granted()).execution(claimed(target="results.other"))),
        ("execution.expired", approved().governance(granted()).execution(claimed(), after=HOUR + CLAIM_TAKES + 1)),
        ("execution.revoked", approved().governance(granted()).person("ada", RevokeGrant(grant_id="g")).governance(
            GrantRevoked(grant_id="g", executor="ExecutionAgent", actor="ada")
        ).execution(claimed())),
        ("execution.two_outcomes", approved().governance(granted()).execution(claimed()).execution(settled()).execution(
            settled("failed")
        )),
        ("revocation.unasked", approved().governance(granted()).governance(
            GrantRevoked(grant_id="g", executor="ExecutionAgent", actor="ada")
        )),
        ("revocation.unknown", Told().person("ada", RevokeGrant(grant_id="g")).governance(
            GrantRevoked(grant_id="g", executor="ExecutionAgent", actor="ada")
        )),
        ("settlement.unasked", approved().governance(granted()).execution(claimed()).execution(
            settled("done", settled_by="ada")
        )),
    ],
)  # fmt: skip
def test_what_does_not_agree_is_named(rule: str, told: Told) -> None:
    assert rule in told.rules

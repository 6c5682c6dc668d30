"""Each effect has a claim, each claim a grant from governance, each grant the signed yes of other people, or a rule's."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jobs.audit.report import AuditReport
from schemas.envelope import USER, Message
from schemas.payloads import Need
from workers.governance.voting import in_words, matched
from workers.ports import Roles, UnknownUser

GOVERNANCE = "GovernanceAgent"
EXECUTION = "ExecutionAgent"
#: Who approved when no person did.
POLICY = "policy"
#: Microseconds that an execution may take from the check of its grant to its claim.
CLAIM_TAKES = 600_000_000

_FINAL = ("done", "failed", "cancelled")
Said = Mapping[str, Any]


@dataclass
class _Approval:
    """`votes`: everybody's newest word, as (person, digest, for whom)."""

    requested: Said | None = None
    votes: list[tuple[str, str, str | None]] = field(default_factory=list)
    no: set[tuple[str, str]] = field(default_factory=set)
    #: The yeses that governance counted, with the groups that it counted them by; releases before this one said none.
    counted: list[Said] = field(default_factory=list)
    escalated: list[Said] = field(default_factory=list)


class Grants:
    """A fold of what governance, execution and people signed, in log order."""

    def __init__(self, roles: Roles, environment: str, report: AuditReport) -> None:
        self._roles = roles
        self._environment = environment
        self._report = report
        self._approvals: dict[str, _Approval] = defaultdict(_Approval)
        self._grants: dict[str, Said] = {}
        self._revoked: dict[str, str] = {}
        self._claims: Counter[str] = Counter()
        self._outcomes: dict[str, str] = {}
        #: What people asked for: (kind, grant, person).
        self._asked: set[tuple[str, str, str]] = set()
        #: (whose right, who has it) -> the time up to which it was lent.
        self._lent: dict[tuple[str, str], int] = {}
        self._steps: dict[tuple[str, str], Callable[[Message, Said], None]] = {
            ("GovernanceAgent", "ApprovalRequested"): self._requested,
            ("GovernanceAgent", "ApprovalEscalated"): self._escalated,
            ("GovernanceAgent", "ApprovalVoted"): self._voted,
            ("GovernanceAgent", "ApprovalDecided"): self._decided,
            ("GovernanceAgent", "DelegationChanged"): self._delegated,
            ("GovernanceAgent", "RunCode"): self._granted,
            ("GovernanceAgent", "ApprovalGranted"): self._granted,
            ("GovernanceAgent", "GrantRevoked"): self._revoke,
            ("ExecutionAgent", "ExecutionClaimed"): self._claimed,
            ("ExecutionAgent", "ExecutionSettled"): self._settled,
        }

    def take(self, message: Message, said: Said) -> None:
        """The next signed row that is no copy of an earlier one."""
        if message.from_agent.startswith(USER):
            self._person(message.kind, message.from_agent.removeprefix(USER), said, message)
        elif (step := self._steps.get((message.from_agent, message.kind))) is not None:
            step(message, said)

    def end(self) -> None:
        """After the last row."""
        for grant_id, count in self._claims.items():
            if count > 1:
                self._report.add("execution.twice", f"grant {grant_id}", f"it was claimed {count} times")
        waiting = self._claims.keys() - self._outcomes.keys()
        if waiting:
            self._report.checked["executions without an outcome"] = len(waiting)

    # --- people ------------------------------------------------------------------------------------------------------

    def _person(self, kind: str, person: str, said: Said, message: Message) -> None:
        if kind == "Decide":
            approval = self._approvals[str(said.get("approval_id"))]
            if said.get("decision") == "approve":
                approval.votes.append((person, str(said.get("digest")), said.get("for_user")))
            else:
                approval.no.add((person, str(said.get("decision"))))
        elif kind in ("RevokeGrant", "CancelExecution", "SettleExecution"):
            self._asked.add((kind, str(said.get("grant_id")), person))

    # --- approvals ---------------------------------------------------------------------------------------------------

    def _requested(self, message: Message, said: Said) -> None:
        approval = self._approvals[str(said.get("approval_id"))]
        if approval.requested is None:
            approval.requested = said

    def _escalated(self, message: Message, said: Said) -> None:
        self._approvals[str(said.get("approval_id"))].escalated += said.get("to") or []

    def _delegated(self, message: Message, said: Said) -> None:
        key = (str(said.get("from_user")), str(said.get("to_user")))
        self._lent[key] = int(said.get("until") or 0)
        # Others may end it: whoever had it, or who may see to it.
        if self._lent[key] > message.timestamp and message.principal != said.get("from_user"):
            what = f"{said.get('from_user')}'s right was lent in a conversation of {message.principal}"
            self._report.add("delegation.unasked", _where(message), what)

    def _voted(self, message: Message, said: Said) -> None:
        """A yes that governance counted, and which is not yet enough."""
        approval = self._approvals[str(said.get("approval_id"))]
        requester = (approval.requested or {}).get("requester", message.principal)
        actor, for_user = said.get("actor"), said.get("for_user")
        if requester in (actor, for_user):
            self._report.add("approval.own_vote", _where(message), f"{requester} voted on their own request")
        if not any(who == actor and vote == for_user for who, _, vote in approval.votes):
            self._report.add("approval.unsigned", _where(message), f"{actor} never signed this yes")
        self._check_lent(message, str(actor), for_user)

    def _decided(self, message: Message, said: Said) -> None:
        self._report.checked["approvals"] += 1
        approval = self._approvals[str(said.get("approval_id"))]
        decision, actor = said.get("decision"), str(said.get("actor"))
        if decision == "approved":
            approval.counted = [vote for vote in said.get("votes") or [] if isinstance(vote, dict)]
        wanted = {"rejected": "reject", "changes_requested": "changes"}.get(str(decision))
        if wanted is not None and (actor, wanted) not in approval.no:
            self._report.add("approval.unsigned", _where(message), f"{actor} never signed this: {decision}")

    def _check_lent(self, message: Message, actor: str, for_user: str | None) -> None:
        if for_user and self._lent.get((for_user, actor), 0) < message.timestamp - CLAIM_TAKES:
            what = f"{actor} decided for {for_user}, who had lent them nothing then"
            self._report.add("approval.delegation", _where(message), what)

    # --- grants ------------------------------------------------------------------------------------------------------

    def _granted(self, message: Message, said: Said) -> None:
        grant = said.get("grant")
        if not isinstance(grant, dict):
            self._report.add("grant.malformed", _where(message), "it holds no grant")
            return
        grant_id = str(grant.get("grant_id"))
        known = self._grants.setdefault(grant_id, grant)
        if known != grant:
            self._report.add("grant.twice", _where(message), f"another grant has the id {grant_id}")
            return
        self._report.checked["grants"] += 1
        if grant.get("environment") not in (None, "", self._environment):
            what = f"it is for {grant['environment']}, and this is {self._environment}"
            self._report.add("grant.environment", _where(message), what)
        if grant.get("requester") != message.principal:
            what = f"it is for {grant.get('requester')}, in a conversation of {message.principal}"
            self._report.add("grant.requester", _where(message), what)
        code = said.get("code")
        if isinstance(code, dict) and _sha256(code.get("text")) != grant.get("code_sha256"):
            self._report.add("grant.code", _where(message), "the code beside it is not the code it is for")
        if grant.get("approved_by") == POLICY:
            self._by_policy(message, grant)
        else:
            self._by_people(message, grant)

    def _by_policy(self, message: Message, grant: Said) -> None:
        if not grant.get("rule") or not grant.get("policy"):
            what = "no person approved it, and it names no rule of a policy that allows it"
            self._report.add("grant.rule", _where(message), what)
        if grant.get("approvers"):
            self._report.add("grant.rule", _where(message), "it says that a policy approved it, and names people")

    def _by_people(self, message: Message, grant: Said) -> None:
        where, requester = _where(message), grant.get("requester")
        approval = self._approvals.get(str(grant.get("approval_id")), _Approval())
        yes = [vote for vote in approval.votes if vote[1] == grant.get("dry_run_digest")]
        approvers = [str(one) for one in grant.get("approvers") or [grant.get("approved_by")]]
        for approver in approvers:
            found = [vote for vote in yes if approver in (vote[0], vote[2])]
            if not found:
                self._report.add("grant.approval", where, f"{approver} never signed an approval of it")
            elif not any(requester not in (actor, for_user) for actor, _, for_user in found):
                self._report.add("grant.four_eyes", where, "requester and approver are one person")
            for actor, _, for_user in found[-1:]:
                self._check_lent(message, actor, for_user)
        if requester in approvers:
            self._report.add("grant.four_eyes", where, "requester and approver are one person")
        if grant.get("approved_by") not in approvers:
            self._report.add("grant.approval", where, f"{grant.get('approved_by')} is not among its approvers")
        asked = approval.requested
        if asked is None:
            self._report.add("grant.unasked", where, f"nobody was asked for approval {grant.get('approval_id')}")
            return
        if (asked.get("digest"), asked.get("target")) != (grant.get("dry_run_digest"), grant.get("target")):
            self._report.add("grant.unasked", where, "people were asked about another dry run or target")
        if int(grant.get("issued_at") or 0) > int(asked.get("expires_at") or 0):
            self._report.add("grant.late", where, "it was issued after the approval had expired")
        needs = asked.get("needs") or []
        if not needs:
            for approver in approvers:
                if not self._roles.allows(approver, "execution.approve"):
                    self._report.add("grant.approver", where, f"{approver}'s role does not allow approving")
        elif approval.counted:
            self._by_groups(where, approval, approvers, yes, needs)
        elif not any(self._enough(approvers, wanted) for wanted in (needs, approval.escalated) if wanted):
            what = f"{len(set(approvers))} approved it ({', '.join(sorted(set(approvers)))}); {_in_words(needs)} are needed"
            self._report.add("grant.votes", where, what)

    def _by_groups(
        self,
        where: str,
        approval: _Approval,
        approvers: Sequence[str],
        yes: Sequence[tuple[str, str, str | None]],
        needs: Sequence[Said],
    ) -> None:
        """Counted as governance counts: each person fills one place of a group that they were in when it was decided."""
        votes = [
            (str(vote.get("actor")), vote.get("for_user"), set(vote.get("groups") or [])) for vote in approval.counted
        ]
        if sorted(actor for actor, _, _ in votes) != sorted(approvers):
            self._report.add("grant.votes", where, "its approvers are not those whose votes were counted")
        for actor, for_user, _ in votes:
            if (actor, for_user) not in ((who, whose) for who, _, whose in yes):
                self._report.add("grant.approval", where, f"{actor} never signed this yes")
        people = [{actor, for_user or actor} for actor, for_user, _ in votes]
        if len(set().union(*people)) != sum(map(len, people)):
            self._report.add("grant.votes", where, "one person's yes was counted twice")
        wanted, anywhere = {need.get("group") for need in needs}, {need.get("group") for need in approval.escalated}
        may_fill = [{str(one) for one in (wanted if groups & anywhere else wanted & groups)} for _, _, groups in votes]
        asked = [Need(group=str(need.get("group")), count=int(need.get("count") or 1)) for need in needs]
        if missing := matched(may_fill, asked).remaining:
            told = ", ".join(f"{actor} ({', '.join(sorted(groups)) or 'no group'})" for actor, _, groups in votes)
            what = f"{told} approved it; {in_words(asked)} are needed, and {in_words(missing)} did not"
            self._report.add("grant.votes", where, what)

    def _enough(self, approvers: Sequence[str], needs: Sequence[Said]) -> bool:
        """Whether there are as many different people as the largest need. Groups may overlap, and the policy that says who
        is in them may have changed since: of roles, which are groups as well, it is known who has them."""
        people = set(approvers)
        return len(people) >= max(int(need.get("count") or 1) for need in needs)

    def _revoke(self, message: Message, said: Said) -> None:
        grant_id, actor = str(said.get("grant_id")), str(said.get("actor"))
        self._report.checked["revocations"] += 1
        if grant_id not in self._grants:
            self._report.add("revocation.unknown", _where(message), f"there is no grant {grant_id}")
        if self._is_person(actor) and ("RevokeGrant", grant_id, actor) not in self._asked:
            self._report.add("revocation.unasked", _where(message), f"{actor} never asked for it")
        if not self._claims[grant_id]:
            self._revoked.setdefault(grant_id, actor)

    # --- executions --------------------------------------------------------------------------------------------------

    def _claimed(self, message: Message, said: Said) -> None:
        grant_id, where = str(said.get("grant_id")), _where(message)
        self._report.checked["executions"] += 1
        self._claims[grant_id] += 1
        grant = self._grants.get(grant_id)
        if grant is None:
            self._report.add("execution.without_grant", where, f"there is no grant {grant_id}")
            return
        if grant_id in self._revoked:
            what = f"{self._revoked[grant_id]} had revoked grant {grant_id} before"
            self._report.add("execution.revoked", where, what)
        if message.timestamp > int(grant.get("expires_at") or 0) + CLAIM_TAKES:
            self._report.add("execution.expired", where, f"grant {grant_id} had expired")
        if _sha256(said.get("code")) != grant.get("code_sha256"):
            self._report.add("execution.code", where, f"grant {grant_id} is for other code")
        if said.get("target") != grant.get("target"):
            self._report.add("execution.target", where, f"grant {grant_id} is for {grant.get('target')}")

    def _settled(self, message: Message, said: Said) -> None:
        grant_id, where, step = str(said.get("grant_id")), _where(message), str(said.get("step"))
        if grant_id not in self._grants:
            self._report.add("execution.without_grant", where, f"there is no grant {grant_id}")
        if self._claims[grant_id] == 0:
            what = f"grant {grant_id} has an outcome and no claim before it"
            self._report.add("execution.without_claim", where, what)
        before = self._outcomes.get(grant_id)
        if before in _FINAL and step in _FINAL and step != before:
            self._report.add(
                "execution.two_outcomes", where, f"grant {grant_id} was {before} already, and is {step} now"
            )
        self._outcomes[grant_id] = step
        settled_by = said.get("settled_by")
        if (
            settled_by
            and self._is_person(settled_by)
            and not {(kind, grant_id, settled_by) for kind in ("SettleExecution", "CancelExecution")} & self._asked
        ):
            self._report.add("settlement.unasked", where, f"{settled_by} never said so")

    def _is_person(self, name: str) -> bool:
        try:
            return bool(self._roles.role_of(name))
        except UnknownUser:
            return False


def _in_words(needs: Sequence[Said]) -> str:
    return ", ".join(f"{need.get('count')} of {need.get('group')}" for need in needs)


def _sha256(text: object) -> str:
    return hashlib.sha256(str(text).encode()).hexdigest()


def _where(message: Message) -> str:
    return f"agent_messages ({message.log_version}, {message.seq}) {message.kind} from {message.from_agent}"

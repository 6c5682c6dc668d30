"""Decisions: a person says yes, no, or what to change; the last yes that was needed is the grant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from schemas.payloads import ApprovalDecided, ApprovalVoted, CountedVote, Decide, DecisionAnswered, Need
from workers.governance.approvals import AUTHORITY, Approval, approvals
from workers.governance.delegations import person
from workers.governance.grants import Issue, issue
from workers.governance.matters import matter_behind
from workers.governance.office import DECIDING, Office
from workers.governance.requests import decided, settled
from workers.governance.voting import Yes, in_words
from workers.runtime.base import Context, Outgoing, Received, event, reply
from workers.runtime.clock import micros


@dataclass(frozen=True)
class _No:
    """Why a decision does not count."""

    rule: str
    reason: str


@dataclass(frozen=True)
class _Vote:
    """A person's decision that may count. `yes`: whose it is."""

    approval: Approval
    yes: Yes

    @property
    def anywhere(self) -> list[Need]:
        """Whoever may decide on anything, because nobody else did in time."""
        return self.approval.escalated.to if self.approval.escalated else []


def decide(office: Office, decision: Decide, message: Received, context: Context) -> list[Outgoing]:
    found = _vote(office, decision, message, context)
    if isinstance(found, _No):
        return _not_counted(office, decision, message, found)
    if _overtaken(office, found.approval, context):
        return _asked_anew(office, decision, message, found, context)
    if decision.decision == "approve":
        return _yes(office, decision, message, found, context)
    return _ended(office, decision, message, found, context)


# --- whether it counts ----------------------------------------------------------------------------------------------


def _vote(office: Office, decision: Decide, message: Received, context: Context) -> _Vote | _No:
    actor, now = person(message), micros(context.now)
    approval = approvals(context.conversation).get(decision.approval_id)
    if not actor:
        return _No("approval.not_a_person", "only a person may decide on an approval")
    if approval is None:
        return _No("approval.unknown", f"there is no approval {decision.approval_id} in this conversation")
    if approval.decided is not None:
        ended = approval.decided
        return _No("approval.decided", f"it was {ended.decision.replace('_', ' ')} already, by {ended.actor}")
    if approval.requested.expires_at < now:
        return _No("approval.expired", "the approval has expired; ask again")
    if approval.requested.digest != decision.digest:
        return _No("approval.digest", "the decision is about another dry run than the one that was asked about")
    vote = _Vote(approval, Yes(actor, decision.for_user or actor))
    return _whose(office, vote, message, now) or _entitled(office, vote) or vote


def _whose(office: Office, vote: _Vote, message: Received, now: int) -> _No | None:
    """Nobody decides on what is their own, in whoever's name; nor does a program."""
    actor, owner, requester = vote.yes.actor, vote.yes.person, vote.approval.requested.requester
    if actor == requester:
        return _No("approval.own_request", f"{actor} asked for this and cannot decide on it; someone else must")
    if owner == requester:
        return _No("approval.own_request", f"{owner} asked for this, so nobody can decide on it in {owner}'s name")
    if office.roles.is_bot(actor) or office.roles.is_bot(owner):
        return _No("approval.bot", "a bot may propose, and never decides")
    lent = office.delegations.as_of(message.message.position)
    asked_at = vote.approval.message.timestamp
    for one in lent:
        if one.from_user == requester and one.to_user in (actor, owner) and one.held(asked_at, now):
            reason = f"{requester}, who asked for this, has lent {one.to_user} the right to decide ({one.id})"
            return _No("approval.requesters_delegate", reason)
    if actor != owner and not any((one.from_user, one.to_user) == (owner, actor) and one.holds(now) for one in lent):
        return _No("delegation.none", f"{owner} has not lent {actor} the right to decide, or its time is over")
    return None


def _entitled(office: Office, vote: _Vote) -> _No | None:
    """By group: a role, or one that the policy names."""
    requested, owner = vote.approval.requested, vote.yes.person
    # What an older release asked names nobody: then the policy of today is asked first.
    if not requested.needs or office.electorate.may_fill(owner, requested.needs, vote.anywhere):
        return None
    wanted = in_words([*requested.needs, *vote.anywhere])
    permission = DECIDING[requested.subject]
    if not office.roles.allows(owner, permission):
        reason = f"{owner}'s role does not allow {permission}, and rule {requested.rule} asks {wanted}"
        return _No(f"rbac.{permission}", reason)
    return _No("approval.group", f"{owner} is not one of those whom rule {requested.rule} asks: {wanted}")


# --- what it does ---------------------------------------------------------------------------------------------------


def _yes(office: Office, decision: Decide, message: Received, vote: _Vote, context: Context) -> list[Outgoing]:
    approval, needs = vote.approval, vote.approval.requested.needs
    before = [Yes(one.actor, one.for_user or one.actor) for one in approval.votes]
    if {vote.yes.actor, vote.yes.person} & {name for yes in before for name in (yes.actor, yes.person)}:
        reason = "one person's yes counts once, whether said or lent"
        return _not_counted(office, decision, message, _No("approval.voted", reason))
    so_far = office.electorate.count(before, needs, vote.anywhere)
    now = office.electorate.count([*before, vote.yes], needs, vote.anywhere)
    if sum(need.count for need in now.remaining) == sum(need.count for need in so_far.remaining):
        reason = f"no further yes of {vote.yes.person}'s groups is needed; still needed: {in_words(now.remaining)}"
        return _not_counted(office, decision, message, _No("approval.enough", reason))
    requested = approval.requested
    facts = _facts(decision, vote.yes)
    reason = f"{vote.yes.actor} may decide on {requested.requester}'s request"
    answer = DecisionAnswered(approval_id=approval.id, accepted=True, rule=requested.rule, reason=reason)
    if now.remaining:
        group = now.filled[-1] or ""
        voted = ApprovalVoted(
            approval_id=approval.id,
            actor=vote.yes.actor,
            group=group,
            remaining=list(now.remaining),
            for_user=decision.for_user,
        )
        still = f"{reason}; still needed: {in_words(now.remaining)}"
        return [
            event(voted),
            office.fact("approval.voted", "allowed", requested.rule, still, group=group, **facts),
            reply(message, answer.model_copy(update={"reason": still})),
        ]
    approvers = tuple(yes.actor for yes in [*before, vote.yes])
    why = Issue(requested.rule, reason, approval, approvers)
    ended = ApprovalDecided(
        approval_id=approval.id,
        decision="approved",
        actor=vote.yes.actor,
        reason=decision.reason,
        actors=list(approvers),
        votes=[_counted(office, yes, [*needs, *vote.anywhere]) for yes in [*before, vote.yes]],
    )
    matter = matter_behind(approval, context.conversation)
    return [event(ended), *issue(office, matter, why, context, **facts), reply(message, answer)]


def _counted(office: Office, yes: Yes, asked: Sequence[Need]) -> CountedVote:
    """For whoever counts again: the policy of a later day may put other people into these groups."""
    groups = office.electorate.groups_of(yes.person) & {need.group for need in asked}
    return CountedVote(actor=yes.actor, for_user=None if yes.person == yes.actor else yes.person, groups=sorted(groups))


def _ended(office: Office, decision: Decide, message: Received, vote: _Vote, context: Context) -> list[Outgoing]:
    """No, or not as it is. What is changed is another request, with a digest and an approval of its own."""
    approval, actor = vote.approval, vote.yes.actor
    if decision.decision == "reject":
        word, rule, told = "rejected", "approval.rejected", f"{actor} rejected it"
    else:
        word, rule, told = (
            "changes_requested",
            "approval.changes",
            f"{actor} asks for changes before it can be approved",
        )
    told += f": {decision.reason}" if decision.reason else ""
    ended = ApprovalDecided(approval_id=approval.id, decision=word, actor=actor, reason=decision.reason, actors=[actor])
    reason = f"{actor} may decide on {approval.requested.requester}'s request"
    answer = DecisionAnswered(approval_id=approval.id, accepted=True, rule=approval.requested.rule, reason=reason)
    return [
        event(ended),
        office.fact(rule, "allowed", approval.requested.rule, reason, **_facts(decision, vote.yes)),
        matter_behind(approval, context.conversation).refuse(rule, told),
        reply(message, answer),
    ]


def _overtaken(office: Office, approval: Approval, context: Context) -> bool:
    """Whether the policy was changed since, and now forbids this or asks others. What it would now allow was asked all the
    same, and people may answer."""
    requested = approval.requested
    if requested.policy == office.policy.digest:
        return False
    now = decided(office, matter_behind(approval, context.conversation), context)
    if now.effect == "allow":
        return False
    asked = (requested.needs, requested.escalates_to)
    return now.approval is None or asked != (list(now.approval.needs), list(now.approval.escalate_to))


def _asked_anew(office: Office, decision: Decide, message: Received, vote: _Vote, context: Context) -> list[Outgoing]:
    """By what holds now: others are asked, or it is forbidden."""
    approval = vote.approval
    reason = "the policy has changed since this was asked; what it says now was done"
    ended = ApprovalDecided(approval_id=approval.id, decision="expired", actor=AUTHORITY, reason=reason)
    no = _No("approval.policy_changed", reason)
    matter = matter_behind(approval, context.conversation)
    return [
        event(ended),
        *_not_counted(office, decision, message, no),
        *settled(office, matter, context, "the policy has changed"),
    ]


def _not_counted(office: Office, decision: Decide, message: Received, no: _No) -> list[Outgoing]:
    actor = person(message)
    facts = _facts(decision, Yes(actor, decision.for_user or actor))
    answer = DecisionAnswered(approval_id=decision.approval_id, accepted=False, rule=no.rule, reason=no.reason)
    return [office.fact("approval.refused", "refused", no.rule, no.reason, **facts), reply(message, answer)]


def _facts(decision: Decide, yes: Yes) -> dict[str, str | None]:
    return {
        "approval_id": decision.approval_id,
        "actor": yes.actor,
        "for_user": None if yes.person == yes.actor else yes.person,
        "vote": decision.decision,
        "said": decision.reason,
    }

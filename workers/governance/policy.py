"""What governance decides without a person: what the policy says of a question."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from zoneinfo import ZoneInfo

from schemas.payloads import EffectPreview, Need, Subject
from schemas.policy import Approval, Drift, Policy, Rule
from workers.governance.conditions import ALL_COLUMNS, Condition, Conditions, Facts, Truth, lost, written

#: The rule that is named when none of the policy's speaks of what was asked.
DEFAULT = "default.deny"

Effect = Literal["allow", "deny", "approve"]


@dataclass(frozen=True)
class Question:
    """What is to be decided. None: not known, or not known yet.

    `reads`: columns by `schema.table`; `{"*"}` stands for all of a table's.
    """

    subject: Subject
    principal: str
    role: str
    environment: str
    now: datetime
    language: str | None = None
    statement_class: str | None = None
    reads: Mapping[str, frozenset[str]] | None = None
    writes: str | None = None
    rows: int | None = None
    bytes: int | None = None
    changes: EffectPreview | None = None
    confidence: float | None = None


@dataclass(frozen=True)
class Decision:
    """`rule` of the policy whose digest is `policy` decided. `approval`: who has to say yes, when that is the effect."""

    effect: Effect
    rule: str
    reason: str
    policy: str
    approval: Approval | None = None


@dataclass(frozen=True)
class Look:
    """How one rule stands to one question. `because`: the conditions that do not hold, or else those that nobody knows of."""

    rule: Rule
    truth: Truth
    because: tuple[Condition, ...]


class PolicyEngine:
    """Decides by a policy; pure, and compiled once.

    Deny wins. Then the first rule in the order of the policy decides, and without one `default.deny`. What is not known
    counts against the request: a rule that denies holds when it might, one that allows only when it surely does, and where
    it depends on the unknown which rule it is, the request must satisfy all that ask for approval.
    """

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.digest = policy.digest
        self._zone = ZoneInfo(policy.timezone)
        rules = [(rule, Conditions(rule.when, self._zone)) for rule in policy.rules]
        self._denies = [(rule, conditions) for rule, conditions in rules if rule.effect == "deny"]
        self._others = [(rule, conditions) for rule, conditions in rules if rule.effect != "deny"]
        self._rules = rules

    @property
    def every_column(self) -> frozenset[str]:
        """What a program reads of a table that it is given: all columns, among them surely those that rules speak of."""
        named = (column.rpartition(".")[2] for rule, _ in self._rules for column in rule.when.columns or ())
        return frozenset({ALL_COLUMNS, *(name.replace("*", "") or "any" for name in named)})

    def before_dry_run(self, question: Question) -> Decision:
        """Denies only what is denied whatever the dry run will say."""
        facts = self._facts(question)
        for rule, conditions in self._denies:
            if conditions.truth(facts) is True:
                return self._decision(rule, rule.reason)
        for rule, conditions in self._others:
            if conditions.truth(facts) is not False:
                return Decision("allow", rule.id, "the policy may let it happen: the dry run will say", self.digest)
        return self._default(question)

    def decide(self, question: Question) -> Decision:
        """With everything that is known after the dry run."""
        facts = self._facts(question)
        for rule, conditions in self._denies:
            truth = conditions.truth(facts)
            if truth is not False:
                return self._decision(rule, rule.reason + _in_doubt(truth, conditions, facts))
        possible: list[tuple[Rule, str]] = []
        for rule, conditions in self._others:
            truth = conditions.truth(facts)
            if truth is True:
                return self._combined(possible, rule)
            if truth is None and rule.effect == "approve":
                possible.append((rule, _in_doubt(truth, conditions, facts)))
        return self._default(question, possible)

    def explain(self, question: Question) -> Sequence[Look]:
        """How every rule stands to it, in the order of the policy."""
        facts = self._facts(question)
        return [Look(rule, conditions.truth(facts), conditions.because(facts)) for rule, conditions in self._rules]

    def _facts(self, question: Question) -> Facts:
        removed, replaced = lost(question.statement_class, question.changes)
        reads = question.reads
        return Facts(
            subject=question.subject,
            principal=question.principal,
            role=question.role,
            environment=question.environment,
            local=question.now.astimezone(self._zone),
            language=question.language,
            statement_class=question.statement_class,
            reads=None if reads is None else _lowered(reads),
            writes=written(question.statement_class, question.writes),
            rows=question.rows,
            bytes=question.bytes,
            removed=removed,
            replaced=replaced,
            confidence=question.confidence,
        )

    def _decision(self, rule: Rule, reason: str) -> Decision:
        return Decision(rule.effect, rule.id, reason, self.digest, rule.approval)

    def _combined(self, possible: Sequence[tuple[Rule, str]], sure: Rule) -> Decision:
        """The rule that surely holds, and those before it that would have decided if we knew more."""
        if not possible:
            return self._decision(sure, sure.reason)
        first, doubt = possible[0]
        asked = [rule.approval for rule, _ in possible] + [sure.approval]
        approval = _strictest([approval for approval in asked if approval is not None])
        return Decision("approve", first.id, first.reason + doubt, self.digest, approval)

    def _default(self, question: Question, possible: Sequence[tuple[Rule, str]] = ()) -> Decision:
        what = question.subject if question.subject != "execution" else _statement(question)
        reason = f"no rule of the policy lets {question.principal} ({question.role}) have {what} done"
        if possible:
            rule, doubt = possible[0]
            reason += f"; {rule.id} might ask for approval{doubt}"
        return Decision("deny", DEFAULT, reason, self.digest)


def _lowered(reads: Mapping[str, frozenset[str]]) -> dict[str, frozenset[str]]:
    """Two spellings of a table are one, with the columns of both."""
    found: dict[str, frozenset[str]] = {}
    for table, columns in reads.items():
        found[table.lower()] = found.get(table.lower(), frozenset()) | frozenset(map(str.lower, columns))
    return found


def _statement(question: Question) -> str:
    said = " ".join(word for word in (question.statement_class, question.language) if word)
    where = f" on {question.writes}" if question.writes else ""
    return f"{'an' if said[:1] in 'aeiou' and said else 'a'} {said + ' ' if said else ''}statement{where}"


def _in_doubt(truth: Truth, conditions: Conditions, facts: Facts) -> str:
    if truth is not None:
        return ""
    unknown = ", ".join(dict.fromkeys(condition.fact for condition in conditions.because(facts)))
    return f" (not known, and so counted against it: {unknown})"


def _strictest(approvals: Sequence[Approval]) -> Approval:
    """One that satisfies all of these."""
    if len(approvals) == 1:
        return approvals[0]
    counts: dict[str, int] = {}
    for need in (need for approval in approvals for need in approval.needs):
        counts[need.group] = max(need.count, counts.get(need.group, 0))
    alike = len({(approval.escalate_after_s, approval.escalate_to) for approval in approvals}) == 1
    reminders = [approval.remind_after_s for approval in approvals if approval.remind_after_s is not None]
    expires = _least(approvals, lambda approval: approval.expires_after_s)
    return Approval(
        needs=tuple(Need(group=group, count=count) for group, count in counts.items()),
        remind_after_s=min((after for after in reminders if after < expires), default=None),
        # Whoever may decide after some time by one rule may not by the other.
        escalate_after_s=approvals[0].escalate_after_s if alike else None,
        escalate_to=approvals[0].escalate_to if alike else (),
        expires_after_s=expires,
        grant_ttl_s=_least(approvals, lambda approval: approval.grant_ttl_s),
        drift=Drift(table_versions=min(approval.drift.table_versions for approval in approvals)),
    )


def _least(approvals: Iterable[Approval], value: Callable[[Approval], float]) -> float:
    return min(map(value, approvals))

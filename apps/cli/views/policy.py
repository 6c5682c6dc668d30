"""A policy: its rules, what is wrong with it, why it decides as it does, and what it would have decided."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from apps.cli.terminal import Terminal, counted
from apps.cli.views.archived import discarded, from_archive
from apps.cli.views.rows import plain_table
from apps.cli.views.safe import safe
from schemas.payloads import Need
from schemas.policy import Approval, Rule
from workers.governance.conditions import Condition
from workers.governance.policy import DEFAULT, Decision, Look, Question

if TYPE_CHECKING:
    from jobs.policies import LoadedPolicy
    from jobs.policy_trial import Outcome, Trial, TrialReport
    from jobs.policy_trial import Progress as Told

_EFFECTS = {"allow": "good", "approve": "warn", "deny": "bad", "tried": "quiet", "nothing": "quiet"}
_SECONDS_OF_TIME = re.compile(r"^(\d\d:\d\d):00$")
_SECONDS = ((86_400, "d"), (3_600, "h"), (60, "min"))


# --- check and show --------------------------------------------------------------------------------------------------


def problems(found: Sequence[str]) -> RenderableType:
    parts: list[RenderableType] = [
        Text(f"{counted(len(found), 'problem')}: the policy cannot be used", style="bad"),
        "",
    ]
    parts += [_bullet("✗", "bad", one) for one in found]
    return Group(*parts)


def checked(loaded: LoadedPolicy) -> RenderableType:
    parts: list[RenderableType] = [_headline(loaded)]
    if loaded.warnings:
        parts += ["", *(_bullet("!", "warn", one) for one in loaded.warnings)]
    verdict = (
        "it can be used"
        if not loaded.warnings
        else f"it can be used; {counted(len(loaded.warnings), 'thing')} to know of"
    )
    return Group(*parts, "", Text(verdict, style="good"))


def rules(loaded: LoadedPolicy) -> RenderableType:
    """In the order in which they count: what denies first."""
    table = plain_table("", "rule", "when", "who says yes")
    denying = [rule for rule in loaded.policy.rules if rule.effect == "deny"]
    others = [rule for rule in loaded.policy.rules if rule.effect != "deny"]
    for rule in (*denying, *others):
        name = Text.assemble(safe(rule.id), "\n", (safe(rule.reason), "quiet"))
        table.add_row(_effect(rule.effect), name, _when(rule), _approval(rule.approval))
    table.add_row(_effect("deny"), Text(DEFAULT), Text("anything else", style="quiet"), "")
    parts: list[RenderableType] = [_headline(loaded), "", table]
    if loaded.policy.groups:
        parts += ["", _groups(loaded.policy.groups)]
    return Group(*parts)


def _headline(loaded: LoadedPolicy) -> RenderableType:
    return Group(
        Text.assemble(
            (counted(len(loaded.policy.rules), "rule"), "title"),
            (" from ", "quiet"),
            ", ".join(map(safe, loaded.files)),
        ),
        Text.assemble(
            ("digest ", "quiet"), loaded.policy.digest, ("  times in ", "quiet"), safe(loaded.policy.timezone)
        ),
    )


def _groups(groups: Mapping[str, Sequence[str]]) -> Table:
    table = plain_table("group", "people")
    for group, people in sorted(groups.items()):
        table.add_row(safe(group), Text(", ".join(map(safe, people)) or "nobody", style="person" if people else "bad"))
    return table


def _bullet(mark: str, style: str, text: str) -> Table:
    grid = Table.grid(padding=(0, 1))
    grid.add_row(Text(mark, style=style), Text(safe(text)))
    return grid


def _effect(effect: str) -> Text:
    return Text(effect, style=_EFFECTS.get(effect, ""))


def _when(rule: Rule) -> Text:
    said = rule.when.model_dump(mode="json", exclude_none=True)
    text = Text()
    for name, wanted in said.items():
        if text:
            text.append("\n")
        text.append(f"{name} ", style="quiet")
        text.append(safe(_plain(wanted)))
    return text or Text("always", style="quiet")


def _approval(approval: Approval | None) -> Text:
    if approval is None:
        return Text("")
    text = Text(needs_in_words(approval.needs))
    later = [f"expires after {_span(approval.expires_after_s)}"]
    if approval.remind_after_s is not None:
        later.insert(0, f"reminds after {_span(approval.remind_after_s)}")
    if approval.escalate_after_s is not None:
        who = needs_in_words(approval.escalate_to)
        later.insert(-1, f"after {_span(approval.escalate_after_s)} also {who}")
    text.append("\n" + "\n".join(later), style="quiet")
    return text


def needs_in_words(needs: Sequence[Need]) -> str:
    return " and ".join(f"{need.count} of {safe(need.group)}" for need in needs) or "nobody"


def _span(seconds: float) -> str:
    for size, unit in _SECONDS:
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g} {unit}"
    return f"{seconds:g} s"


def _plain(wanted: Any) -> str:
    if isinstance(wanted, list | tuple):
        return ", ".join(map(str, wanted))
    return f"{wanted:,}" if isinstance(wanted, int) else _SECONDS_OF_TIME.sub(r"\1", str(wanted))


# --- explain ---------------------------------------------------------------------------------------------------------


def explanation(question: Question, decision: Decision, looks: Sequence[Look]) -> RenderableType:
    table = plain_table("", "", "rule", "why")
    denying = [look for look in looks if look.rule.effect == "deny"]
    for look in (*denying, *(look for look in looks if look.rule.effect != "deny")):
        decides = look.rule.id == decision.rule
        mark = Text("→", style="title") if decides else Text("")
        name = Text(safe(look.rule.id), style="title" if decides else "" if look.truth is not False else "quiet")
        table.add_row(mark, _effect(look.rule.effect), name, _why(look, question))
    if decision.rule == DEFAULT:
        table.add_row(
            Text("→", style="title"), _effect("deny"), Text(DEFAULT, style="title"), Text("no other rule decides")
        )
    head = Text.assemble(_effect(decision.effect), (" by ", "quiet"), (safe(decision.rule), "title"), (": ", "quiet"))
    head.append(safe(decision.reason))
    parts: list[RenderableType] = [head]
    if decision.approval is not None:
        parts.append(Text.assemble(("who says yes: ", "quiet"), needs_in_words(decision.approval.needs)))
    parts += ["", table, "", Text(f"policy {decision.policy}", style="quiet")]
    return Group(*parts)


def _why(look: Look, question: Question) -> Text:
    if look.truth is True:
        return Text("all conditions hold")
    text = Text()
    for condition in look.because:
        if text:
            text.append("\n")
        text.append(f"{condition.name} {safe(_plain(condition.wanted))}", style="quiet")
        if look.truth is None:
            are = "are" if condition.fact.split()[0] in _SEVERAL else "is"
            text.append(f": the {condition.fact} {are} not known", style="warn")
        else:
            text.append(f": {safe(_found(condition, question))}")
    return text


def _found(condition: Condition, question: Question) -> str:
    """What the question says of it."""
    if question.subject != "execution" and condition.name not in _OF_ALL:
        return f"a {question.subject} has none"
    match condition.fact:
        case "tables read":
            return f"it reads {', '.join(sorted(question.reads or ())) or 'nothing'}"
        case "columns read":
            reads = question.reads or {}
            named = [f"{table}.{column}" for table, columns in sorted(reads.items()) for column in sorted(columns)]
            return f"it reads {', '.join(named) or 'nothing'}"
        case "table written":
            return f"it writes {question.writes or 'nothing'}"
        case "rows removed" | "rows replaced":
            effect = question.changes
            removed = (effect.removed or 0) if effect else 0
            changed = (effect.changed or 0) if effect else 0
            return f"{removed if condition.fact == 'rows removed' else removed + changed:,}"
        case "class":
            return f"it is {question.statement_class}"
        case "time":
            return f"it is {question.now:%a %H:%M %Z}"
        case fact:
            return f"it is {getattr(question, fact)}"


_SEVERAL = ("rows", "bytes", "tables", "columns")
#: Conditions that hold, or do not, whatever is asked for.
_OF_ALL = frozenset(
    {
        "subject",
        "roles",
        "principals",
        "environments",
        "not_before, not_after",
        "weekdays",
        "confidence_below",
        "confidence_at_least",
    }
)


# --- test ------------------------------------------------------------------------------------------------------------

_VERDICTS = {"stricter": "warn", "looser": "bad", "other_people": "warn", "same": "good"}


@contextmanager
def trying(terminal: Terminal) -> Iterator[Told]:
    """A bar on a terminal, elsewhere one line."""
    console = terminal.err
    if not console.is_terminal:
        terminal.say("… deciding again what was decided")
        yield lambda done, total: None
        return
    columns = (TextColumn("deciding"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def trial_report(report: TrialReport, limit: int) -> RenderableType:
    gone = discarded(report.discarded_to)
    if not report.trials:
        return Group(Text("governance decided nothing in that span: nothing to compare", style="quiet"), *gone)
    head = Text(f"{counted(len(report.trials), 'request')} decided again", style="title")
    head.append(from_archive(report.from_archive, len(report.trials)))
    for verdict, count in sorted(report.verdicts.items()):
        head.append(" · ", style="quiet")
        head.append(f"{count:,} {verdict.replace('_', ' ')}", style=_VERDICTS[verdict])
    below = Text(f"policy {report.digest}; roles and groups are today's", style="quiet")
    if not report.changes:
        return Group(head, *gone, below)
    table = plain_table("asked", "who", "what", "then", "now")
    for trial in report.changes[:limit]:
        table.add_row(
            f"{trial.at:%m-%d %H:%M}",
            Text(safe(trial.principal), style="person"),
            _what(trial),
            _then(trial),
            _now(trial.now),
        )
    parts: list[RenderableType] = [head, *gone, "", table]
    left = len(report.changes) - limit
    if left > 0:
        parts.append(Text(f"and {left:,} more: --limit shows more of them", style="quiet"))
    return Group(*parts, "", below)


def _what(trial: Trial) -> Text:
    kind = trial.statement or trial.subject
    where = f"tailrace trace {trial.correlation_id[:8]}"
    return Text.assemble(safe(kind), "\n", (safe(trial.question), "quiet"), "\n", (safe(where), "command"))


def _then(trial: Trial) -> Text:
    text = _outcome(trial.then)
    if trial.people:
        text.append(f"\n{safe(trial.people)}", style="quiet")
    return text


def _now(outcome: Outcome) -> Text:
    text = _outcome(outcome)
    if outcome.reason:
        text.append(f"\n{safe(outcome.reason)}", style="quiet")
    return text


def _outcome(outcome: Outcome) -> Text:
    text = Text(outcome.effect, style=_EFFECTS[outcome.effect])
    if outcome.rule:
        text.append(f" {safe(outcome.rule)}", style="default")
    if outcome.needs:
        text.append(f"\n{needs_in_words(outcome.needs)}", style="quiet")
    return text

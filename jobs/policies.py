"""The policy that is in force: the files of `config/policies`, validated, merged, and held against who there is."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from config import files
from config.files import ConfigError
from config.roles import Roles
from schemas.policy import Approval, Policy, Rule, When
from workers.governance.office import AGENT_ROLE

FOLDER = "policies"


class BadPolicy(ConfigError):
    """A policy cannot be used. `problems`: one line for each thing that is wrong, with file, rule, field and remedy."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(problems))


@dataclass(frozen=True)
class LoadedPolicy:
    """`files`: what was read, in the order in which it counts. `warnings`: what is no error, and hardly meant."""

    policy: Policy
    files: tuple[str, ...]
    file_of: Mapping[str, str]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class _Source:
    """`name` as messages show it."""

    name: str
    text: str


def load_policy(roles: Roles, place: Path | None = None) -> LoadedPolicy:
    """The configured policy, or the one in a file or folder. Raises BadPolicy with everything that is wrong."""
    sources = _configured() if place is None else _at(place)
    problems: list[str] = []
    parts: list[tuple[_Source, Policy]] = []
    for source in sources:
        try:
            parts.append((source, _parsed(source)))
        except BadPolicy as error:
            problems += error.problems
    problems += _between_files(parts)
    if problems:
        raise BadPolicy(problems)
    policy = Policy(
        version=1,
        timezone=next((part.timezone for _, part in parts if "timezone" in part.model_fields_set), "UTC"),
        groups={name: members for _, part in parts for name, members in part.groups.items()},
        rules=tuple(rule for _, part in parts for rule in part.rules),
    )
    file_of = {rule.id: source.name for source, part in parts for rule in part.rules}
    group_file = {group: source.name for source, part in parts for group in part.groups}
    check = _AgainstPeople(policy, roles, file_of, group_file)
    if wrong := list(check.problems()):
        raise BadPolicy(wrong)
    # From here on a group is people, and the digest covers who they are.
    policy = policy.model_copy(
        update={"groups": {group: tuple(sorted(check.members(group))) for group in policy.groups}}
    )
    return LoadedPolicy(policy, tuple(source.name for source in sources), file_of, tuple(check.warnings()))


def _configured() -> list[_Source]:
    names = [f"{FOLDER}/{name}" for name in files.names(FOLDER) if name.endswith((".yaml", ".yml"))]
    return [_Source(files.where(name), files.text(name)) for name in names]


def _at(place: Path) -> list[_Source]:
    if place.is_dir():
        found = sorted(path for path in place.iterdir() if path.suffix in (".yaml", ".yml") and path.is_file())
        if not found:
            raise BadPolicy([f"{place}: there is no policy in this folder; its files are called *.yaml"])
    elif place.is_file():
        found = [place]
    else:
        raise BadPolicy([f"{place}: there is no such file or folder"])
    try:
        return [_Source(str(path), path.read_text(encoding="utf-8")) for path in found]
    except UnicodeDecodeError as error:
        raise BadPolicy([f"{place}: it is not text in UTF-8: {error}"]) from error


# --- one file --------------------------------------------------------------------------------------------------------


def _parsed(source: _Source) -> Policy:
    try:
        document = files.parse(source.text)
    except (yaml.YAMLError, RecursionError) as error:
        raise BadPolicy([f"{source.name}: it is not YAML: {error}"]) from error
    if not isinstance(document, dict):
        raise BadPolicy([f"{source.name}: expected `version: 1` and a list of `rules`"])
    try:
        return Policy.model_validate(document)
    except ValidationError as error:
        raise BadPolicy([_explain(source.name, document, problem) for problem in error.errors()]) from error


def _explain(name: str, document: Mapping[str, Any], problem: Any) -> str:
    """One problem that pydantic found: file, rule, field, what is wrong, what would be right."""
    place = [str(part) for part in problem["loc"]]
    said = str(problem["msg"]).removeprefix("Value error, ")
    words = [name]
    if len(place) > 1 and place[0] == "rules" and place[1].isdigit():
        words.append(_rule_name(document, int(place[1])))
        place = place[2:]
    if problem["type"] == "extra_forbidden":
        *above, field = place
        where = ".".join(above)
        known = _fields(above)
        close = difflib.get_close_matches(field, known, n=1)
        guess = f" (did you mean {close[0]}?)" if close else ""
        said = f"there is no {field}{guess}; known are {', '.join(known)}"
        place = [where] if where else []
    elif problem["type"] == "missing":
        said = "it is missing"
    elif isinstance(problem["input"], str | int | float | bool) and repr(problem["input"]) not in said:
        said = f"{problem['input']!r} will not do: {said[0].lower()}{said[1:]}"
    if place:
        words.append(".".join(place))
    return ": ".join([*words, said])


def _rule_name(document: Mapping[str, Any], number: int) -> str:
    rules = document["rules"]
    rule = rules[number] if isinstance(rules, list | tuple) else None
    name = rule.get("id") if isinstance(rule, dict) else None
    return f"rule {name}" if isinstance(name, str) else f"rule number {number + 1}"


def _fields(place: Sequence[str]) -> list[str]:
    """What may stand at this place of a rule, or of the file."""
    if "needs" in place or "escalate_to" in place:
        return ["group", "count"]
    models = {"when": When, "approval": Approval}
    model = models.get(place[-1]) if place else None
    if model is None:
        return sorted({*Policy.model_fields, *Rule.model_fields} - {"id"}) if not place else ["table_versions"]
    return sorted(model.model_fields)


# --- several files ---------------------------------------------------------------------------------------------------


def _between_files(parts: Sequence[tuple[_Source, Policy]]) -> Iterator[str]:
    rules: dict[str, str] = {}
    groups: dict[str, str] = {}
    zones: dict[str, str] = {}
    for source, part in parts:
        for rule in part.rules:
            if (other := rules.setdefault(rule.id, source.name)) != source.name:
                yield (
                    f"{source.name}: rule {rule.id}: {other} has a rule of that name already; every decision names one "
                    "rule, so give this one a name of its own"
                )
        for group in part.groups:
            if (other := groups.setdefault(group, source.name)) != source.name:
                yield f"{source.name}: groups.{group}: {other} has that group already; say who belongs to it in one place"
        if "timezone" in part.model_fields_set:
            zones.setdefault(part.timezone, source.name)
    if len(zones) > 1:
        (first, where), (second, elsewhere), *_ = zones.items()
        yield f"{elsewhere}: timezone: {second} here and {first} in {where}; a policy has one"


# --- who there is ----------------------------------------------------------------------------------------------------


class _AgainstPeople:
    """Holds a policy against the configured roles and users."""

    def __init__(self, policy: Policy, roles: Roles, file_of: Mapping[str, str], group_file: Mapping[str, str]) -> None:
        self._policy = policy
        self._roles = roles
        self._file_of = file_of
        self._group_file = group_file

    def problems(self) -> Iterator[str]:
        known = [*self._roles.roles, *self._roles.users]
        for group, members in self._policy.groups.items():
            where = f"{self._group_file[group]}: groups.{group}"
            if group in known:
                yield f"{where}: that is the name of a role or of a person; call the group something else"
            for member in members:
                if member not in known:
                    there = ", ".join(sorted(known))
                    yield f"{where}: {member} is no role and nobody's name{_guess(member, known)}; known are {there}"
        for rule in self._policy.rules:
            where = f"{self._file_of[rule.id]}: rule {rule.id}"
            yield from self._unknown(where, "when.roles", rule.when.roles or (), [*self._roles.roles, AGENT_ROLE])
            yield from self._unknown(where, "when.principals", rule.when.principals or (), self._roles.users)
            if rule.approval is None:
                continue
            for field in ("needs", "escalate_to"):
                for need in getattr(rule.approval, field):
                    yield from self._need(f"{where}: approval.{field}", need.group, need.count)

    def warnings(self) -> Iterator[str]:
        for rule in self._policy.rules:
            where = f"{self._file_of[rule.id]}: rule {rule.id}"
            if rule.effect != "deny" and rule.when.subject is None:
                yield (
                    f"{where}: when.subject is left out, so it speaks of retrainings, promotions and documents as well; "
                    "say `subject: [execution]` if that is not meant"
                )
            if rule.effect == "deny" and rule.when == When():
                yield f"{where}: it has no condition, so everything is denied"
            if rule.approval is not None:
                yield from self._nobody_left(where, rule)

    def _unknown(self, where: str, field: str, named: Iterable[str], known: Iterable[str]) -> Iterator[str]:
        there = sorted(known)
        for name in named:
            if name not in there:
                yield f"{where}: {field}: there is no {name}{_guess(name, there)}; known are {', '.join(there)}"

    def _need(self, where: str, group: str, count: int) -> Iterator[str]:
        groups = sorted([*self._policy.groups, *self._roles.roles])
        if group not in groups:
            yield f"{where}: there is no group or role {group}{_guess(group, groups)}; known are {', '.join(groups)}"
            return
        people = self.members(group)
        if len(people) < count:
            yield (
                f"{where}: {count} of {group} have to say yes and only {len(people)} belong to it ({_named(people)}); "
                "lower the count, or give somebody that role"
            )

    def _nobody_left(self, where: str, rule: Rule) -> Iterator[str]:
        """Whoever asks is not among those who say yes; then enough of them must be left."""
        assert rule.approval is not None
        for need in rule.approval.needs:
            people = self.members(need.group)
            askers = sorted(user for user in people if self._may_ask(user, rule))
            if len(people) == need.count and askers and not self._rescued(rule):
                yield (
                    f"{where}: approval.needs: when {_named(askers)} asks, {need.count} of {need.group} cannot say yes: "
                    "whoever asks does not count"
                )

    def _rescued(self, rule: Rule) -> bool:
        return rule.approval is not None and bool(rule.approval.escalate_to)

    def _may_ask(self, user: str, rule: Rule) -> bool:
        when = rule.when
        by_role = when.roles is None or self._roles.users[user] in when.roles
        return by_role and (when.principals is None or user in when.principals)

    def members(self, group: str) -> set[str]:
        """A program belongs to none: it may propose, and never approves."""
        named = {group, *self._policy.groups.get(group, ())}
        return {
            user
            for user, role in self._roles.users.items()
            if (user in named or role in named) and not self._roles.is_bot(user)
        }


def _named(people: Iterable[str]) -> str:
    return ", ".join(sorted(people)) or "nobody"


def _guess(word: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f" (did you mean {close[0]}?)" if close else ""

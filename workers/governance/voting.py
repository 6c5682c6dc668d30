"""Who may say yes to what, and what is still needed: n of m people, each of whom counts once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from schemas.payloads import Need
from workers.ports import Roles, UnknownUser


@dataclass(frozen=True)
class Yes:
    """One person's yes: `actor` signed it, `person` is whose right it is (another one, by delegation)."""

    actor: str
    person: str


@dataclass(frozen=True)
class Count:
    """`remaining`: what nobody has filled yet. `filled`: for which group each yes counts, in the order of the yeses."""

    remaining: tuple[Need, ...]
    filled: tuple[str | None, ...]


class Electorate:
    """Who belongs to which group: a role is a group, and a policy names others, of people and of roles."""

    def __init__(self, roles: Roles, groups: Mapping[str, Sequence[str]]) -> None:
        self._roles = roles
        self._groups = groups

    def groups_of(self, person: str) -> frozenset[str]:
        try:
            known = {person, self._roles.role_of(person)}
        except UnknownUser:  # who has lost the role has lost the groups as well
            return frozenset()
        named = {group for group, members in self._groups.items() if not known.isdisjoint(members)}
        return frozenset(named | known - {person})

    def may_fill(self, person: str, needs: Sequence[Need], anywhere: Sequence[Need] = ()) -> frozenset[str]:
        """The groups among `needs` for which this person's yes may count. Whoever is of `anywhere` counts for any."""
        groups = self.groups_of(person)
        wanted = frozenset(need.group for need in needs)
        return wanted if any(need.group in groups for need in anywhere) else wanted & groups

    def count(self, yeses: Sequence[Yes], needs: Sequence[Need], anywhere: Sequence[Need] = ()) -> Count:
        """As many needs as these can fill together, each with one: a person of two groups never blocks a place that another
        could not take."""
        return matched([self.may_fill(yes.person, needs, anywhere) for yes in yeses], needs)


def matched(may_fill: Sequence[Set[str]], needs: Sequence[Need]) -> Count:
    """The largest matching of people to places. Earlier people keep a place, though perhaps another one."""
    places = [need.group for need in needs for _ in range(min(need.count, len(may_fill)))]
    holder: dict[int, int] = {}

    def seat(who: int, tried: set[int]) -> bool:
        for place, group in enumerate(places):
            if group in may_fill[who] and place not in tried:
                tried.add(place)
                if place not in holder or seat(holder[place], tried):
                    holder[place] = who
                    return True
        return False

    for who in range(len(may_fill)):
        seat(who, set())
    taken = Counter(places[place] for place in holder)
    filled = {who: places[place] for place, who in holder.items()}
    left: list[Need] = []
    for need in needs:
        here = min(need.count, taken[need.group])
        taken[need.group] -= here
        if need.count > here:
            left.append(Need(group=need.group, count=need.count - here))
    return Count(tuple(left), tuple(filled.get(who) for who in range(len(may_fill))))


def in_words(needs: Sequence[Need]) -> str:
    """`2 of admin and 1 of finance`."""
    return " and ".join(f"{need.count} of {need.group}" for need in needs) or "nobody"

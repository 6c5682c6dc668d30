"""n of m: whoever may fill what, no order of votes blocks a place that another could take."""

from __future__ import annotations

from itertools import combinations, pairwise

from hypothesis import given
from hypothesis import strategies as st

from schemas.payloads import Need
from tests.fakes import FixedRoles
from workers.governance.voting import Electorate, Yes, in_words, matched

GROUPS = ("a", "b", "c")
people = st.lists(st.sets(st.sampled_from(GROUPS)), max_size=5)
wanted = st.dictionaries(st.sampled_from(GROUPS), st.integers(1, 3), min_size=1).map(
    lambda counts: [Need(group=group, count=count) for group, count in counts.items()]
)


def most(may_fill: list[set[str]], needs: list[Need]) -> int:
    """By trying everything: the most places that these people can fill together."""
    places = [need.group for need in needs for _ in range(need.count)]

    def fill(who: int, free: tuple[str, ...]) -> int:
        if who == len(may_fill):
            return 0
        best = fill(who + 1, free)
        for at, group in enumerate(free):
            if group in may_fill[who]:
                best = max(best, 1 + fill(who + 1, free[:at] + free[at + 1 :]))
        return best

    return fill(0, tuple(places))


@given(people, wanted)
def test_as_many_places_are_filled_as_can_be(may_fill: list[set[str]], needs: list[Need]) -> None:
    count = matched(may_fill, needs)
    places = sum(need.count for need in needs)
    assert places - sum(need.count for need in count.remaining) == most(may_fill, needs)
    # Each person fills one place, of a group they are of.
    assert all(group is None or group in may_fill[who] for who, group in enumerate(count.filled))
    for need in needs:
        left = next((one.count for one in count.remaining if one.group == need.group), 0)
        assert count.filled.count(need.group) + left == need.count


@given(people, wanted)
def test_one_more_person_never_makes_more_needed(may_fill: list[set[str]], needs: list[Need]) -> None:
    needed = [sum(n.count for n in matched(may_fill[:upto], needs).remaining) for upto in range(len(may_fill) + 1)]
    assert all(after in (before, before - 1) for before, after in pairwise(needed))


@given(people, wanted)
def test_the_order_of_votes_does_not_matter(may_fill: list[set[str]], needs: list[Need]) -> None:
    def left(order: list[set[str]]) -> int:
        return sum(need.count for need in matched(order, needs).remaining)

    assert left(may_fill) == left(may_fill[::-1])
    assert all(left([*may_fill[i + 1 :], *may_fill[: i + 1]]) == left(may_fill) for i in range(len(may_fill)))
    assert all(left(list(some)) >= left(may_fill) for some in combinations(may_fill, max(0, len(may_fill) - 1)))


def test_a_group_has_people_and_roles() -> None:
    electorate = Electorate(FixedRoles(), {"finance": ["kim", "zoe"], "engineers": ["data_engineer"]})
    assert electorate.groups_of("kim") == {"knowledge_curator", "finance"}
    assert electorate.groups_of("eli") == {"data_engineer", "engineers"}
    assert electorate.groups_of("zoe") == frozenset(), "who has no role has no group, though a policy still names them"
    needs = [Need(group="admin", count=1), Need(group="finance", count=1)]
    assert electorate.may_fill("eli", needs) == frozenset()
    assert electorate.may_fill("eli", needs, [Need(group="engineers", count=1)]) == {"admin", "finance"}
    count = electorate.count([Yes("ada", "ada"), Yes("eli", "kim")], needs)
    assert (count.remaining, count.filled) == ((), ("admin", "finance"))
    assert in_words(needs) == "1 of admin and 1 of finance"

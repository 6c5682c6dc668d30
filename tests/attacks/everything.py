"""The whole table: every class puts its attacks into it when it is imported."""

from __future__ import annotations

from collections import defaultdict

from tests.attacks import (  # noqa: F401  # importing them is what fills the table
    adversarial,
    false_principals,
    forged_approvals,
    grants,
    injections,
    poisoned_logs,
    python_escapes,
    races,
    second_names,
    sql_smuggling,
)
from tests.attacks.table import ATTACKS, CLASSES, Attack


def by_class() -> dict[str, list[Attack]]:
    """In the order of the classes, and within each in that of the table."""
    found: defaultdict[str, list[Attack]] = defaultdict(list)
    for one in ATTACKS:
        found[one.attack_class].append(one)
    return {name: found[name] for name in CLASSES}

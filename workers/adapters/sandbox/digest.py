"""The digest of a dry run: one hash over what was asked, what it would read, and how it would be computed."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence

DIALECT = "spark"

#: Numbers that Spark hands out anew in each session: expression ids, plan ids, subquery ids, relation ids of CTEs.
_NOISE = (
    (re.compile(r"#\d+L?"), "#"),
    (re.compile(r"plan_id=\d+"), "plan_id="),
    (re.compile(r"\[id=#?\d*\]"), "[id=]"),
    (re.compile(r"@[0-9a-f]{4,16}\b"), "@"),
    (re.compile(r"[ \t]+\n"), "\n"),
)


def normalised(plan: str, home: str) -> str:
    """The plan without what differs between two sessions on the same tables."""
    plan = plan.replace(home.rstrip("/"), "<home>")
    for pattern, replacement in _NOISE:
        plan = pattern.sub(replacement, plan)
    return plan.strip()


def digest(sql: str, target: str | None, versions: Mapping[str, int], columns: Sequence[str], plan: str) -> str:
    """sha256 over canonical JSON; `plan` must be normalised, `columns` are `name type`."""
    facts = {
        "code_sha256": hashlib.sha256(sql.encode()).hexdigest(),
        "dialect": DIALECT,
        "target": target,
        "table_versions": dict(versions),
        "columns": list(columns),
        "plan": plan,
    }
    canonical = json.dumps(facts, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()

"""The report of a bundle as one page that a person can read: no network, no script, everything escaped."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

import duckdb
from jinja2 import Environment, StrictUndefined

from jobs.audit.anchors import Anchor
from jobs.audit.report import AuditReport

#: Conversations that the page shows step by step, those with an approval or a refusal first; all are in the Parquet files.
CONVERSATIONS = 200
#: Rows of each table of the page, and characters of a text.
ROWS, TEXT = 500, 4_000

_STEPS = """
SELECT m.correlation_id, m.timestamp, m.from_agent, m.to_agent, m.message_type, m.kind, m.content, m.log_version, m.seq, m.key_id
FROM valid_messages m WHERE m.message_type <> 'receipt' AND m.correlation_id IN (SELECT unnest($1)) ORDER BY m.place
"""
_SHOWN = """
SELECT c.*, coalesce(g.steps, 0) AS governed FROM conversations c
LEFT JOIN (SELECT correlation_id, count(*) AS steps FROM valid_messages
  WHERE kind IN ('ApprovalRequested', 'RunCode', 'Refused', 'RequestApproval') GROUP BY correlation_id) g
  ON g.correlation_id = c.correlation_id
WHERE c.kind NOT IN ('InstanceChanged', 'AuditRecorded')
ORDER BY (governed > 0) DESC, c.began_at DESC LIMIT $1
"""


def report_html(
    database: duckdb.DuckDBPyConnection, bundle: Mapping[str, Any], report: AuditReport, anchors: Sequence[str]
) -> str:
    """`database`: with the views of auditors over the rows of the bundle. `report`: of the whole log."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"moment": _moment, "shown": _shown, "short": lambda text: str(text)[:12]}
    page = environment.from_string((files("jobs.audit") / "report.html").read_text())

    def rows(query: str, *values: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = database.sql(query, params=list(values)).to_arrow_table().to_pylist()
        return found

    counted = rows(
        "SELECT count(*) AS rows, min(timestamp) AS first_at, max(timestamp) AS last_at, "
        "count(DISTINCT correlation_id) AS conversations FROM agent_messages"
    )[0]
    told = rows(_SHOWN, CONVERSATIONS)
    steps: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows(_STEPS, [one["correlation_id"] for one in told]):
        steps[row["correlation_id"]].append(row | {"said": _said(row["kind"], row["content"])})
    executions = rows("SELECT * FROM governed_executions ORDER BY claimed_version LIMIT $1", ROWS)
    return page.render(
        bundle=bundle,
        report=report,
        counted=counted,
        anchors=[Anchor.parse(line) for line in anchors],
        executions=[row | {"approvers": _names(row["approvers"], row["approved_by"])} for row in executions],
        trail=rows("SELECT * FROM approval_trail ORDER BY place LIMIT $1", ROWS),
        grants=rows("SELECT * FROM grants WHERE claimed_version IS NULL ORDER BY decided_version LIMIT $1", ROWS),
        refusals=rows("SELECT * FROM refusals ORDER BY log_version, seq LIMIT $1", ROWS),
        configuration=rows(
            "SELECT * FROM configuration_changes WHERE action <> 'log.anchored' ORDER BY log_version, seq LIMIT $1",
            ROWS,
        ),
        keys=rows("SELECT * FROM key_uses ORDER BY key_id, from_agent LIMIT $1", ROWS),
        conversations=[
            one | {"steps": steps[one["correlation_id"]], "question": _question(one["question"])} for one in told
        ],
    )


def _question(content: str) -> str:
    """What began a conversation, in words where it is a question."""
    try:
        said = json.loads(content)
    except (ValueError, RecursionError):
        return content
    return str(said["question"]) if isinstance(said, dict) and "question" in said else content


def _said(kind: str, content: str) -> list[tuple[str, str]]:
    """A message's content as names and values, long texts cut."""
    try:
        said = json.loads(content)
    except (ValueError, RecursionError):
        return [("content", content)]
    if not isinstance(said, dict):
        return [("content", content)]
    if kind == "AuditRecorded":
        said = {name: said.get(name) for name in ("action", "decision", "rule", "reason", "details")}
    return [(name, _shown(value)) for name, value in said.items() if value not in (None, "", [], {})]


def _shown(value: Any) -> str:
    if isinstance(value, str):
        text = value
    elif isinstance(value, dict) and value.keys() == {"language", "text"}:
        text = str(value["text"])
    else:
        text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= TEXT else f"{text[:TEXT]} … ({len(text):,} characters)"


def _names(approvers: str | None, approved_by: str | None) -> str:
    names = json.loads(approvers) if approvers else []
    return ", ".join(map(str, names)) or str(approved_by)


def _moment(time: datetime | int | None) -> str:
    if time is None:
        return ""
    found = datetime.fromtimestamp(time / 1e6, UTC) if isinstance(time, int) else time.astimezone(UTC)
    return found.strftime("%Y-%m-%d %H:%M:%S")

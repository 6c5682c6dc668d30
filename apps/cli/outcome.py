"""What became of a request: the answer with its fields, or how far it got."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from apps.cli.timeline import Timeline, answer_to
from schemas.envelope import Message
from workers.governance.approvals import Approval, approvals

ANSWER_KINDS = {"Answered", "Failed", "Refused"}


@dataclass(frozen=True)
class Outcome:
    """`status`: answered, refused, failed, pending_approval or timed_out. `approval` is the open one, if any."""

    correlation_id: str
    status: str
    answer: str
    code: dict[str, Any] | None
    result: dict[str, Any] | None
    sources: list[dict[str, Any]]
    refusal: dict[str, Any] | None
    timeline: Timeline
    final: Message | None
    approval: Approval | None = None

    @property
    def timings_ms(self) -> dict[str, float | None]:
        return self.timeline.totals(self.final)

    def document(self) -> dict[str, Any]:
        """What `ask --json` prints: these fields, and no others."""
        result = None
        if self.result is not None:
            result = {name: self.result.get(name) for name in ("columns", "rows", "truncated", "table")}
        return {
            "correlation_id": self.correlation_id,
            "status": self.status,
            "answer": self.answer,
            "code": self.code,
            "result": result,
            "sources": self.sources,
            "refusal": self.refusal,
            "timings_ms": self.timings_ms,
            "hops": self.timeline.hops,
        }


def outcome_of(rows: Iterable[Message], now: int | None = None) -> Outcome:
    """`rows`: all valid rows of one conversation, receipts included; `now`: UTC microseconds."""
    timeline = Timeline(rows, now if now is not None else time.time_ns() // 1000)
    root = timeline.rows[0]
    final = answer_to(timeline.rows, root)
    pending = next((a for a in approvals(timeline.rows).values() if a.decided is None), None)
    if final is not None:
        status, answer, said = _said(final)
    else:
        status, answer, said = _unfinished(timeline, pending)
    return Outcome(
        correlation_id=root.correlation_id,
        status=status,
        answer=answer,
        code=said.get("code"),
        result=said.get("result"),
        sources=said.get("sources") or [],
        refusal=said.get("refusal"),
        timeline=timeline,
        final=final,
        approval=pending if final is None else None,
    )


def _said(final: Message) -> tuple[str, str, dict[str, Any]]:
    try:
        content = json.loads(final.content)
    except (ValueError, RecursionError):
        content = None
    if isinstance(content, dict) and final.kind == "CodeRun":
        return "answered", _run(content), {"result": content.get("result")}
    if not isinstance(content, dict) or final.kind not in ANSWER_KINDS:
        return "answered", final.content, {}  # another's agent answers in its own kinds
    if final.kind == "Answered":
        return str(content.get("status")), str(content.get("answer")), content
    status = "refused" if final.kind == "Refused" else "failed"
    refusal = {"rule": content.get("rule", ""), "reason": content.get("reason", "")}
    return status, str(refusal["reason"]), {"refusal": refusal}


def _run(said: dict[str, Any]) -> str:
    """An execution that a person asked governance for, without an orchestrator to put it into words."""
    result = said.get("result") or {}
    count, table, version = said.get("row_count"), result.get("table"), result.get("table_version")
    what = said.get("proof") if count is None else f"{count} rows"
    where = f", now version {version} of {table}" if table and version is not None else ""
    return f"Done: {what}{where}; approved by {said.get('approved_by')} (grant {said.get('grant_id')})."


def _unfinished(timeline: Timeline, pending: Approval | None) -> tuple[str, str, dict[str, Any]]:
    if pending is not None:
        return "pending_approval", f"waits for approval {pending.id} by another person", {}
    waiting = timeline.open()
    if not waiting and any(step.handlings for step in timeline.steps.values()):
        return "failed", "the conversation ended without an answer", {"refusal": _dead_end(timeline)}
    agents = ", ".join(dict.fromkeys(agent for _, agent in waiting))
    return "timed_out", f"no answer yet; a message waits for {agents}" if agents else "no answer yet", {}


def _dead_end(timeline: Timeline) -> dict[str, Any]:
    """Why nothing follows any more: the last message that nobody could handle."""
    for handling in reversed(timeline.handlings()):
        if handling.outcome != "handled":
            return {"rule": f"message.{handling.outcome}", "reason": f"{handling.agent}: {handling.reason}"}
    return {"rule": "conversation.ended", "reason": "every message was handled, and none of them was an answer"}

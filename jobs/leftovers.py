"""Removes what executions left below the warehouse and nothing refers to any more: see workers.adapters.sandbox.leftovers."""

from __future__ import annotations

import json
import re
from functools import partial

import pyarrow.compute as pc

from bus.log.retention import older
from jobs.bootstrap import System
from schemas.tables import AGENT_MESSAGES
from workers.adapters.sandbox.leftovers import Needed, Removed, tidy

EXECUTION = "ExecutionAgent"
_FINAL = ("done", "failed", "cancelled")
#: A reference to a result, as outcomes have it.
_RESULT = re.compile(r"\.results/([A-Za-z0-9_-]+\.parquet)")


def remove_leftovers(system: System) -> Removed:
    """Raises LogMissing, LogError when an archive is not there, and OSError; then nothing is removed."""
    if system.unity_schema is not None:
        return Removed()  # there a warehouse of Databricks runs, which leaves nothing here
    return tidy(system.home.warehouse, system.clock.now().timestamp(), partial(needed, system))


def needed(system: System) -> Needed:
    """From what the execution agent ever said, the archive included. Who forges it keeps a file longer, and removes none."""
    source = system.log(AGENT_MESSAGES.name)
    wanted = pc.field("from_agent") == EXECUTION
    columns = ["kind", "message_type", "content"]
    rows = source.scan(columns=columns, filters=wanted)[0].to_pylist()
    rows += older(source, wanted, columns).to_pylist()
    results: set[str] = set()
    claimed: dict[str, str] = {}
    final: set[str] = set()
    for row in rows:
        results.update(_RESULT.findall(row["content"]))
        if row["message_type"] != "event" or row["kind"] not in ("ExecutionClaimed", "ExecutionSettled"):
            continue
        try:
            said = json.loads(row["content"])
            grant, target, step = str(said["grant_id"]), str(said.get("target")), said.get("step")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue
        claimed[grant] = target
        if row["kind"] == "ExecutionSettled" and step in _FINAL:
            final.add(grant)
    return Needed(results, {target for grant, target in claimed.items() if grant not in final})

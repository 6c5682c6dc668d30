"""An independent reader: deltalake's rows and the rules written once more, naively; nothing of this project's reads or folds."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
from deltalake import DeltaTable

Row = dict[str, Any]


class Findings(list[str]):
    """What is wrong, in sentences."""

    def expect(self, wrong: Iterable[object], what: str) -> None:
        found = list(wrong)
        if found:
            self.append(f"{what}: {len(found)}, such as {found[:3]}")


def read(folder: Path) -> tuple[Findings, dict[str, int]]:
    """What is wrong in `folder`, and how much there was to look at."""
    found = Findings()
    rows = _rows(folder / "agent_messages")
    valid = _valid(rows, found)
    _acknowledged(folder, valid, found)
    _receipts(valid, found)
    _outputs(valid, found)
    _seen(valid, found)
    _effects(folder, valid, found)
    _chains(valid, found)
    _projection(folder, valid, found)
    entries = _inline(folder / "agent_messages", found)
    requests = sum(row["message_type"] == "request" for row in valid)
    return found, {"rows": len(rows), "requests": requests, "entries": entries, "head": rows[-1]["log_version"]}


def _rows(table: Path) -> list[Row]:
    asked = duckdb.from_arrow(DeltaTable(str(table)).to_pyarrow_table()).order("log_version, seq")
    return list(asked.to_arrow_table().to_pylist())


def _valid(rows: list[Row], found: Findings) -> list[Row]:
    """First of each id. Nothing else may be there: who loses a decision in a folder writes nothing."""
    places = Counter((row["log_version"], row["seq"]) for row in rows)
    found.expect([place for place, count in places.items() if count > 1], "places that two rows have")
    by_commit: dict[int, list[int]] = defaultdict(list)
    for row in rows:
        by_commit[row["log_version"]].append(row["seq"])
    found.expect([v for v, seqs in by_commit.items() if seqs != list(range(len(seqs)))], "commits with a hole")
    seen: set[str] = set()
    valid, copies = [], []
    for row in rows:
        if row["message_id"] in seen:
            copies.append(row)
        else:
            seen.add(row["message_id"])
            valid.append(row)
    found.expect(
        [r["message_id"] for r in copies if not r["from_agent"].startswith("user:")], "ids that agents used twice"
    )
    return valid


def _acknowledged(folder: Path, valid: list[Row], found: Findings) -> None:
    there = {row["message_id"] for row in valid}
    for file in folder.glob("*.sent.txt"):
        name = file.name.removesuffix(".sent.txt")
        lines = [line.split("\t") for line in file.read_text().splitlines()]
        told = {f"{name}-{number}" for what, number in lines if what == "ack"}
        sent = {f"{name}-{number}" for _, number in lines}
        found.expect(sorted(told - there), f"messages of {name} that were acknowledged and are not there")
        strangers = {i for i in there if i.startswith(f"{name}-") and i.removeprefix(f"{name}-").isdigit()} - sent
        found.expect(sorted(strangers), f"messages of {name} that nobody sent")


def _owed(valid: list[Row]) -> list[Row]:
    """What some agent owes a receipt for; an event is for whoever subscribed before it."""
    since: dict[tuple[str, str], tuple[int, int]] = {}
    owed = []
    for row in valid:
        place = (row["log_version"], row["seq"])
        if row["kind"] == "InstanceChanged":
            said = json.loads(row["content"])
            for kind in said.get("subscribes") or []:
                since.setdefault((row["from_agent"], kind), place)
        if row["message_type"] == "receipt" or row["to_agent"].startswith("user:"):
            continue
        agents = [row["to_agent"]]
        if row["to_agent"] == "*":
            agents = [agent for (agent, kind), at in since.items() if kind == row["kind"] and at < place]
        owed += [{"id": row["message_id"], "conversation": row["correlation_id"], "agent": agent} for agent in agents]
    return owed


def _receipts(valid: list[Row], found: Findings) -> None:
    receipts = [row for row in valid if row["message_type"] == "receipt"]
    counted = Counter((row["causation_id"], row["from_agent"]) for row in receipts)
    found.expect([key for key, count in counted.items() if count > 1], "messages that one agent settled twice")
    owed = _owed(valid)
    expected = {(one["id"], one["agent"]) for one in owed}
    found.expect(sorted(expected - set(counted)), "messages without a receipt")
    found.expect(sorted(set(counted) - expected), "receipts that nobody owed")
    odd = [row["content"] for row in receipts if json.loads(row["content"])["outcome"] != "handled"]
    found.expect(odd, "messages that were not handled")
    # Order: the receipts of an agent in a conversation come in the order of its messages.
    place = {key: number for number, key in enumerate((row["causation_id"], row["from_agent"]) for row in receipts)}
    handled: dict[tuple[str, str], list[int]] = defaultdict(list)
    for one in owed:
        if (one["id"], one["agent"]) in place:
            handled[one["conversation"], one["agent"]].append(place[one["id"], one["agent"]])
    found.expect([key for key, order in handled.items() if order != sorted(order)], "conversations out of order")


def _outputs(valid: list[Row], found: Findings) -> None:
    receipts = {row["handling_id"]: row for row in valid if row["message_type"] == "receipt"}
    bare = []
    for row in valid:
        if row["handling_id"] is not None and row["message_type"] != "receipt":
            receipt = receipts.get(row["handling_id"])
            if receipt is None or (receipt["log_version"], receipt["seq"] < row["seq"]) != (row["log_version"], True):
                bare.append(row["message_id"])
    found.expect(bare, "outputs without their receipt in front of them in the same commit")
    kinds: dict[str, Counter[str]] = defaultdict(Counter)
    for row in valid:
        kinds[row["kind"]][row["causation_id"]] += 1
    for row in valid:
        if row["kind"] == "Ping":
            for kind in ("Heard", "Rang", "Told"):
                if kinds[kind][row["message_id"]] != 1:
                    found.append(f"{row['message_id']} has {kinds[kind][row['message_id']]} {kind}")


def _seen(valid: list[Row], found: Findings) -> None:
    """What a handler wrote that it saw is its conversation up to its message, in log order."""
    before: dict[str, list[str]] = defaultdict(list)
    expected: dict[str, list[str]] = {}
    for row in valid:
        if row["kind"] == "Ping":
            before[row["correlation_id"]].append(row["message_id"])
            expected[row["message_id"]] = list(before[row["correlation_id"]])
    told = {row["causation_id"]: json.loads(row["content"])["saw"] for row in valid if row["kind"] == "Told"}
    found.expect(
        [(i, saw, expected[i]) for i, saw in told.items() if saw != expected[i]], "handlers that saw another log"
    )


def _effects(folder: Path, valid: list[Row], found: Findings) -> None:
    file = folder / "effects.txt"
    done = Counter(file.read_text().split()) if file.exists() else Counter[str]()
    found.expect([grant for grant, count in done.items() if count > 1], "effects that started twice")
    claims = Counter(json.loads(r["content"])["grant_id"] for r in valid if r["kind"] == "ExecutionClaimed")
    found.expect([grant for grant, count in claims.items() if count > 1], "grants that were claimed twice")
    found.expect(sorted(set(done) - set(claims)), "effects without a claim")
    said = [r for r in valid if r["kind"] == "Did" and json.loads(r["content"])["outcome"] == "done"]
    found.expect([r["message_id"] for r in said if not done], "effects that are said and never happened")


def _chains(valid: list[Row], found: Findings) -> None:
    chains: dict[str, list[int]] = defaultdict(list)
    for row in valid:
        if row["kind"] == "AuditRecorded":
            fact = json.loads(row["content"])
            chains[fact["writer"]].append(fact["sequence"])
    found.expect([w for w, s in chains.items() if s != list(range(1, len(s) + 1))], "audit chains with a hole")


def _projection(folder: Path, valid: list[Row], found: Findings) -> None:
    said = {
        (r["log_version"], r["seq"]) for r in valid if r["message_type"] == "event" and r["kind"] != "AuditRecorded"
    }
    projected = Counter((row["log_version"], row["seq"]) for row in _rows(folder / "agent_events"))
    found.expect([place for place, count in projected.items() if count > 1], "events projected twice")
    found.expect(sorted(said - set(projected)), "events that were not projected")
    found.expect(sorted(set(projected) - said), "projected events that are not in the log")


def _inline(table: Path, found: Findings) -> int:
    """Rows that an entry carries are those of its file. Returns the entries that were compared."""
    compared = 0
    for file in (table / "_delta_log").glob("*.json"):
        actions = [json.loads(line) for line in file.read_text().splitlines()]
        info = next(a["commitInfo"] for a in actions if "commitInfo" in a)
        inline = info.get("tailrace", {}).get("rows") or []
        added = [a["add"]["path"] for a in actions if "add" in a and a["add"]["dataChange"]]
        if not inline or len(added) != 1 or not (table / added[0].replace("%3D", "=")).exists():
            continue
        stored = pq.ParquetFile(table / added[0].replace("%3D", "=")).read()
        times = [name for name in stored.column_names if str(stored.schema.field(name).type).startswith("timestamp")]
        for name in times:
            place = stored.column_names.index(name)
            stored = stored.set_column(place, name, stored.column(name).cast("int64"))
        there = [{k: v for k, v in row.items() if v is not None} for row in stored.to_pylist()]
        place_less = [{k: v for k, v in row.items() if k not in ("log_version", "seq")} for row in there]
        said = [{k: v for k, v in row.items() if k not in ("log_version", "seq")} for row in inline]
        if said != place_less:
            found.append(f"{file.name}: the entry and its file say different rows")
        compared += 1
    return compared

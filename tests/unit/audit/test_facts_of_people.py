"""What a person's key signs as an audit fact is none, in nobody's chain, from the start: it cannot spoil anybody's audit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from bus import views
from bus.audit import fact_hash
from bus.keys import Keyring, Signer
from bus.log import rows as codec
from bus.projections.tables import PROJECTIONS, fact_row
from jobs.agents import UPKEEP
from jobs.audit import AuditReport, verifier, verify
from jobs.audit.anchoring import anchor_log, signed
from jobs.audit.anchors import ACTION, Anchor, Source
from jobs.bootstrap import System
from schemas.envelope import EVERYONE, Message
from schemas.tables import AGENT_MESSAGES, AUDIT_LOG
from tests.unit.audit.forging import put_in, rows_of

IGNORED = "facts of people, which are none"


def chain_of(system: System) -> dict[str, Any]:
    """The last fact of a host's chain."""
    facts = [json.loads(row["content"]) for row in rows_of(system) if row["kind"] == "AuditRecorded"]
    return facts[-1]


def say(system: System, content: str, by: str = "ana") -> Message:
    """A fact that this person signed and put into the log, past every client."""
    log = system.log(AGENT_MESSAGES.name)
    unsigned = Message(
        message_id="said",
        correlation_id="said",
        from_agent=f"user:{by}",
        to_agent=EVERYONE,
        message_type="event",
        kind="AuditRecorded",
        content=content,
        timestamp=rows_of(system)[-1]["timestamp"],
        principal=by,
    )
    row = Signer.load(system.home.keys, [f"user:{by}"], log.check(), "dev").sign(unsigned)
    version = log.head() + 1
    assert log.put(version, codec.to_arrow([row], version)).won
    return row.with_fields(log_version=version, seq=0)


def holds(system: System, *anchors: str) -> AuditReport:
    """By both verifiers."""
    file = system.home.root / "kept.jsonl"
    file.write_text("".join(f"{line}\n" for line in anchors))
    ours = verify(system, [Source("kept", anchors)])
    theirs, _ = verifier.verify(system.home.root, None, [file])
    assert (ours.problems, theirs.problems) == ([], [])
    assert ours.checked[IGNORED] == theirs.checked[IGNORED]
    return ours


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"sequence": 10**6},
        {"sequence": None, "previous": "nothing"},
        {"writer": "a chain of my own"},
        {"action": ACTION, "details": {"anchor": {"number": 10**9}}},
    ],
)
def test_it_counts_for_nothing(home: System, change: dict[str, Any]) -> None:
    before = holds(home).checked["facts"]
    last = chain_of(home)
    row = say(home, json.dumps(last | {"sequence": last["sequence"] + 1} | change))
    report = holds(home)
    assert (report.checked[IGNORED], report.checked["facts"]) == (1, before)
    assert [project(row) for _, project in PROJECTIONS] == [None] * len(PROJECTIONS)
    first = anchor_log(home).anchor
    assert first.writers.get(last["writer"], (last["sequence"],))[0] == last["sequence"]
    assert "a chain of my own" not in first.writers
    holds(home, first.line)


def test_what_is_no_json_counts_for_nothing(home: System) -> None:
    say(home, "[" * 5_000)
    assert holds(home).checked[IGNORED] == 1


def test_auditors_do_not_see_it(home: System) -> None:
    query = "SELECT count(*) AS facts FROM audit_facts"

    def facts() -> int:
        with duckdb.connect() as duck:
            duck.execute("SET TimeZone = 'UTC'")
            duck.register("agent_messages", home.log(AGENT_MESSAGES.name).scan()[0])
            for statement in views.statements("duckdb", names=(*views.NAMES, *views.AUDIT_NAMES)):
                duck.execute(statement)
            return int(duck.sql(query).to_arrow_table().to_pylist()[0]["facts"])

    before = facts()
    say(home, json.dumps(chain_of(home)))
    assert facts() == before


def test_what_an_older_release_took_for_a_fact_may_stay_where_it_is(home: System) -> None:
    """In `audit_log`, and in an anchor that was made then; only what that person did say."""
    row = say(home, json.dumps(chain_of(home) | {"writer": "redrive-1", "sequence": 1}))
    log = home.log(AUDIT_LOG.name)

    def project(said: dict[str, Any]) -> None:
        columns = {field.name: pa.array([said.get(field.name)], field.type) for field in AUDIT_LOG.file_schema}
        upto = {f"projector:{AUDIT_LOG.name}": row.log_version}
        assert log.put(log.head() + 1, pa.table(columns), txns=upto).won

    project(dict(fact_row(row)))
    place = (home.log(AGENT_MESSAGES.name).check(), "dev")
    anchor = json.loads(anchor_log(home).anchor.line)
    anchor["writers"]["redrive-1"] = [1, fact_hash(row, *place)]
    signer = Signer.load(home.home.keys, [UPKEEP], *place)
    old = Anchor.parse(json.dumps(anchor | {"signature": ""}))
    line = signed(old, signer, Keyring.load(home.home.keys), place).line
    holds(home, line)
    project(dict(fact_row(row)) | {"action": "something else"})
    assert "projection.invented" in {p.rule for p in verify(home).problems}


def test_a_row_that_upkeep_did_not_sign_ends_no_anchoring(home: System, tmp_path: Path) -> None:
    """Whoever can write a file could else keep the log from being anchored."""
    first = anchor_log(home).anchor
    row = next(row for row in rows_of(home) if row["from_agent"] == UPKEEP)
    bad = row | {"message_id": "forged", "content": row["content"].replace(first.root, "zz")}
    put_in(home, [bad], {})
    assert anchor_log(home).anchor.previous == first.digest
    assert {p.rule for p in verify(home).problems} == {"signature.invalid"}

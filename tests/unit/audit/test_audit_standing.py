"""A row without a key stands in the entry that brought it, whatever it says of its place: anchors before and after it hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bus.log import compaction, contents
from bus.log.retention import everything
from jobs.audit import standing, verifier, verify
from jobs.audit.anchoring import anchor_log
from jobs.audit.anchors import Source
from jobs.audit.export import export
from jobs.audit.places import place_of
from jobs.bootstrap import System
from schemas.payloads import Ask
from schemas.tables import AGENT_MESSAGES
from tests.unit.audit.forging import Rows, put_in, rewrite, rows_of

#: What is named of them: nobody signed them. Nothing else is wrong.
NAMED = {"signature.missing"}


def forged(system: System, places: list[tuple[int | None, int | None]]) -> Rows:
    """Rows that nobody signed, and what they say of their places."""
    like = next(row for row in rows_of(system) if row["message_type"] == "request")
    nobody: dict[str, Any] = {"key_id": None, "signature": None, "causation_id": None, "handling_id": None}
    return [
        like
        | nobody
        | {"message_id": f"forged{n}", "correlation_id": f"forged{n}", "to_agent": "nobody", "log_version": version}
        | {"seq": seq}
        for n, (version, seq) in enumerate(places)
    ]


def ask(system: System) -> None:
    with system.client("ana") as client:
        client.send("RAGAgent", Ask(question="how are sales defined?"))


def named(system: System, file: Path) -> set[str]:
    """By both verifiers, which must agree."""
    lines = place_of(str(file)).lines()
    ours = set(verify(system, [Source(str(file), lines)]).found)
    theirs, _ = verifier.verify(system.home.root, None, [file])
    assert set(theirs.found) == ours
    return ours


def compacted(system: System, checkpoint: bool = False) -> None:
    """All data files are one; nothing but the files says any more where its rows stood."""
    log = system.log(AGENT_MESSAGES.name)
    there = contents.load(log)
    files = list(there.files.values())
    compaction.commit(log, there, files, [compaction.merge(log, files)])


def checkpointed(system: System) -> None:
    """Entries are gone; only the checkpoint's tags say where rows stand."""
    log = system.log(AGENT_MESSAGES.name)
    there = contents.load(log)
    there.write_checkpoint(log)
    for version in range(there.version):
        (log.path / f"_delta_log/{version:020d}.json").unlink()


PLACES = [
    [(3, 0)],  # in what was anchored
    [(10**9, 7)],  # in no version that there will ever be
    [(None, None), (None, None)],  # as other writers leave it
    [(2, 5), (9, 5)],
]


@pytest.mark.parametrize("places", PLACES)
@pytest.mark.parametrize("after", [compacted, checkpointed])
def test_anchors_hold_around_a_row_with_a_false_place(home: System, tmp_path: Path, places: Any, after: Any) -> None:
    file = tmp_path / "anchors.jsonl"
    anchor_log(home, [str(file)])
    stats = json.dumps({"numRecords": len(places), "minValues": {"log_version": 3}, "maxValues": {"log_version": 3}})
    version = put_in(home, forged(home, places), {"stats": stats, "tags": {"tailrace.versions": "3-3"}})
    ask(home)
    second = anchor_log(home, [str(file)]).anchor
    assert [block[0] for block in second.blocks].count(version) == 1
    ask(home)
    anchor_log(home, [str(file)])
    assert named(home, file) == NAMED
    after(home)
    assert named(home, file) - {"log.gap"} == NAMED


def test_a_bundle_has_it_where_it_stands(home: System, tmp_path: Path) -> None:
    file = tmp_path / "anchors.jsonl"
    anchor_log(home, [str(file)])
    put_in(home, forged(home, [(3, 0)]), {})
    ask(home)
    second = anchor_log(home, [str(file)]).anchor
    export(home, tmp_path / "bundle", anchors=[Source("it", place_of(str(file)).lines())])
    theirs, about = verifier.verify(tmp_path / "bundle", None, [file])
    assert set(theirs.found) == NAMED
    assert about["versions"][1] > second.log_version


def test_signed_rows_keep_their_numbers_so_that_a_gap_shows(home: System) -> None:
    """Else the last of a commit's rows could be taken out, and the others would be counted anew."""
    last = next(row for row in rows_of(home) if row["seq"] == 1)
    place = (last["log_version"], 0)
    rewrite(home, lambda rows: [row for row in rows if (row["log_version"], row["seq"]) != place])
    assert ("log.sequence", f"version {place[0]}") in [(p.rule, p.where) for p in verify(home).problems]
    theirs, _ = verifier.verify(home.home.root, None, [])
    assert ("log.sequence", f"version {place[0]}") in [(rule, where) for rule, where, _ in theirs.problems]


def test_nothing_else_moves(home: System) -> None:
    """Rows of a log that nobody spoilt are those that any Delta reader sees."""
    log = home.log(AGENT_MESSAGES.name)
    assert standing.rows(log, contents.load(log)).equals(
        standing.in_order(everything(log)).select(log.schema.arrow.names)
    )

"""Whatever a forger without keys does to the rows of a log that was anchored, both verifiers find it and say where."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.audit import verifier, verify
from jobs.audit.anchoring import anchor_log
from tests.unit.audit.conftest import copy_of
from tests.unit.audit.forging import Rows, rewrite, rows_of

#: Columns of a row, and another value for each.
OTHER: dict[str, Callable[[Any], Any]] = {
    "content": lambda text: text.replace("e", "E", 1),
    "principal": lambda _: "zoe",
    "to_agent": lambda _: "SomebodyElse",
    "timestamp": lambda time: time + 1,
    "correlation_id": lambda text: text[:-1] + "~",
    "key_id": lambda _: "host-main2",
    "causation_id": lambda _: "nothing",
    "handling_id": lambda text: "h" if text is None else None,
    "from_agent": lambda _: "user:ada",
}


@pytest.fixture(scope="module")
def anchored(recorded_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    system = copy_of(recorded_home, tmp_path_factory.mktemp("anchored") / "home")
    anchor_log(system)
    return system.home.root


@st.composite
def changes(draw: st.DrawFn) -> tuple[str, int, int, str]:
    """What is done, to which row, with which other row, and which column."""
    what = draw(st.sampled_from(["alter", "remove", "swap", "insert"]))
    return what, draw(st.integers(0, 10_000)), draw(st.integers(0, 10_000)), draw(st.sampled_from(sorted(OTHER)))


def apply(change: tuple[str, int, int, str], rows: Rows) -> tuple[Rows, set[int]]:
    """The rows afterwards, and the versions where it happened. The anchor itself, the last row, stays: without it the log is
    shorter, which only an anchor kept elsewhere can tell."""
    what, first, second, column = change
    *rows, anchor = (dict(row) for row in rows)
    one, other = first % len(rows), second % len(rows)
    versions = {rows[one]["log_version"]}
    if what == "alter":
        rows[one][column] = OTHER[column](rows[one][column])
    elif what == "remove":
        del rows[one]
    elif what == "swap":
        other = other if other != one else (one + 1) % len(rows)
        versions.add(rows[other]["log_version"])
        places = [(rows[at]["log_version"], rows[at]["seq"]) for at in (one, other)]
        for at, (version, seq) in zip((other, one), places, strict=True):
            rows[at] |= {"log_version": version, "seq": seq}
    else:
        version = rows[other]["log_version"]
        seq = 1 + max(row["seq"] for row in rows if row["log_version"] == version)
        versions = {version}
        rows.append(rows[one] | {"log_version": version, "seq": seq})
    return sorted([*rows, anchor], key=lambda row: (row["log_version"], row["seq"])), versions


@given(change=changes())
@settings(max_examples=12, deadline=None)
def test_every_change_is_found_and_its_place_is_named(anchored: Path, change: tuple[str, int, int, str]) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        system = copy_of(anchored, Path(scratch) / "home")
        touched: set[int] = set()

        def forge(rows: Rows) -> Rows:
            changed, versions = apply(change, rows)
            touched.update(versions)
            return changed

        rewrite(system, forge)
        report = verify(system)
        theirs, _ = verifier.verify(system.home.root, None, [])
        for name, problems in (
            ("ours", [(p.where, p.what) for p in report.problems]),
            ("the other", [(where, what) for _, where, what in theirs.problems]),
        ):
            for version in touched:
                names = (f"({version}, ", f"version {version}", f"to {version}")
                assert any(place in f"{where}|" for where, _ in problems for place in names), (name, version, problems)


def test_a_rewriting_that_changes_nothing_is_no_problem(anchored: Path, tmp_path: Path) -> None:
    system = copy_of(anchored, tmp_path / "home")
    rewrite(system, lambda rows: rows)
    report = verify(system)
    theirs, _ = verifier.verify(system.home.root, None, [])
    assert (report.problems, theirs.problems) == ([], [])
    assert {name: theirs.checked[name] for name in ("rows", "signatures", "facts", "receipts", "anchors")} == {
        name: report.checked[name] for name in ("rows", "signatures", "facts", "receipts", "anchors")
    }


def test_the_rows_of_one_commit_cannot_change_places(recorded_home: Path, tmp_path: Path) -> None:
    """Without any anchor: they were signed together, in their order."""
    system = copy_of(recorded_home, tmp_path / "home")
    version = next(row["log_version"] for row in rows_of(system) if row["seq"] == 2)

    def swap(rows: Rows) -> Rows:
        for row in rows:
            if row["log_version"] == version and row["seq"] in (1, 2):
                row["seq"] = 3 - row["seq"]
        return sorted(rows, key=lambda row: (row["log_version"], row["seq"]))

    rewrite(system, swap)
    assert any(p.rule == "log.order" and f"({version}, 2)" in p.where for p in verify(system).problems)
    theirs, _ = verifier.verify(system.home.root, None, [])
    assert any(rule == "log.order" and str(version) in where for rule, where, _ in theirs.problems)


def test_the_last_row_of_a_commit_cannot_be_taken_out(recorded_home: Path, tmp_path: Path) -> None:
    """Without any anchor: the others say how many were signed together."""
    system = copy_of(recorded_home, tmp_path / "home")
    rows = rows_of(system)
    last = next(
        row
        for row, after in pairwise(rows)
        if after["seq"] == 0 and row["seq"] == 2 and row["signature"].split(":")[2:3] == ["3"]
    )
    place = (last["log_version"], last["seq"])
    rewrite(system, lambda rows: [row for row in rows if (row["log_version"], row["seq"]) != place])
    found = [p for p in verify(system).problems if p.rule == "log.removed"]
    assert [(p.where, f"number {place[1]} of them" in p.what) for p in found] == [(f"version {place[0]}", True)]


def test_very_many_changes_are_counted_and_the_first_are_named(anchored: Path, tmp_path: Path) -> None:
    system = copy_of(anchored, tmp_path / "home")
    (row,) = [row for row in rows_of(system) if row["kind"] == "AuditRecorded"][:1]

    def flood(rows: Rows) -> Rows:
        start = 1 + max(r["seq"] for r in rows if r["log_version"] == row["log_version"])
        forged = [row | {"seq": start + n, "message_id": f"forged{n}"} for n in range(500)]
        return sorted([*rows, *forged], key=lambda r: (r["log_version"], r["seq"]))

    rewrite(system, flood)
    report = verify(system)
    assert report.found["signature.invalid"] == 500
    assert len([p for p in report.problems if p.rule == "signature.invalid"]) == 100
    assert report.unnamed >= 400


def test_a_data_file_that_is_gone_is_named(anchored: Path, tmp_path: Path) -> None:
    system = copy_of(anchored, tmp_path / "home")
    gone = sorted((system.home.root / "tables" / "agent_messages").rglob("part-*.parquet"))[0]
    gone.unlink()
    assert ("log.file", gone.name) in [(p.rule, Path(p.where).name) for p in verify(system).problems]


def test_an_entry_that_is_gone_is_named(anchored: Path, tmp_path: Path) -> None:
    """A Delta reader stops there; the verifiers say why."""
    system = copy_of(anchored, tmp_path / "home")
    log = system.home.root / "tables" / "agent_messages" / "_delta_log"
    (log / f"{5:020d}.json").unlink()
    assert ("log.gap", "version 5") in [(p.rule, p.where) for p in verify(system).problems]
    theirs, _ = verifier.verify(system.home.root, None, [])
    assert ("log.gap", "version 5") in [(rule, where) for rule, where, _ in theirs.problems]

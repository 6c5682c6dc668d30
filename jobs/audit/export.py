"""A bundle for an auditor: rows, views, public keys, anchors, a verifier and a report, in one folder that needs nothing else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bus import views
from bus.keys import Keyring
from bus.log.contents import load
from jobs.audit import merkle, standing
from jobs.audit.anchors import Anchor, Source, of_log
from jobs.audit.html import report_html
from jobs.audit.report import AuditReport
from jobs.audit.signatures import raws
from jobs.audit.verification import verification
from jobs.bootstrap import System
from schemas.tables import AGENT_MESSAGES

#: Views that a bundle has as Parquet.
VIEWS = ("conversations", "receipts", *views.AUDIT_NAMES)


class CannotExport(RuntimeError):
    """The folder is not empty, or there are no such versions; the message names the remedy."""


@dataclass(frozen=True)
class Exported:
    """What the bundle holds. `report`: of the verification of the whole log, not of the exported part alone."""

    folder: Path
    first: int
    last: int
    rows: int
    anchors: int
    report: AuditReport


def export(
    system: System, folder: Path, first: int = 1, last: int | None = None, anchors: Sequence[Source] = ()
) -> Exported:
    """Versions `first` to `last`, into an empty folder. Raises CannotExport, and what `verify` raises."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CannotExport(f"{folder} is not empty; name a folder that does not exist yet")
    source = system.log(AGENT_MESSAGES.name)
    table_id = source.check()
    found = standing.rows(source, load(source))
    newest = pc.max(found.column("log_version")).as_py() or 0
    last = newest if last is None else min(last, newest)
    version = found.column("log_version")
    rows = found.filter(pc.and_(pc.greater_equal(version, first), pc.less_equal(version, last)))
    if rows.num_rows == 0:
        raise CannotExport(f"there are no rows in versions {first} to {last}; the newest version with rows is {newest}")
    report = verification(system, anchors)
    _rows(folder, rows)
    _keys(system, folder)
    lines = _anchors(found, Keyring.load(system.home.keys), (table_id, system.settings.env), anchors, last)
    if lines:
        (folder / "anchors.jsonl").write_text("".join(f"{line}\n" for line in lines))
    bundle = {
        "format": 1,
        "table_id": table_id,
        "environment": system.settings.env,
        "from_version": first,
        "to_version": last,
        "rows": rows.num_rows,
        "created": system.clock.now().isoformat(timespec="seconds"),
        "before": _before(found.filter(pc.less(version, first)), (table_id, system.settings.env)),
    }
    (folder / "bundle.json").write_text(json.dumps(bundle, indent=2) + "\n")
    here = files("jobs.audit")
    (folder / "verifier.py").write_text((here / "verifier.py").read_text())
    (folder / "README.md").write_text((here / "bundle.md").read_text())
    with _asked(rows) as database:
        (folder / "views").mkdir()
        for name in VIEWS:
            pq.write_table(database.sql(f"SELECT * FROM {name}").to_arrow_table(), folder / "views" / f"{name}.parquet")
        (folder / "report.html").write_text(report_html(database, bundle, report, lines), encoding="utf-8")
    return Exported(folder, first, last, rows.num_rows, len(lines), report)


def _rows(folder: Path, rows: pa.Table) -> None:
    """As a Delta table, which is Parquet that names its files."""
    from deltalake import write_deltalake

    target = folder / "rows" / AGENT_MESSAGES.name
    target.mkdir(parents=True)
    write_deltalake(str(target), rows, name=AGENT_MESSAGES.name)


def _keys(system: System, folder: Path) -> None:
    """What is public of them."""
    (folder / "keys").mkdir()
    for name in ("keyring.json", "root.pub"):
        shutil.copyfile(system.home.keys / name, folder / "keys" / name)


def _anchors(
    rows: pa.Table, keyring: Keyring, place: tuple[str, str], sources: Sequence[Source], last: int
) -> list[str]:
    """Those of the log and of elsewhere that speak of versions up to `last`, each once, as they stand."""
    known: dict[str, Anchor] = {}
    for line in (*of_log(rows, keyring, place).lines, *(line for one in sources for line in one.lines)):
        try:
            anchor = Anchor.parse(line)
        except ValueError:
            continue  # the verification names it
        if anchor.log_version <= last:
            known.setdefault(anchor.digest, anchor)
    return [anchor.line for anchor in sorted(known.values(), key=lambda one: one.number)]


def _before(rows: pa.Table, place: tuple[str, str]) -> dict[str, Any]:
    """What stands for the rows that are not exported, so that anchors of the whole log can be held against the others."""
    peaks = merkle.Peaks()
    for raw in raws(rows):
        peaks.add(merkle.leaf_of(raw, *place))
    return {"rows": peaks.size, "peaks": [peak.hex() for peak in peaks.peaks]}


@contextmanager
def _asked(rows: pa.Table) -> Iterator[duckdb.DuckDBPyConnection]:
    """The views over these rows."""
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("agent_messages", rows)
        for statement in views.statements("duckdb", names=(*views.NAMES, *views.AUDIT_NAMES)):
            connection.execute(statement)
        # Asked again and again below, and a view is computed anew each time.
        connection.execute("CREATE TEMP TABLE kept AS SELECT * FROM valid_messages")
        connection.execute("CREATE OR REPLACE TEMP VIEW valid_messages AS SELECT * FROM kept")
        yield connection

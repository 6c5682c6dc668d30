"""Publishing: what the sandbox computed in its scratch folder becomes one version of the target, or nothing does.

The sandboxed process cannot write the lakehouse at all. It leaves a Delta table in its scratch folder whose last entry says
what the statement does; this module, in the process outside, checks that entry, copies its files beside the target's and puts
the entry into the target's log under the very next version, if that is still absent. So one statement is one version, no
version can slip in between what was previewed and what is written, and the grant's mark in it is not the sandbox's word.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from deltalake import DeltaTable

from workers.adapters.sandbox import history
from workers.adapters.sandbox.commits import (
    Entry,
    entry_path,
    local_path,
    open_below,
    read_entry,
    refuse_unknown_features,
)
from workers.ports import OutcomeUnknown, StatementFailed, StatementRefused

log = structlog.get_logger(__name__)

#: Below the warehouse; no schema's name begins with a dot, so none of these is a table for anybody.
NEW, DROPPED, RESULTS = ".new", ".dropped", ".results"

#: A checkpoint every so many versions, as Delta does by default.
CHECKPOINT_EVERY = 10

_COPY_BYTES = 1 << 20
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")

#: Columns and settings of a table may change by these alone.
_NEW_METADATA = frozenset({"create", "alter", "replace"})


@dataclass(frozen=True)
class Mark:
    """Who wrote a version: it stands in the entry, and stays in the table's state for ever."""

    grant_id: str
    code_sha256: str

    def actions(self, entry: Entry, base: int | None) -> Iterator[dict[str, Any]]:
        """The entry as a line each, with the mark in it."""
        info = entry.info
        kept = {name: info[name] for name in ("operation", "operationParameters", "operationMetrics") if name in info}
        yield {
            "commitInfo": {
                "timestamp": time.time_ns() // 1_000_000,
                "operation": "WRITE",
                **kept,
                **({} if base is None else {"readVersion": base}),
                "isolationLevel": "Serializable",
                "isBlindAppend": False,
                "userMetadata": history.user_metadata(self.grant_id, self.code_sha256),
                "engineInfo": history.WRITER,
            }
        }
        yield {"txn": {"appId": history.app_id(self.grant_id), "version": history.TXN_VERSION}}
        if entry.protocol is not None:
            yield {"protocol": entry.protocol}
        if entry.metadata is not None:
            yield {"metaData": entry.metadata}
        yield from ({"remove": action} for action in entry.removes)
        yield from ({"add": action} for action in entry.adds)
        yield from ({"cdc": action} for action in entry.changes)


@dataclass(frozen=True)
class Staged:
    """A table that the sandbox left at `place` below its scratch folder `root`. Everything in it is only its word."""

    root: Path
    place: Path

    def entry(self, version: int) -> Entry | None:
        return read_entry(self.root, self.place, version)

    def open(self, file: Path) -> int:
        return open_below(self.root, self.place / file)


def publish(staged: Staged, path: Path, base: int | None, kind: str, mark: Mark) -> int:
    """What lies in `staged` becomes version `base` + 1 of the table at `path` (0 when there was none); returns it.

    Raises StatementRefused with `grant.dry_run_changed` when the target has moved, StatementFailed when nothing was written,
    and OutcomeUnknown when nobody can tell.
    """
    target = f"{path.parent.name}.{path.name}"
    entry = _staged_entry(staged, 0 if base is None else 1, target)
    if base is None:
        return _create(staged, path, entry, mark, target)
    table = _unmoved(path, base, target)
    _check(entry, _active(table), kind, target)
    actions = list(mark.actions(entry, base))
    with _copies(staged, path, [action["path"] for action in (*entry.adds, *entry.changes)]) as keep:
        version = commit(path, base, actions, mark)
        keep()
    return version


def commit(path: Path, base: int, actions: Iterable[dict[str, Any]], mark: Mark) -> int:
    """Put the actions under version `base` + 1, if it is absent."""
    version = base + 1
    target = f"{path.parent.name}.{path.name}"
    try:
        won = _put_if_absent(entry_path(path, version), actions)
    except OSError as error:
        if history.outcome_at(path, target, mark.grant_id) is None:
            raise OutcomeUnknown(f"{target} could not be written ({error}), and its log does not say so") from error
        won = True
    if not won:
        raise moved(target)
    _checkpoint(path, version)
    return version


def drop(path: Path, warehouse: Path, base: int, mark: Mark) -> int:
    """Empty the table in a version that says so, then move it to where `undo` finds it."""
    target = f"{path.parent.name}.{path.name}"
    table = _unmoved(path, base, target)
    gone = Entry(info={"operation": history.DROP}, removes=emptied(table))
    version = commit(path, base, mark.actions(gone, base), mark)
    bury(path, warehouse, mark.grant_id)
    return version


def bury(path: Path, warehouse: Path, grant_id: str) -> None:
    grave = warehouse / DROPPED / f"{path.parent.name}.{path.name}" / _file_name(grant_id)
    grave.parent.mkdir(parents=True, exist_ok=True)
    path.rename(grave)
    _sync_folder(path.parent)


def bring_back(grave: Path, path: Path) -> None:
    """A dropped table to where it was; it is still empty, as its last version says."""
    try:
        grave.rename(path)
    except OSError as error:
        raise StatementRefused(
            "target.exists", f"there is something at {path.name} already: {error.strerror}"
        ) from error
    _sync_folder(path.parent)


def emptied(table: DeltaTable) -> list[dict[str, Any]]:
    """`remove` actions of every file of a table."""
    now = time.time_ns() // 1_000_000
    return [
        {"path": name, "deletionTimestamp": now, "dataChange": True, "extendedFileMetadata": False}
        for name in sorted(_active(table))
    ]


def keep_result(root: Path, place: Path, warehouse: Path, grant_id: str) -> str:
    """A result too large to be shown, as one file that nobody changes; returns its place, seen from the home."""
    kept = warehouse / RESULTS / f"{_file_name(grant_id)}.parquet"
    kept.parent.mkdir(parents=True, exist_ok=True)
    try:
        _copy(open_below(root, place), kept, 0o444)
    except FileExistsError:
        raise StatementRefused("grant.used", f"grant {grant_id} already has a result: ask for a new one") from None
    return str(kept.relative_to(warehouse.parent))


def moved(target: str) -> StatementRefused:
    return StatementRefused(
        "grant.dry_run_changed", f"{target} has changed since the dry run that was approved: ask for a new one"
    )


# --- checks -----------------------------------------------------------------------------------------------------------


def _staged_entry(staged: Staged, version: int, target: str) -> Entry:
    try:
        entry, another = staged.entry(version), staged.entry(version + 1)
    except (OSError, ValueError) as error:
        raise StatementFailed(
            f"{target} was not written: what the engine left is no entry of a log ({error})"
        ) from error
    if another is not None:
        raise StatementRefused("target.files", f"the statement wrote {target} more than once: nothing was written")
    # A statement may change nothing; the grant's mark is written all the same.
    return entry or Entry(info={"operation": "WRITE"})


def _unmoved(path: Path, base: int, target: str) -> DeltaTable:
    table = history.open_table(path)
    if table is None or table.version() != base:
        raise moved(target)
    refuse_unknown_features(table, target)
    return table


def _check(entry: Entry, active: set[str], kind: str, target: str) -> None:
    """The entry is the sandbox's word: what it removes must be the target's, and what it adds must be its own."""
    wrong = ", ".join(sorted(entry.unknown)) or ("the protocol" if entry.protocol else "")
    if entry.metadata is not None and kind not in _NEW_METADATA:
        wrong = "the columns"
    if any("deletionVector" in action for action in (*entry.adds, *entry.removes)):
        wrong = "deletion vectors"
    if any(action["path"] not in active for action in entry.removes):
        wrong = "files that are not its own"
    if any(action["path"] in active for action in entry.adds):
        wrong = "files that it has already"
    if wrong:
        raise StatementRefused("target.files", f"the statement would change {wrong} of {target}: nothing was written")


def _active(table: DeltaTable) -> set[str]:
    actions = table.get_add_actions()
    return set(actions.column("path").to_pylist())


# --- files ------------------------------------------------------------------------------------------------------------


def _create(staged: Staged, path: Path, entry: Entry, mark: Mark, target: str) -> int:
    """A table that is new appears whole: built beside the schemas, and renamed to where nothing is."""
    if entry.unknown or entry.removes or entry.metadata is None or entry.protocol is None:
        raise StatementRefused(
            "target.files", f"what the engine left is no new table for {target}: nothing was written"
        )
    made = path.parent.parent / NEW / uuid.uuid4().hex
    try:
        (made / "_delta_log").mkdir(parents=True)
        for action in entry.adds:
            place = local_path(action["path"])
            (made / place).parent.mkdir(parents=True, exist_ok=True)
            _copy(staged.open(place), made / place)
        _put_if_absent(entry_path(made, 0), mark.actions(entry, None))
        path.parent.mkdir(parents=True, exist_ok=True)
        _sync_folder(made)
        try:
            made.rename(path)
        except OSError as error:
            if path.exists():
                raise moved(target) from error
            raise StatementFailed(f"{target} was not written: {error}") from error
        _sync_folder(path.parent)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return 0


@contextlib.contextmanager
def _copies(staged: Staged, path: Path, names: list[str]) -> Iterator[Any]:
    """Copies beside the target's files, which go again unless the entry that names them is in the log."""
    copied: list[Path] = []
    stay = False

    def keep() -> None:
        nonlocal stay
        stay = True

    try:
        for name in names:
            place = local_path(name)
            (path / place).parent.mkdir(parents=True, exist_ok=True)
            _copy(staged.open(place), path / place)
            copied.append(path / place)
        for folder in {file.parent for file in copied}:
            _sync_folder(folder)
        yield keep
    except OutcomeUnknown:
        stay = True  # an entry may name them
        raise
    except OSError as error:
        raise StatementFailed(f"nothing was written: {error}") from error
    finally:
        if not stay:
            for file in copied:
                file.unlink(missing_ok=True)


def _copy(source: int, to: Path, mode: int = 0o644) -> None:
    """A copy, never a rename: the sandbox could still hold the file open for writing."""
    with os.fdopen(source, "rb") as read:
        written = os.fdopen(os.open(to, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb")
        try:
            with written:
                shutil.copyfileobj(read, written, _COPY_BYTES)
                written.flush()
                os.fsync(written.fileno())
        except OSError:
            to.unlink(missing_ok=True)
            raise


def _put_if_absent(path: Path, actions: Iterable[dict[str, Any]]) -> bool:
    """link(2) shows the whole entry or nothing, and fails when somebody else's is there."""
    lines = "\n".join(json.dumps(action, separators=(",", ":")) for action in actions)
    scratch = path.parent / f".{uuid.uuid4().hex}.tmp"
    try:
        with open(scratch, "x", encoding="utf-8") as file:
            file.write(lines + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.link(scratch, path)
    except FileExistsError:
        return False
    finally:
        scratch.unlink(missing_ok=True)
    _sync_folder(path.parent)
    return True


def _checkpoint(path: Path, version: int) -> None:
    """A convenience for readers: the version counts without it."""
    if version % CHECKPOINT_EVERY == 0:
        try:
            DeltaTable(str(path)).create_checkpoint()
        except Exception as error:
            log.warning("sandbox.no_checkpoint", table=str(path), version=version, error=str(error))


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _file_name(grant_id: str) -> str:
    """A grant's id as the name of a file. Ids that are no plain words name nothing here."""
    if not _PLAIN.fullmatch(grant_id):
        raise StatementRefused("grant.id", f"{grant_id!r} is no id of a grant")
    return grant_id

"""Files with one atomic operation: put if absent. On a local file system that is write, link; and fsync for `disk`."""

from __future__ import annotations

import errno
import fcntl
import os
import random
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from bus.errors import UnfitStore
from bus.log.spares import Spares

Durability = Literal["os", "disk"]
#: Where a table lives: a folder, or the URL of a place in an object store.
Location = Path | str


def within(location: Location, name: str) -> Location:
    """A place below another."""
    return location / name if isinstance(location, Path) else f"{location.rstrip('/')}/{name}"


@dataclass(frozen=True)
class Pace:
    """Seconds between looks for something new: the shortest while it is busy, growing to the longest while it is not."""

    busy: float
    idle: float

    def __post_init__(self) -> None:
        if not 0 < self.busy <= self.idle:
            raise ValueError(f"a pace goes from short to long, not from {self.busy} s to {self.idle} s")


#: Syncs of data files, beside those of the entries that name them.
_SYNCS = ThreadPoolExecutor(4, thread_name_prefix="disk-sync")
#: Seconds a writer waits for its turn at most: longer than a large commit takes on a busy machine, or two of them race, and
#: one has encoded and signed for nothing. And the same once a holder was not done by then, as one that was stopped.
PATIENCE = 0.25
IMPATIENCE = 0.001
#: Bytes of a file that are read at once: more than nearly every entry has.
_ONE_READ = 32_768
#: What link(2) says where there are no hard links.
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}


@dataclass(frozen=True, slots=True)
class Listed:
    """A file of a listing. `modified_ms`: by the store's clock, milliseconds since 1970."""

    path: str
    size: int
    modified_ms: int


Listing = list[Listed]


class Store(Protocol):
    """What the log asks of the place where it lives. Paths are relative to the table."""

    #: How any Delta reader names this place.
    uri: str
    #: How often to look for something new, where nothing tells us.
    pace: Pace
    #: The folder whose changes the system tells us of; None where only looking helps.
    watched: Path | None
    #: Whether a listing costs no more than asking for one file.
    lists_at_once: bool

    def check(self) -> None:
        """Raises UnfitStore when this place does not keep the promise of `put_if_absent`."""
        ...

    def put(self, path: str, data: bytes) -> None: ...

    def put_if_absent(self, path: str, data: bytes) -> bool:
        """True: the file is there with our bytes. False: somebody else's file is there."""
        ...

    def replace(self, path: str, data: bytes) -> None:
        """For the few names whose content changes: readers see the old file or the new one, whole."""
        ...

    def turn(self) -> AbstractContextManager[None]:
        """Where writers can line up, waits a little for one's turn to commit. A courtesy: nothing is promised by it."""
        ...

    def get(self, path: str) -> bytes | None: ...

    def exists(self, path: str) -> bool: ...

    def names(self, folder: str, after: str = "") -> Sequence[str]:
        """Of the files in a folder, in no order; only those above `after`."""
        ...

    def list(self, prefix: str = "") -> Listing:
        """Every file below the folder `prefix`, at any depth, in no order; a listing is no snapshot."""
        ...

    def delete(self, path: str) -> None:
        """A file that is not there is deleted already."""
        ...


class LocalStore:
    """The file system of this machine.

    `durability="os"`: survives the death of the process. `"disk"`: files and their folders are fsynced before an append
    is acknowledged, so it survives the loss of power as well.
    """

    pace = Pace(busy=0.001, idle=0.02)
    lists_at_once = False

    def __init__(self, root: Path, durability: Durability = "os") -> None:
        self.root = root
        self.uri = str(root)
        self.watched: Path | None = root / "_delta_log"
        self.durability = durability
        # Hidden from every Delta reader (leading underscore), on the same file system, so that link(2) works.
        self._scratch = f"{root}/_tailrace/tmp"
        self._spares = Spares(self._scratch)
        self._known_folders: set[str] = set()
        self._thread = threading.local()
        self._turnstile: int | None = None
        self._patience = PATIENCE

    def check(self) -> None:
        """Nothing to try: where link(2) is missing, the first entry cannot be written at all."""

    def put(self, path: str, data: bytes) -> None:
        """For names that nobody else uses (data files with a random name): no link needed."""
        folder = self._folder_of(path)
        target = f"{self.uri}/{path}"
        # It has to be on the disk before an entry names it, not before the entry is written beside it: the two syncs
        # share what the disk does for them. `put_if_absent` waits for it.
        self._place(data, lambda scratch: os.rename(scratch, target), sync=False)
        if self.durability == "disk":
            self._under_way().append(_SYNCS.submit(self._sync, target, folder))

    def put_if_absent(self, path: str, data: bytes) -> bool:
        folder = self._folder_of(path)
        target = f"{self.uri}/{path}"

        def link(scratch: str) -> None:
            self._wait_for_syncs()
            # link(2) fails when the name exists, and shows the whole file or nothing: the put-if-absent of POSIX.
            os.link(scratch, target)
            os.unlink(scratch)

        try:
            self._place(data, link)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno in _NO_LINKS:
                raise UnfitStore(
                    f"the file system of {self.root} has no hard links, and so no way to put a file if absent; "
                    "use another file system, or an object store"
                ) from error
            raise
        self._sync_folder(folder)
        self._spares.refill()
        return True

    def replace(self, path: str, data: bytes) -> None:
        folder = self._folder_of(path)
        self._place(data, lambda scratch: os.replace(scratch, f"{self.uri}/{path}"))
        self._sync_folder(folder)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """A lock of the kernel's, gone with its holder. Without it rivals encode and write what then loses, and one that
        lost loses again; a holder who was stopped is waited for no longer than `PATIENCE`."""
        if self._turnstile is None:
            self._make_folder(f"{self.uri}/_delta_log")
            # The folder itself: no file for it, and nothing that is open for writing.
            self._turnstile = os.open(f"{self.uri}/_delta_log", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            weakref.finalize(self, os.close, self._turnstile)
        deadline = time.monotonic() + self._patience
        ours = False
        while not ours and time.monotonic() < deadline:
            try:
                fcntl.flock(self._turnstile, fcntl.LOCK_EX | fcntl.LOCK_NB)
                ours = True
            except BlockingIOError:
                time.sleep(random.uniform(0.0001, 0.0005))
            except OSError:  # a file system without such locks
                break
        self._patience = PATIENCE if ours else IMPATIENCE
        try:
            yield
        finally:
            if ours:
                fcntl.flock(self._turnstile, fcntl.LOCK_UN)

    def get(self, path: str) -> bytes | None:
        # Paths as text, here and where it writes, and no file object: both cost more than the system calls.
        try:
            descriptor = os.open(f"{self.uri}/{path}", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            data = os.read(descriptor, _ONE_READ)
            if len(data) < _ONE_READ:
                return data
            with open(descriptor, "rb", buffering=0, closefd=False) as file:
                return data + file.read()
        finally:
            os.close(descriptor)

    def exists(self, path: str) -> bool:
        return os.path.exists(f"{self.uri}/{path}")

    def names(self, folder: str, after: str = "") -> Sequence[str]:
        try:
            found = os.listdir(self.root / folder)
            return [name for name in found if name > after] if after else found
        except FileNotFoundError:
            return []

    def list(self, prefix: str = "") -> Listing:
        found: Listing = []
        for folder, _, names in os.walk(self.root / prefix):
            for name in names:
                file = Path(folder, name)
                try:
                    there = file.stat()
                except FileNotFoundError:
                    continue  # deleted since its folder was read
                found.append(
                    Listed(file.relative_to(self.root).as_posix(), there.st_size, there.st_mtime_ns // 1_000_000)
                )
        return found

    def delete(self, path: str) -> None:
        with suppress(FileNotFoundError):
            os.unlink(self.root / path)

    def _under_way(self) -> list[Future[None]]:
        """Syncs that the next entry of this thread has to wait for."""
        found: list[Future[None]] = self._thread.__dict__.setdefault("syncs", [])
        return found

    def _wait_for_syncs(self) -> None:
        """Raises OSError when one failed; its file is gone then."""
        syncs = self._under_way()
        while syncs:
            syncs.pop().result()

    def _sync(self, target: str, folder: str) -> None:
        try:
            descriptor = os.open(target, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            self._sync_folder(folder)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(target)
            raise

    def _place(self, data: bytes, place: Callable[[str], None], sync: bool = True) -> None:
        """Write a scratch file, and have it put where it belongs; nothing of it stays behind when that fails."""
        self._make_folder(self._scratch)
        scratch, descriptor = self._spares.take()
        try:
            self._fill(descriptor, data, sync)
            place(scratch)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(scratch)  # a full disk must not leave half a file behind
            raise

    def _fill(self, descriptor: int, data: bytes, sync: bool) -> None:
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
            if self.durability == "disk" and sync:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _folder_of(self, path: str) -> str:
        folder = f"{self.uri}/{path.rpartition('/')[0]}"
        self._make_folder(folder)
        return folder

    def _make_folder(self, name: str) -> None:
        if name in self._known_folders:
            return
        folder = Path(name)
        made = [one for one in (folder, *folder.parents) if not one.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        for one in made or [folder]:  # one that is there may have been made this moment by somebody who has not synced
            self._sync_folder(str(one.parent))
        self._known_folders.add(name)

    def _sync_folder(self, folder: str) -> None:
        if self.durability != "disk":
            return
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

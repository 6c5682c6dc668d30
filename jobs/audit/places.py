"""Where anchors are kept elsewhere: a file, a server, an object store. Each anchor is added, none is ever written again."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from bus.errors import BusError
from bus.log.object_store import open_store

#: Seconds a server has to answer.
PATIENCE_S = 30.0


class CannotAnchor(RuntimeError):
    """A place for anchors cannot be read or written, or what it holds contradicts the log; the message names the remedy."""


class AnchorPlace(Protocol):
    """`name`: for messages."""

    name: str

    def lines(self) -> Sequence[str]:
        """All anchors there in order, one JSON document each; none when there is no such place yet. Raises CannotAnchor."""
        ...

    def append(self, number: int, line: str) -> None:
        """Raises CannotAnchor."""
        ...


def place_of(text: str) -> AnchorPlace:
    """A file's path, http(s)://..., or what an object store is named by: s3://, az://, gs://."""
    if text.startswith(("http://", "https://")):
        return _Server(text)
    if "://" in text:
        return _Bucket(text)
    return _File(Path(text))


class _File:
    """JSON lines. A line that was cut off stays as it is, and the next begins a new one."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._path = path

    def lines(self) -> Sequence[str]:
        try:
            return [line for line in self._path.read_text(encoding="utf-8").split("\n") if line.strip()]
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as error:
            raise CannotAnchor(f"the anchors in {self._path} cannot be read: {error}") from error

    def append(self, number: int, line: str) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with open(self._path, "ab") as file:
                cut_off = file.tell() > 0 and self._path.read_bytes()[-1:] != b"\n"
                file.write(b"\n" * cut_off + line.encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise CannotAnchor(f"the anchor cannot be written to {self._path}: {error.strerror or error}") from error


class _Server:
    """POST adds an anchor; GET gives all of them, one a line."""

    def __init__(self, url: str) -> None:
        self.name = url
        self._url = url

    def lines(self) -> Sequence[str]:
        try:
            text = self._ask("GET", None)
        except urllib.error.HTTPError as error:
            if error.code in (404, 405, 410):
                return []
            raise self._cannot("read", error) from error
        except (OSError, ValueError) as error:
            raise self._cannot("read", error) from error
        return [line for line in text.split("\n") if line.strip()]

    def append(self, number: int, line: str) -> None:
        try:
            self._ask("POST", line.encode() + b"\n")
        except (OSError, ValueError) as error:
            raise self._cannot("written", error) from error

    def _ask(self, method: str, data: bytes | None) -> str:
        headers = {"Content-Type": "application/json"} if data else {}
        request = urllib.request.Request(self._url, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            return str(answer.read().decode("utf-8"))

    def _cannot(self, what: str, error: Exception) -> CannotAnchor:
        reason = f"the server said {error.code}" if isinstance(error, urllib.error.HTTPError) else str(error)
        return CannotAnchor(f"anchors cannot be {what} at {self._url}: {reason}")


class _Bucket:
    """One object an anchor, put only if there is none of its number: a store with object lock keeps it for good."""

    def __init__(self, url: str) -> None:
        self.name = url
        self._url = url

    def lines(self) -> Sequence[str]:
        try:
            store = open_store(self._url)
            names = sorted(name for name in store.names("anchors") if name.endswith(".json"))
            found = [store.get(f"anchors/{name}") for name in names]
        except (BusError, OSError) as error:
            raise CannotAnchor(f"the anchors at {self._url} cannot be read: {error}") from error
        return [data.decode().strip() for data in found if data is not None]

    def append(self, number: int, line: str) -> None:
        try:
            added = open_store(self._url).put_if_absent(f"anchors/{number:010d}.json", line.encode() + b"\n")
        except (BusError, OSError) as error:
            raise CannotAnchor(f"the anchor cannot be written to {self._url}: {error}") from error
        if not added:
            raise CannotAnchor(
                f"there is an anchor number {number} at {self._url} already, and anchors are not rewritten"
            )

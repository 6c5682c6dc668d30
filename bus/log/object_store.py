"""An object store as the place of a log: put if absent is a conditional put, and an unclear answer is settled by reading.

Azure and S3, through obstore. Accounts, keys and endpoints come from the environment variables that obstore and
deltalake read (AZURE_*, AWS_*), so that every other reader of the same table is configured alike.
"""

from __future__ import annotations

import os
import random
import re
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bus.errors import BusError, StoreRefused, StoreUnavailable, UnfitStore
from bus.log.store import Durability, Listed, Listing, LocalStore, Location, Pace, Store

#: What a URL may begin with. Others (gs, r2, ...) have not been tried with the contract suite.
SCHEMES = {"az": "AZURE", "azure": "AZURE", "abfs": "AZURE", "abfss": "AZURE", "s3": "AWS", "s3a": "AWS"}
#: Each look is a request that is paid for.
REMOTE_PACE = Pace(busy=0.05, idle=0.5)

_TIMEOUTS = {"timeout": "10s", "connect_timeout": "3s"}
_RETRIES = {
    "max_retries": 3,
    "retry_timeout": timedelta(seconds=15),
    "backoff": {"init_backoff": timedelta(milliseconds=50), "max_backoff": timedelta(seconds=2), "base": 2},
}
_PERFORMING = re.compile(r"Error performing (?P<request>\w+ \S+) in .*? - (?P<outcome>.*)")
#: Seconds between our own tries of a put whose outcome nobody knows.
_WAITS = (0.05, 0.2, 1.0, 3.0)


def open_store(location: Location, durability: Durability = "os", pace: Pace | None = None) -> Store:
    """The store of a folder or of a URL. Raises UnfitStore for a URL of a kind not known here."""
    if isinstance(location, Path):
        return LocalStore(location, durability)
    if "://" not in location:
        return LocalStore(Path(location), durability)
    return ObjectStore(location, pace or REMOTE_PACE)


def check_url(url: str) -> str:
    """The URL without a slash at its end. Raises UnfitStore, saying what is allowed."""
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES or not parts.netloc:
        raise UnfitStore(
            f"{url} is no place for tables: expected az://container/prefix, abfss://container@account.dfs.core.windows.net/prefix"
            " or s3://bucket/prefix"
        )
    if parts.query or parts.fragment or parts.password:
        raise UnfitStore(
            "the URL of the tables holds nothing but container and prefix; secrets belong in AZURE_* or AWS_*"
        )
    return url.rstrip("/")


class ObjectStore:
    """Everything below one URL. An object is durable when it is acknowledged, so there is no `durability` to choose."""

    watched = None
    lists_at_once = True

    def __init__(
        self,
        url: str,
        pace: Pace = REMOTE_PACE,
        sleep: Callable[[float], None] = time.sleep,
        objects: Any = None,
    ) -> None:
        """`objects`: any store of obstore instead of the one that the URL names."""
        self.uri = check_url(url)
        self.pace = pace
        self._variables = SCHEMES[urlsplit(url).scheme]
        self._sleep = sleep
        if objects is None:
            # Options of our own switch off the client's look at this variable, which deltalake still takes.
            allow_http = os.environ.get(f"{self._variables}_ALLOW_HTTP", "").lower() == "true"
            with self._explained(""):
                objects = _connect(self.uri, allow_http)
        self._objects = objects

    def check(self) -> None:
        """Put one name twice: the second must be refused, whatever the documentation of the place says."""
        probe = f"_tailrace/probe-{uuid.uuid4().hex}"
        self.put_if_absent(probe, b"first")
        try:
            with self._explained(probe):
                self._create(probe, b"second")
        except FileExistsError:
            return
        finally:
            self.delete(probe)
        raise UnfitStore(
            f"{self.uri} overwrites an object that was to be put only if absent, so two writers could both believe to have "
            "won; nothing was written. Use a store that honours If-None-Match (Azure Blob, S3, MinIO since 2024)"
        )

    # --- writing -----------------------------------------------------------------------------------------------------

    def put(self, path: str, data: bytes) -> None:
        with self._explained(path):
            self._put(path, data)

    def replace(self, path: str, data: bytes) -> None:
        self.put(path, data)

    def put_if_absent(self, path: str, data: bytes) -> bool:
        """As every store does it: the bytes are whose they are, so they must differ from what a rival would put.

        `False` is never believed before it is read back: a try whose answer got lost makes the next one find its own
        object, here or inside the client that retries by itself.
        """
        for wait in (*_WAITS, None):
            try:
                with self._explained(path):
                    self._create(path, data)
                return True
            except FileExistsError:
                return self.get(path) == data
            except StoreRefused:
                raise
            except OSError:
                with suppress(StoreUnavailable):
                    there = self.get(path)
                    if there is not None:
                        return there == data
                if wait is None:
                    raise
            self._sleep(wait * random.uniform(0.5, 1.5))
        raise AssertionError("unreachable: the last try returns or raises")

    def delete(self, path: str) -> None:
        import obstore

        try:
            with self._explained(path):
                obstore.delete(self._objects, path)
        except FileNotFoundError:
            return

    # --- reading -----------------------------------------------------------------------------------------------------

    def turn(self) -> AbstractContextManager[None]:
        return nullcontext()

    def get(self, path: str) -> bytes | None:
        import obstore

        try:
            with self._explained(path):
                return obstore.get(self._objects, path).bytes().to_bytes()
        except FileNotFoundError:
            return None

    def exists(self, path: str) -> bool:
        import obstore

        try:
            with self._explained(path):
                obstore.head(self._objects, path)
        except FileNotFoundError:
            return False
        return True

    def names(self, folder: str, after: str = "") -> Sequence[str]:
        above = f"{folder}/{after}"
        found = self._listed(folder, above if after else None)
        # Not every place honours the offset (azurite does not).
        below = (one["path"] for one in found if one["path"] > above)
        return [name for path in below if "/" not in (name := path.removeprefix(f"{folder}/"))]

    def list(self, prefix: str = "") -> Listing:
        return [
            Listed(one["path"], one["size"], int(one["last_modified"].timestamp() * 1000))
            for one in self._listed(prefix.rstrip("/") or None, None)
        ]

    def _listed(self, prefix: str | None, offset: str | None) -> list[Any]:
        import obstore

        with self._explained(prefix or ""):
            return list(obstore.list(self._objects, prefix, offset=offset).collect())

    # --- requests ----------------------------------------------------------------------------------------------------

    def _put(self, path: str, data: bytes) -> None:
        import obstore

        # In one request: a name must never show part of its content.
        obstore.put(self._objects, path, data, use_multipart=False)

    def _create(self, path: str, data: bytes) -> None:
        """Raises FileExistsError, and whatever the client raises."""
        import obstore
        from obstore.exceptions import AlreadyExistsError

        try:
            obstore.put(self._objects, path, data, mode="create", use_multipart=False)
        except AlreadyExistsError as error:
            raise FileExistsError(path) from error

    @contextmanager
    def _explained(self, path: str) -> Iterator[None]:
        """The client's errors as ours, with the remedy."""
        try:
            yield
        except BusError:
            raise
        except (FileNotFoundError, FileExistsError) as error:
            if _says(error, "NoSuchBucket", "ContainerNotFound"):
                raise StoreUnavailable(f"{self.uri}: there is no such bucket or container; create it first") from error
            raise
        except PermissionError as error:
            raise StoreRefused(self._refused(error)) from error
        except Exception as error:
            from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

            if isinstance(error, (PermissionDeniedError, UnauthenticatedError)):
                raise StoreRefused(self._refused(error)) from error
            if isinstance(error, BaseError) and "169.254.169.254" in str(error):
                # Where a machine of the cloud would ask who it is: the last thing tried when nothing else is set.
                raise StoreRefused(
                    f"{self.uri}: no credentials were found; set the {self._variables}_* variables"
                ) from error
            if isinstance(error, BaseError) and "BadScheme" in str(error):
                remedy = f"an endpoint without TLS needs {self._variables}_ALLOW_HTTP=true"
                raise StoreUnavailable(f"{self.uri} cannot be reached: {remedy}") from error
            if isinstance(error, BaseError):
                raise StoreUnavailable(f"{self.uri}/{path} cannot be reached: {_short(error)}") from error
            raise

    def _refused(self, error: BaseException) -> str:
        return f"{self.uri} refuses us ({_short(error)}); check the {self._variables}_* environment variables"


def _connect(url: str, allow_http: bool) -> Any:
    try:
        from obstore.store import from_url
    except ImportError as error:
        raise StoreUnavailable("tables in an object store need the package obstore: pip install obstore") from error
    return from_url(url, client_options={**_TIMEOUTS, "allow_http": allow_http}, retry_config=_RETRIES)


def _says(error: BaseException, *codes: str) -> bool:
    text = str(error)
    return any(code in text for code in codes)


def _short(error: BaseException) -> str:
    """What the client says in a page, in a line: the request and what came of it."""
    text = " ".join(str(error).split("\n\nDebug source")[0].split())
    if found := _PERFORMING.search(text):
        request, outcome = found["request"], found["outcome"].strip(": ")
        return f"{outcome} ({request})"[:300]
    return text[:300]

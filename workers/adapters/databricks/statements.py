"""Statements on a SQL warehouse: submitted, followed to their end, and fetched, by the real SDK.

Three traps of the API are dealt with here. Failed SQL is an answer with HTTP 200, so the state decides, never the code. Values
come as strings or null. And the SDK repeats a POST whose connection broke, which for a statement that writes would be a
second effect: such a statement goes out as a stream that cannot be rewound, which the SDK sends once.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workers.ports import OutcomeUnknown, StatementFailed

if TYPE_CHECKING:
    from databricks.sdk import WorkspaceClient

PATH = "/api/2.0/sql/statements"
#: Seconds the first call waits for the result, as the API counts them.
_WAIT = "10s"
#: Seconds between looks at a statement that runs, growing to the last.
_LOOKS = (0.2, 0.5, 1.0, 2.0, 5.0)
_RUNNING = frozenset({"PENDING", "RUNNING"})


@dataclass(frozen=True)
class Answer:
    """Rows as the API gives them, strings or None; `total` may be more than there are here."""

    statement_id: str
    columns: tuple[tuple[str, str], ...]
    rows: tuple[tuple[str | None, ...], ...]
    truncated: bool
    total: int


class _Once(io.RawIOBase):
    """A body that cannot be sent a second time."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def readinto(self, buffer: Any) -> int:
        return self._data.readinto(buffer)


class Statements:
    """One warehouse. Calls block; `sleep` and `clock` are injected, seconds."""

    def __init__(
        self,
        client: WorkspaceClient,
        warehouse_id: str,
        *,
        catalog: str | None = None,
        schema: str | None = None,
        timeout_s: float = 600.0,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api = client.api_client
        self._fixed = {"warehouse_id": warehouse_id, "catalog": catalog, "schema": schema}
        self._timeout_s = timeout_s
        self._sleep, self._clock = sleep, clock

    def read(self, sql: str, row_limit: int | None = None) -> Answer:
        """A statement that changes nothing, so the SDK may repeat it. Raises StatementFailed."""
        document = self._api.do("POST", PATH, body=self._body(sql, row_limit), headers=_JSON)
        return self._finished(document, effect=False)

    def write(
        self, sql: str, tags: dict[str, str], started: Callable[[str], None], row_limit: int | None = None
    ) -> Answer:
        """A statement with an effect: sent once. `started` hears its id. Raises StatementFailed or OutcomeUnknown."""
        from databricks.sdk.errors import DatabricksError, DeadlineExceeded, InternalError, TemporarilyUnavailable

        body = self._body(sql, row_limit) | {
            # The id comes back at once, so that it can be cancelled.
            "wait_timeout": "0s",
            "query_tags": [{"key": key, "value": value} for key, value in tags.items()],
        }
        try:
            document = self._api.do("POST", PATH, data=_Once(json.dumps(body).encode()), headers=_JSON)
        except (InternalError, TemporarilyUnavailable, DeadlineExceeded) as error:
            # Something on the way failed, perhaps behind the warehouse: only a refusal proves that nothing was taken.
            raise OutcomeUnknown(f"the warehouse did not say whether it took the statement: {error}") from error
        except DatabricksError as error:
            raise StatementFailed(f"the warehouse refused it: {error}") from error
        except Exception as error:
            raise OutcomeUnknown(f"the warehouse did not say whether it took the statement: {error}") from error
        started(document["statement_id"])
        return self._finished(document, effect=True)

    def cancel(self, statement_id: str) -> None:
        """Asked for; whether it came in time is in the statement's state."""
        self._api.do("POST", f"{PATH}/{statement_id}/cancel", headers=_JSON)

    def _body(self, sql: str, row_limit: int | None) -> dict[str, Any]:
        body = {
            "statement": sql,
            "wait_timeout": _WAIT,
            "on_wait_timeout": "CONTINUE",
            "disposition": "INLINE",
            "format": "JSON_ARRAY",
            "row_limit": row_limit,
            **self._fixed,
        }
        return {key: value for key, value in body.items() if value is not None}

    def _finished(self, document: dict[str, Any], *, effect: bool) -> Answer:
        statement_id = document["statement_id"]
        deadline = self._clock() + self._timeout_s
        for pause in _pauses():
            state = document["status"]["state"]
            if state not in _RUNNING:
                break
            if self._clock() > deadline:
                self.cancel(statement_id)
                # A cancellation may come too late; only the state at the end says.
                document = self._api.do("GET", f"{PATH}/{statement_id}", headers=_JSON)
                if effect and document["status"]["state"] in _RUNNING:
                    raise OutcomeUnknown(f"it took longer than {self._timeout_s:g} s, and has not ended yet")
                deadline = float("inf")
                continue
            self._sleep(pause)
            document = self._api.do("GET", f"{PATH}/{statement_id}", headers=_JSON)
        if state == "SUCCEEDED":
            return self._answer(document)
        error = document["status"].get("error") or {}
        said = error.get("message") or f"the warehouse says {state}"
        if state == "CLOSED" and effect:
            raise OutcomeUnknown("it ended, and its result was closed before it was fetched")
        raise StatementFailed(" ".join(str(said).split())[:500])

    def _answer(self, document: dict[str, Any]) -> Answer:
        statement_id, manifest = document["statement_id"], document.get("manifest") or {}
        result = document.get("result") or {}
        rows = [tuple(row) for row in result.get("data_array") or ()]
        while (following := result.get("next_chunk_index")) is not None:
            result = self._api.do("GET", f"{PATH}/{statement_id}/result/chunks/{following}", headers=_JSON)
            rows += [tuple(row) for row in result.get("data_array") or ()]
        columns = tuple(
            (one["name"], one.get("type_text", "")) for one in (manifest.get("schema") or {}).get("columns") or ()
        )
        total = manifest.get("total_row_count")
        return Answer(
            statement_id,
            columns,
            tuple(rows),
            bool(manifest.get("truncated")),
            len(rows) if total is None else int(total),
        )


_JSON = {"Accept": "application/json", "Content-Type": "application/json"}


def _pauses() -> Iterator[float]:
    yield from _LOOKS
    while True:
        yield _LOOKS[-1]

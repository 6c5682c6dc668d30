"""What became of the statement that carries a grant, by the warehouse's query history, which is asked by time.

The newest come first, and a warehouse that many use has many newer ones: how many there are says nothing about whether ours
is among them. When it began at the earliest does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from workers.ports import OutcomeUnknown

if TYPE_CHECKING:
    from databricks.sdk import WorkspaceClient
    from databricks.sdk.service.sql import QueryInfo

PROPERTY = "tailrace.grant"
#: Grant, and UTC milliseconds before which it cannot have been used -> state of its statement; None: there is none.
History = Callable[[str, int | None], str | None]

#: What one question may span, which is also how long the history is kept, in milliseconds.
KEPT_MS = 30 * 24 * 3_600_000
#: What the warehouse's clock and ours may differ by.
APART_MS = 3_600_000
#: Statements of one answer; the API wants fewer than a thousand.
PAGE = 999


def mark_of(grant_id: str) -> str:
    """What a statement begins with, so that it is found again."""
    return f"/* {PROPERTY}:{grant_id} */ "


def query_history(client: WorkspaceClient, warehouse_id: str, now: Callable[[], float] = time.time) -> History:
    """Of one warehouse. `now`: seconds."""

    def find(grant_id: str, since_ms: int | None) -> str | None:
        now_ms = int(now() * 1000)
        kept_from = now_ms - KEPT_MS + APART_MS
        begin = kept_from if since_ms is None else since_ms - APART_MS
        if begin < kept_from:
            raise OutcomeUnknown(f"the query history goes back 30 days, and grant {grant_id} is older")
        for one in _started(client, warehouse_id, begin, now_ms + APART_MS):
            if (one.query_text or "").startswith(mark_of(grant_id)):
                return "UNKNOWN" if one.status is None else one.status.value
        return None

    return find


def _started(client: WorkspaceClient, warehouse_id: str, begin_ms: int, end_ms: int) -> Iterator[QueryInfo]:
    """All that began between, newest first."""
    from databricks.sdk.service.sql import QueryFilter, TimeRange

    span = TimeRange(start_time_ms=begin_ms, end_time_ms=end_ms)
    wanted = QueryFilter(warehouse_ids=[warehouse_id], query_start_time_range=span)
    token: str | None = None
    seen: set[str] = set()
    while True:
        page = client.query_history.list(filter_by=wanted, max_results=PAGE, page_token=token)
        for one in page.res or ():
            if one.query_start_time_ms is not None and one.query_start_time_ms < begin_ms:
                return  # should the token have outlived the filter
            yield one
        token = page.next_page_token
        if not page.has_next_page:
            return
        if not token or token in seen:
            raise OutcomeUnknown("the query history says that it goes on, and not where")
        seen.add(token)

"""A server on loopback that speaks Databricks' statement execution API, for the real SDK to talk to."""

from __future__ import annotations

import json
import re
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl

PATH = "/api/2.0/sql/statements"
Rows = Sequence[Sequence[str | None]]


@dataclass
class Script:
    """How the warehouse behaves: the first pattern found in a statement says what it answers.

    An answer is (columns, rows), an error as text, or a function of the statement that returns either. `looks`: how many
    looks a statement takes before it ends. `chunk`: rows of a chunk. `trouble`: what the next requests get instead of an
    answer: (code, headers). `cut`: statements whose connection breaks after they were taken; `lost`: those for which a gateway
    says 504 then.
    """

    answers: list[tuple[str, Any]] = field(default_factory=list)
    looks: int = 0
    chunk: int = 1000
    trouble: list[Any] = field(default_factory=list)
    endless: str = "^$"
    cut: str = "^$"
    lost: str = "^$"
    seen: list[str] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)
    statements: dict[str, dict[str, Any]] = field(default_factory=dict)
    cancelled: list[str] = field(default_factory=list)
    #: Of the query history: when statements begin (UTC milliseconds), and others' statements as (when, text).
    now_ms: int = 0
    others: list[tuple[int, str]] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)

    def submit(self, body: dict[str, Any]) -> dict[str, Any]:
        sql = body["statement"]
        self.seen.append(sql)
        self.requests.append(body)
        statement_id = str(uuid.uuid4())
        answer: Any = ((), ())
        for pattern, said in self.answers:
            if re.search(pattern, sql):
                answer = said(sql) if callable(said) else said
                break
        looks = 10**9 if re.search(self.endless, sql) else self.looks
        self.statements[statement_id] = {"sql": sql, "answer": answer, "looks": looks, "body": body, "state": None}
        self.statements[statement_id]["at"] = self.now_ms
        return self.look(statement_id)

    def look(self, statement_id: str) -> dict[str, Any]:
        one = self.statements[statement_id]
        document: dict[str, Any] = {"statement_id": statement_id}
        if one["state"] is not None:
            return document | {"status": {"state": one["state"]}}
        if one["looks"] > 0 or (one["body"]["wait_timeout"] == "0s" and "asked" not in one):
            one["looks"] -= 1
            one["asked"] = True
            return document | {"status": {"state": "RUNNING"}}
        if isinstance(one["answer"], str):
            error = {"error_code": "BAD_REQUEST", "message": one["answer"]}
            return document | {"status": {"state": "FAILED", "error": error, "sql_state": "42000"}}
        columns, rows = one["answer"]
        limit = one["body"].get("row_limit")
        shown = list(rows if limit is None else rows[:limit])
        manifest = {
            "format": "JSON_ARRAY",
            "schema": {"column_count": len(columns), "columns": [{"name": c, "type_text": "STRING"} for c in columns]},
            "total_row_count": len(shown),
            "truncated": len(shown) < len(rows),
        }
        return document | {
            "status": {"state": "SUCCEEDED"},
            "manifest": manifest,
            "result": self.part(statement_id, shown, 0),
        }

    def queries(self, asked: dict[str, Any]) -> dict[str, Any]:
        """A page of the query history, newest first, as the filter and the token say."""
        self.history.append(asked)
        begin = int(asked.get("filter_by.query_start_time_range.start_time_ms", 0))
        end = int(asked.get("filter_by.query_start_time_range.end_time_ms", 2**62))
        limit, start = int(asked.get("max_results", 100)), int(asked.get("page_token", 0))
        assert limit < 1000
        ours = [(one["at"], one["sql"], one.get("history", "FINISHED")) for one in self.statements.values()]
        found = [*ours, *((at, sql, "FINISHED") for at, sql in self.others)]
        found = sorted((one for one in found if begin <= one[0] <= end), key=lambda one: -one[0])
        res = [{"query_start_time_ms": at, "query_text": sql, "status": state} for at, sql, state in found]
        more = start + limit < len(res)
        return {"res": res[start : start + limit], "has_next_page": more} | (
            {"next_page_token": str(start + limit)} if more else {}
        )

    def part(self, statement_id: str, rows: list[Any], number: int) -> dict[str, Any]:
        self.statements[statement_id]["rows"] = rows
        begin = number * self.chunk
        found = {"chunk_index": number, "row_offset": begin, "data_array": rows[begin : begin + self.chunk]}
        if begin + self.chunk < len(rows):
            found["next_chunk_index"] = number + 1
        return found


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    script: Script

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length")
        data = self._chunks() if length is None else self.rfile.read(int(length))
        if self._troubled():
            return
        if self.path.endswith("/cancel"):
            statement_id = self.path.split("/")[-2]
            self.script.cancelled.append(statement_id)
            self.script.statements[statement_id]["state"] = "CANCELED"
            self._say({})
        else:
            document = self.script.submit(body := json.loads(data))
            if re.search(self.script.cut, body["statement"]):
                self.close_connection = True
                self.connection.close()
                return
            if re.search(self.script.lost, body["statement"]):
                self._say({"error_code": "DEADLINE_EXCEEDED", "message": "the gateway waited too long"}, 504)
                return
            self._say(document)

    def do_GET(self) -> None:
        if not self.path.startswith("/api/2.0/sql/"):  # the SDK asks what the host is
            self._say({"error_code": "NOT_FOUND", "message": "no such page"}, 404)
            return
        if self._troubled():
            return
        parts = self.path.partition("?")[0].removeprefix(PATH).strip("/").split("/")
        if "/history/" in self.path:
            self._say(self.script.queries(dict(parse_qsl(self.path.partition("?")[2]))))
        elif len(parts) == 4:
            one = self.script.statements[parts[0]]
            self._say(self.script.part(parts[0], one["rows"], int(parts[3])))
        else:
            self._say(self.script.look(parts[0]))

    def _troubled(self) -> bool:
        if not self.script.trouble:
            return False
        trouble = self.script.trouble.pop(0)
        code, headers = trouble
        self._say({"error_code": "SOMETHING", "message": f"answer {code}"}, code, headers)
        return True

    def _chunks(self) -> bytes:
        data = b""
        while size := int(self.rfile.readline().strip() or b"0", 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return data

    def _say(self, document: Any, code: int = 200, headers: Any = None) -> None:
        data = json.dumps(document).encode()
        self.send_response(code)
        for name, value in {
            "Content-Type": "application/json",
            "Content-Length": str(len(data)),
            **(headers or {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        return


@contextmanager
def warehouse(script: Script) -> Iterator[str]:
    """The URL of a running server."""
    handler: Callable[..., Any] = type("Handler", (_Handler,), {"script": script})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

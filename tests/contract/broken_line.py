"""A line between a client and a server that breaks where it is told to: the request never arrives, or the answer does not."""

from __future__ import annotations

import select
import socket
import threading
from types import TracebackType
from typing import Self


class Line:
    """A relay on a port of its own. What it breaks are appends to a log: PUT of an entry, and nothing else."""

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        self._how = "nothing"
        self._once: set[bytes] = set()
        self.broken = 0
        self._lock = threading.Lock()

    def breaks(self, how: str) -> None:
        """nothing | question: the next one | answer: the next one | every answer once | every answer | everything: all there is."""
        with self._lock:
            self._how = how

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._relay, args=(client,), daemon=True).start()

    def _relay(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._server_port)) as server:
            doomed = False
            while True:
                ready, _, _ = select.select([client, server], [], [])
                for source in ready:
                    try:
                        data = source.recv(1 << 16)
                    except OSError:
                        return
                    if not data:
                        return
                    if source is client:
                        fate = self._fate(data)
                        if fate == "question":
                            return
                        doomed = doomed or fate == "answer"
                        server.sendall(data)
                    elif doomed:
                        return
                    else:
                        client.sendall(data)

    def _fate(self, data: bytes) -> str:
        head = data.split(b"\r\n", 1)[0]
        entry = head.startswith(b"PUT ") and b"/_delta_log/" in head
        with self._lock:
            if self._how == "everything":
                return "question"
            if not entry or self._how == "nothing":
                return ""
            if self._how.startswith("every answer"):
                if head in self._once and self._how == "every answer once":
                    return ""
                self._once.add(head)
                self.broken += 1
                return "answer"
            fate, self._how = self._how, "nothing"
            self.broken += 1
            return fate

"""The sandboxed process: gives up every right it does not need, starts Spark, and serves one request at a time."""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workers.adapters.sandbox import protocol, reach
from workers.ports import PortError, StatementFailed

if TYPE_CHECKING:
    from workers.adapters.sandbox.executor import Executor

#: Seconds without a request after which the child uses the time for itself.
IDLE_S = 0.2


def main() -> None:
    settings = json.loads(sys.argv[1])
    answers = _own_output()
    try:
        network = reach.leave_network()
        home, scratch = Path(settings["home"]), Path(settings["scratch"])
        abi = reach.restrict(home, scratch, network) if settings["protect"] else 0
        sockets = abi > 0 and reach.close_sockets()
    except OSError as error:
        answers.write(protocol.encode({"error": "failed", "reason": f"the sandbox could not be closed: {error}"}))
        raise SystemExit(1) from error
    answers.write(protocol.encode({"ready": True, "abi": abi, "network": network, "sockets": sockets}))
    Child(settings, answers).serve()


def _own_output() -> Any:
    """Standard output for answers alone: whatever a library or the JVM prints goes to standard error."""
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    return answers


class Child:
    def __init__(self, settings: dict[str, Any], answers: Any) -> None:
        self._settings = settings
        self._answers = answers
        self._requests: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._executor: Executor | None = None

    def serve(self) -> None:
        threading.Thread(target=self._listen, name="requests", daemon=True).start()
        while True:
            request = json.loads(self._next_request())
            number = request["id"]
            try:
                answer = {"id": number, "answer": self._answer(request)}
            except PortError as error:
                answer = {"id": number, **protocol.error_document(error)}
            except Exception as error:  # the parent must hear of it, and of nothing else
                if self._executor is not None and not self._executor.lives():
                    os._exit(1)  # no answer: what a dead Spark had begun is not for us to judge
                answer = {"id": number, **protocol.error_document(StatementFailed(_unexpected(error)))}
            self._answers.write(protocol.encode(answer))

    def _next_request(self) -> bytes:
        """The next line; while nobody asks, tables are loaded that somebody may ask for."""
        while self._executor is not None:
            try:
                return self._requests.get(timeout=IDLE_S)
            except queue.Empty:
                if not self._executor.load_next():
                    break
        return self._requests.get()

    def _answer(self, request: dict[str, Any]) -> Any:
        executor = self._started()
        match request["ask"]:
            case "warm":
                return executor.warm()
            case "dry_run":
                return executor.dry_run(request["sql"], request["target"])
            case "run":
                return executor.run(
                    request["sql"],
                    request["target"],
                    request["grant_id"],
                    request["row_limit"],
                    request["digest"],
                )
        raise StatementFailed(f"{request['ask']!r} is no request of this engine")

    def _started(self) -> Executor:
        if self._executor is None:
            # Spark is imported inside the restriction, so that all it does on import is held to it as well.
            from workers.adapters.sandbox.start import start_executor

            self._executor = start_executor(self._settings)
        return self._executor

    def _listen(self) -> None:
        """Requests come in here, also while Spark works: the end of the input means that nobody waits for us any more."""
        with os.fdopen(os.dup(0), "rb") as requests:
            for line in requests:
                self._requests.put(line)
        if os.getpgrp() == os.getpid():
            os.killpg(0, signal.SIGKILL)
        os._exit(1)


def _unexpected(error: Exception) -> str:
    said = str(error).strip().splitlines()
    return f"{type(error).__name__}: {said[0] if said else 'no message'}"[:500]


if __name__ == "__main__":
    main()

"""The audit names a commit whose entry and data file say different rows."""

from __future__ import annotations

from jobs.audit import verify
from jobs.bootstrap import System
from schemas.payloads import Ask
from schemas.tables import AGENT_MESSAGES


def test_an_entry_that_says_other_rows_than_its_file_is_named(home: System) -> None:
    with home.client("ana") as client:
        client.send("RAGAgent", Ask(question="how are sales defined?"))
    assert verify(home).ok
    log = home.log(AGENT_MESSAGES.name)
    path = log.path / f"_delta_log/{log.head():020d}.json"
    said = path.read_text()
    assert "how are sales defined?" in said
    path.write_text(said.replace("how are sales defined?", "who earns how much?"))
    (problem,) = verify(home).problems
    assert (problem.rule, problem.where) == ("log.entry", f"version {log.head()}")

from __future__ import annotations

from jobs.replay import ReplayRequest, replay
from tests.unit.replay.conftest import Recorded
from tests.unit.replay.recorded import replays, versions


async def test_todays_code_does_today_what_it_did(recorded: Recorded) -> None:
    before = versions(recorded.system)
    report = await replay(recorded.system, ReplayRequest())
    assert [one.document() for one in report.notable] == []
    assert set(report.verdicts) == {"same"}
    agents = {agent for agent, _, _ in report.counts}
    assert agents == {"OrchestratorAgent", "RAGAgent", "CodeAgent", "GovernanceAgent", "ExecutionAgent"}
    assert versions(recorded.system) == before
    assert len(replays(recorded.system)) == report.total

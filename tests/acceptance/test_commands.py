"""The life of a home on the tail engine, by commands alone: from `init` to a verified audit trail. In this order."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from tests.acceptance.conftest import Shell

EXECUTE = "Execute SQL to find the top 10 customers by sales and save it to table top_customers"
SALES = "How are sales defined, and which discounts count?"
TOP = "What are the top 10 customers by sales?"

pytestmark = pytest.mark.timeout(400)


def test_init_makes_a_home_and_a_second_time_keeps_it(shell: Shell) -> None:
    first = shell("init", "--json")
    assert (first.code, first.json["existed"]) == (0, False), first.err
    assert first.json["users"] == ["ada", "ana", "eli", "kim"]
    ring = (shell.home / "keys" / "keyring.json").read_bytes()
    again = shell("init")
    assert again.code == 0
    assert "is ready" in again.out
    assert (shell.home / "keys" / "keyring.json").read_bytes() == ring


def test_the_doctor_finds_nothing_to_mend(shell: Shell) -> None:
    found = shell("doctor", "--json")
    assert [c for c in found.json["checks"] if c["level"] == "fail"] == []
    assert found.code == 0


def test_a_question_starts_what_it_needs_and_stops_it_again(shell: Shell) -> None:
    said = shell("ask", SALES, "--as", "ana", "--json")
    assert (said.code, said.json["status"]) == (0, "answered"), said.err
    assert said.json["sources"][0]["document"] == "sales"
    assert "starting main (tail engine)" in said.err
    assert "execution" not in said.err
    assert {one["state"] for one in shell("agents", "--json").json} == {"stopped"}


def test_an_execution_waits_for_a_person_and_goes_on_when_there_is_one(shell: Shell) -> None:
    pending = shell("ask", EXECUTE, "--as", "eli", "--no-wait-approval", "--json")
    assert (pending.code, pending.json["status"]) == (0, "pending_approval"), pending.err
    conversation = pending.json["correlation_id"]
    (approval,) = shell("approvals", "list", "--json").json

    own = shell("approvals", "approve", approval["approval_id"], "--as", "eli", "--json")
    yes = shell("approvals", "approve", approval["approval_id"], "--as", "ada", "--json")
    assert (own.json["accepted"], yes.json["accepted"]) == (None, None)  # governance does not run

    said = shell("wait", conversation, "--json")
    assert (said.code, said.json["status"]) == (0, "answered"), said.err
    result = said.json["result"]
    assert (result["table"], len(result["rows"])) == ("results.top_customers", 10)
    traced = shell("trace", conversation, "--json").json
    verdicts = [m["content"]["rule"] for m in traced["messages"] if m["kind"] == "DecisionAnswered"]
    assert verdicts == ["approval.own_request", "execution.four_eyes"]


def test_the_analyst_gets_the_published_result_and_may_not_run_anything(shell: Shell) -> None:
    found = shell("ask", TOP, "--as", "ana", "--json")
    assert (found.code, found.json["result"]["table"]) == (0, "results.top_customers"), found.err
    assert "approved by ada" in found.json["answer"]
    refused = shell("ask", EXECUTE, "--as", "ana")
    assert refused.code == 3
    assert "rule rbac.sql.execute" in refused.out


def test_hosts_run_until_they_are_told_to_stop(shell: Shell) -> None:
    up = shell.start("up", "--engine", "tail", "--json")
    said: list[str] = []
    assert up.stderr is not None
    reader = threading.Thread(target=lambda: said.extend(up.stderr or ()))
    reader.start()
    try:
        deadline = time.monotonic() + 120
        while not any("all agents are ready" in line for line in said):
            assert up.poll() is None, said
            assert time.monotonic() < deadline, said
            time.sleep(0.1)
        agents = {one["agent"]: one for one in shell("agents", "--json").json}
        assert {agents[name]["state"] for name in ("OrchestratorAgent", "GovernanceAgent", "ExecutionAgent")} == {
            "ready"
        }
        assert shell("up", "--json").code == 0  # everything runs already
        fast = shell("ask", "Generate SQL for sales by region", "--as", "eli", "--json", "--no-start")
        assert (fast.code, fast.json["code"]["language"]) == (0, "sql"), fast.err
        assert heavy_imports_of(shell, "ask", "Generate SQL for sales by region", "--as", "eli") == ""
        already = shell("worker", "execution")  # one a machine: what it writes to has one writer
        assert already.code == 1
        assert "runs already" in already.err
    finally:
        up.send_signal(signal.SIGTERM)
        out, _ = up.communicate(timeout=60)
        reader.join()
    assert up.returncode == 0
    assert '"hosts"' in out
    assert {one["state"] for one in shell("agents", "--json").json} == {"stopped"}


def heavy_imports_of(shell: Shell, *words: str) -> str:
    """What a command loaded that takes long to load."""
    program = (
        "import sys\nfrom apps.cli.main import app\n"
        f"try: app({list(words)!r})\nexcept SystemExit as end: assert end.code == 0, end.code\n"
        "print(*({'pyspark', 'deltalake', 'sqlglot'} & set(sys.modules)), file=sys.stderr, sep='')"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=shell.environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr.splitlines()[-1]


def test_a_worker_runs_in_the_foreground_and_drains(shell: Shell) -> None:
    worker = shell.start("worker", "rag", "--engine", "tail")
    deadline = time.monotonic() + 60
    while {one["agent"]: one["state"] for one in shell("agents", "--json").json}["RAGAgent"] != "ready":
        assert worker.poll() is None, worker.communicate()
        assert time.monotonic() < deadline
    os.kill(worker.pid, signal.SIGINT)
    worker.communicate(timeout=60)
    assert worker.returncode == 0


def test_a_host_that_cannot_start_is_explained(shell: Shell) -> None:
    key = shell.home / "keys" / "private" / "host-main.pem"
    kept = key.read_bytes()
    key.unlink()
    try:
        said = shell("ask", SALES, "--as", "ana", "--timeout", "60")
    finally:
        key.write_bytes(kept)
        key.chmod(0o600)
    assert said.code == 1
    assert "host main ended" in said.err
    assert "Traceback" not in said.err.split("host main ended")[0]


def test_at_the_end_the_audit_trail_holds(shell: Shell) -> None:
    verified = shell("audit", "verify", "--json")
    assert verified.json["problems"] == []
    assert verified.code == 0
    assert verified.json["checked"]["grants"] == 1
    (effect,) = shell("executions", "--json").json
    assert (effect["step"], effect["row_count"], effect["approved_by"]) == ("done", 10, "ada")

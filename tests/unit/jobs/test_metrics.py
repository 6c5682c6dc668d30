"""Metrics as Prometheus gets them: over HTTP, from a home that upkeep keeps in shape."""

from __future__ import annotations

import re
import shutil
import socket
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from bus.keys import create_keys
from bus.log.bus import LogBus
from config.settings import Settings
from jobs import metrics as module
from jobs import upkeep as job
from jobs.agents import UPKEEP, find
from jobs.bootstrap import System
from jobs.metrics import CannotServe, Metrics, served
from schemas.envelope import Message
from schemas.payloads import Ask, Receipt
from schemas.tables import AGENT_MESSAGES, TABLES
from tests.fakes import ManualClock

LINE = re.compile(r"^([a-z_]+)(?:\{([^}]*)\})? ([-+0-9.eE]+)$")


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home as it is made; each test gets a copy."""
    system = System(Settings.load(home=str(tmp_path_factory.mktemp("fresh") / "home")))
    holders = {"host-main": ["RAGAgent"], "upkeep": [UPKEEP], "user-ana": ["user:ana"]}
    create_keys(system.home.keys, holders, 0)
    for name in TABLES:
        system.log(name).create()
    return system.home.root


@pytest.fixture
def system(fresh: Path, tmp_path: Path) -> System:
    shutil.copytree(fresh, tmp_path / "home")
    return System(Settings.load(home=str(tmp_path / "home")), ManualClock())


@pytest.fixture
def rag(system: System) -> Iterator[LogBus]:
    bus = system.bus([find("rag")])
    yield bus
    bus.close()


@pytest.fixture
def metrics(system: System, monkeypatch: pytest.MonkeyPatch) -> Metrics:
    monkeypatch.setattr(module, "FRESH_S", 0.0)
    monkeypatch.setattr(module, "COUNT_AGAIN_S", 0.0)
    return Metrics(system)


def scraped(metrics: Metrics, text: str | None = None) -> dict[str, dict[str, float]]:
    """Name -> labels as they stand there -> value. The dead are counted beside the first answer, and are in the next."""
    if text is None:
        generate_latest(metrics.registry)
        metrics.close()
    text = generate_latest(metrics.registry).decode() if text is None else text
    found: dict[str, dict[str, float]] = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            name, labels, value = LINE.match(line).groups()
            found.setdefault(name, {})[labels] = float(value)
    return found


def ask(system: System) -> Message:
    with system.client("ana") as client:
        return client.send("RAGAgent", Ask(question="?"))


def receipt(bus: LogBus, of: Message, outcome: str, ms: float = 20.0) -> None:
    row = Message(
        message_id=f"r-{of.message_id}",
        correlation_id=of.correlation_id,
        causation_id=of.message_id,
        from_agent="RAGAgent",
        to_agent="",
        message_type="receipt",
        kind="Receipt",
        content=Receipt(outcome=outcome, reason="", attempts=1, handled_ms=ms).model_dump_json(),
        timestamp=1_767_225_600_000_000,
        principal="ana",
        handling_id=f"r-{of.message_id}",
    )
    bus.submit([row]).result(10)


def test_before_the_first_pass_only_the_tables_are_known(metrics: Metrics) -> None:
    with served(metrics, "127.0.0.1", 0) as port, urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        assert answer.headers["Content-Type"].startswith("text/plain")
        found = scraped(metrics, answer.read().decode())
    assert found["tailrace_protocol_ok"] == {f'table="{name}"': 1.0 for name in TABLES}
    assert "tailrace_open_messages" not in found


def test_tables_and_what_waits(system: System, metrics: Metrics) -> None:
    for _ in range(3):
        ask(system)
    job.Tables(system, metrics).run_due()
    system.clock.advance(90)
    found = scraped(metrics)
    table = f'table="{AGENT_MESSAGES.name}"'
    assert found["tailrace_small_files"][table] == 3
    assert found["tailrace_table_rows"][table] == 3
    assert found["tailrace_log_entries_since_checkpoint"][table] == 4  # the one that made the table too
    assert found["tailrace_slowest_consumer_lag_versions"][table] == 0
    assert found["tailrace_open_messages"] == {'agent="RAGAgent"': 3}


def test_how_old_the_oldest_is(system: System, metrics: Metrics) -> None:
    sent = ask(system).timestamp
    job.Tables(system, metrics).run_due()
    system.clock.advance(sent / 1e6 - system.clock.now().timestamp() + 90)
    assert scraped(metrics)["tailrace_oldest_open_message_seconds"]['agent="RAGAgent"'] == pytest.approx(90, abs=0.01)


def test_a_consumer_that_is_behind(system: System, metrics: Metrics) -> None:
    for _ in range(3):
        ask(system)
    table = system.log(AGENT_MESSAGES.name)
    system.consumers(table).note("slow", 1)
    assert scraped(metrics)["tailrace_slowest_consumer_lag_versions"]['table="agent_messages"'] == 2


def test_what_was_handled_and_what_is_dead(system: System, metrics: Metrics, rag: LogBus) -> None:
    tables = job.Tables(system, metrics)
    asked = [ask(system) for _ in range(4)]
    for message, outcome, ms in zip(asked, ("handled", "handled", "dead"), (20, 700, 3), strict=False):
        receipt(rag, message, outcome, ms)
    tables.run()
    found = scraped(metrics)
    handled = found["tailrace_messages_handled_total"]
    assert handled == {'agent="RAGAgent",outcome="handled"': 2, 'agent="RAGAgent",outcome="dead"': 1}
    assert found["tailrace_handling_seconds_bucket"]['agent="RAGAgent",le="0.025"'] == 2
    assert found["tailrace_handling_seconds_sum"]['agent="RAGAgent"'] == pytest.approx(0.723)
    assert found["tailrace_dead_messages"] == {'agent="RAGAgent"': 1}
    assert found["tailrace_open_messages"] == {'agent="RAGAgent"': 1}
    receipt(rag, asked[3], "dead")
    tables.run()
    assert scraped(metrics)["tailrace_dead_messages"] == {'agent="RAGAgent"': 2}


def test_what_was_handled_before_is_not_counted_again(system: System, rag: LogBus) -> None:
    receipt(rag, ask(system), "handled")
    metrics = Metrics(system)
    receipt(rag, ask(system), "handled")
    job.Tables(system, metrics).run()
    assert scraped(metrics)["tailrace_messages_handled_total"] == {'agent="RAGAgent",outcome="handled"': 1}


def test_a_receipt_that_counts_twice_counts_once(system: System, metrics: Metrics, rag: LogBus) -> None:
    receipt(rag, ask(system), "handled")
    forged = system.log(AGENT_MESSAGES.name)
    rows, _ = forged.scan()
    forged.append(rows.filter([kind == "receipt" for kind in rows["message_type"].to_pylist()]))
    job.Tables(system, metrics).run()
    assert scraped(metrics)["tailrace_messages_handled_total"] == {'agent="RAGAgent",outcome="handled"': 1}


def test_names_of_strangers_make_no_series_without_end(
    system: System, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AGENTS", 2)
    with system.client("ana") as client:
        client.send_many([(f"Stranger{n}", Ask(question="?")) for n in range(10)])
    job.Tables(system, metrics).run()
    assert scraped(metrics)["tailrace_open_messages"] == {
        'agent="Stranger0"': 1,
        'agent="Stranger1"': 1,
        'agent="(others)"': 8,
    }


def test_a_table_that_somebody_else_took_over(system: System, metrics: Metrics) -> None:
    log = system.home.root / "tables" / "agent_events" / "_delta_log"
    (log / f"{1:020d}.json").write_text('{"protocol":{"minReaderVersion":3,"minWriterVersion":7}}\n')
    found = scraped(metrics)["tailrace_protocol_ok"]
    assert found['table="agent_events"'] == 0
    assert found['table="agent_messages"'] == 1


def test_a_table_that_the_home_does_not_have_is_no_trouble(system: System, metrics: Metrics) -> None:
    shutil.rmtree(system.home.root / "tables" / "agent_events")
    assert 'table="agent_events"' not in scraped(metrics)["tailrace_protocol_ok"]


def test_nobody_waits_for_the_dead_to_be_counted(
    system: System, metrics: Metrics, rag: LogBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    receipt(rag, ask(system), "dead")
    go, real = threading.Event(), module.dead_messages

    def slow(system: System) -> object:
        assert go.wait(20)
        return real(system)

    monkeypatch.setattr(module, "dead_messages", slow)
    for _ in range(2):
        assert "tailrace_dead_messages" not in scraped(metrics, generate_latest(metrics.registry).decode())
    go.set()
    metrics.close()
    assert scraped(metrics)["tailrace_dead_messages"] == {'agent="RAGAgent"': 1}


def test_a_pass_that_failed_is_counted(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    (system.home.root / "tables" / "agent_events" / "_delta_log" / f"{1:020d}.json").write_bytes(b"garbage")
    monkeypatch.setattr(job, "LOOK_S", 0.001)
    metrics, stop = Metrics(system), threading.Event()
    job.watch(system, stop, lambda _: stop.set(), metrics=metrics)
    assert scraped(metrics)["tailrace_upkeep_failures_total"]['table="agent_events"'] == 1


def test_a_port_that_is_taken_is_named(metrics: Metrics) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with (
            pytest.raises(CannotServe, match=rf"127\.0\.0\.1:{port}: Address already in use"),
            served(metrics, "127.0.0.1", port),
        ):
            pass


def test_a_taken_port_keeps_no_table_from_upkeep(system: System) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        settings = system.settings.model_copy(update={"metrics_port": other.getsockname()[1]})
        with job._metrics_if_possible(System(settings)) as metrics:
            assert metrics is None


def test_only_this_machine_is_served_unless_said_otherwise(system: System) -> None:
    assert (system.settings.metrics_port, system.settings.metrics_address) == (None, "127.0.0.1")
    with job.metrics_served(system) as metrics:
        assert metrics is None

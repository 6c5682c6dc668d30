import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.bench import servers
from jobs.bench.cost import cpu_seconds
from jobs.bench.servers import Missing, Postgres, Redis
from jobs.bench.table import Measurements, quantile
from jobs.bench.work import NoWord, Reporter, Reports, body


def test_every_queue_carries_about_400_bytes() -> None:
    assert 370 <= len(json.dumps(body(12_345))) <= 430


def test_a_handling_is_reported_with_its_time(tmp_path: Path) -> None:
    with Reports(tmp_path / "pipe") as reports:
        tell = Reporter(str(tmp_path / "pipe"))
        tell(7)
        tell(8)
        assert reports.begun(8, 1) >= reports.begun(7, 1)


def test_the_first_beginning_counts_when_a_message_is_delivered_twice(tmp_path: Path) -> None:
    with Reports(tmp_path / "pipe") as reports:
        tell = Reporter(str(tmp_path / "pipe"))
        tell(1)
        first = reports.begun(1, 1)
        tell(2)
        tell(2)
        tell(3)
        reports.all_begun(range(2, 4), 1)
    assert first > 0


def test_what_does_not_begin_is_an_error_that_says_how_many(tmp_path: Path) -> None:
    with Reports(tmp_path / "pipe") as reports:
        Reporter(str(tmp_path / "pipe"))(1)
        with pytest.raises(NoWord, match="2 of 3 messages"):
            reports.all_begun(range(1, 4), 0)


def test_processor_time_counts_children_that_live_and_those_that_ended() -> None:
    burn = "import time\nwhile time.process_time() < 0.15: pass\n"
    child = f"subprocess.run([sys.executable, '-Ic', {burn!r}])"
    nested = f"import subprocess, sys; {child}; print('done', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-Ic", nested], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        assert cpu_seconds([parent.pid]) >= 0.15
        assert cpu_seconds([os.getpid()]) >= cpu_seconds([parent.pid])
        parent.communicate()
    assert cpu_seconds([parent.pid]) == 0


@pytest.mark.parametrize(("server", "package"), [(Postgres, "postgresql"), (Redis, "redis-server")])
def test_a_server_that_is_not_installed_names_the_remedy(
    server: type[servers.Server], package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(servers, "DEBIAN", tmp_path)
    with pytest.raises(Missing, match=f"apt-get install {package}"), server(tmp_path / "server"):
        pass


def test_quantiles_of_values_in_any_order() -> None:
    values = [5.0, 1.0, 4.0, 2.0, 3.0]
    assert quantile(values, 0.5) == 3.0
    assert quantile(values, 0.99) == 5.0


def test_small_ratios_are_told_apart() -> None:
    out = Measurements()
    out.ratio("a", 0.49, "at most 0.5 x", True)
    out.ratio("b", 12.3, "at least 10 x", True)
    assert [row.value for row in out.rows] == ["0.49 x", "12 x"]

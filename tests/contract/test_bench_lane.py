"""The measuring itself, on real processes: what it reports as handled has receipts, and what it starts is gone afterwards."""

import os
import shutil
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from deltalake import DeltaTable

from jobs.bench.lane import Lane
from jobs.bench.servers import DEBIAN, Postgres, Redis, Server
from jobs.bench.tailrace_bus import Tailrace


def is_there(program: str) -> bool:
    return shutil.which(program) is not None or any(DEBIAN.glob(f"*/bin/{program}"))


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_what_is_counted_as_handled_has_one_receipt_and_one_response_each(tmp_path: Path) -> None:
    contestant = Tailrace(tmp_path)
    contestant.prepare()
    with Lane(contestant, tmp_path, 1_000) as lane:
        hops = lane.hops(3)
        rate = lane.rate(300)
        pids = lane.pids
        # At once: the rate ends with the last receipt, not with the last handler.
        table = DeltaTable(str(contestant.home / "tables" / "agent_messages")).to_pyarrow_table()
    assert all(hop > 0 for hop in hops)
    assert rate.messages == 300
    assert rate.per_second > 0
    assert 0 < rate.cpu_seconds < 60
    rows = table.select(["message_id", "message_type", "causation_id", "content"]).to_pylist()
    burst = [row["message_id"] for row in rows if row["message_type"] == "request"][-300:]
    answers = Counter((row["causation_id"], row["message_type"]) for row in rows if row["causation_id"] in set(burst))
    assert answers == Counter({(one, kind): 1 for one in burst for kind in ("receipt", "response")})
    assert not any(lives(pid) for pid in pids)


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(Postgres, marks=pytest.mark.skipif(not is_there("postgres"), reason="no PostgreSQL here")),
        pytest.param(Redis, marks=pytest.mark.skipif(not is_there("redis-server"), reason="no Redis here")),
    ],
)
def test_a_server_is_there_inside_and_gone_afterwards(kind: type[Server]) -> None:
    with tempfile.TemporaryDirectory() as folder:  # not pytest's own, which only we may enter
        scratch = Path(folder)
        scratch.chmod(0o711)
        with kind(scratch / "data") as server:
            pid = server.pid
            assert server.socket.exists()
            assert lives(pid)
        assert not lives(pid)
        assert not server.socket.exists()

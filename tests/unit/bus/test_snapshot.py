"""A state that was written down and loaded elsewhere is the same state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bus.fold import State
from bus.log.snapshot import Snapshots
from bus.log.table import DeltaLog
from schemas.envelope import EVERYONE, Message
from schemas.payloads import ExecutionClaimed, InstanceChanged
from schemas.tables import AGENT_MESSAGES

Commits = list[list[Message]]


def row(message_id: str, **envelope: Any) -> Message:
    return Message(
        **{
            "message_id": message_id,
            "correlation_id": "c",
            "from_agent": "user:eli",
            "to_agent": "A",
            "message_type": "request",
            "kind": "Ping",
            "content": "{}",
            "timestamp": 1,
            **envelope,
        }
    )


@st.composite
def histories(draw: st.DrawFn) -> Commits:
    commits: Commits = []
    for number in range(draw(st.integers(1, 14))):
        conversation = draw(st.sampled_from(["c0", "c1", "c2"]))
        of = draw(st.integers(0, 9))
        agent = draw(st.sampled_from(["A", "B"]))
        common = {"correlation_id": conversation, "log_version": number + 1, "seq": 0}
        match draw(st.sampled_from(["request", "event", "receipt", "claim", "instance"])):
            case "request":
                commits.append([row(f"m{of}", to_agent=agent, **common)])
            case "event":
                commits.append([row(f"m{of}", to_agent=EVERYONE, message_type="event", kind="Rang", **common)])
            case "receipt":
                extra = {"causation_id": f"m{of}", "from_agent": agent, "to_agent": "", "message_type": "receipt"}
                commits.append([row(f"h{number}", kind="Receipt", handling_id=f"h{number}", **extra, **common)])
            case "claim":
                payload = ExecutionClaimed(
                    grant_id=f"g{of % 3}",
                    requester="eli",
                    question="q",
                    code="c",
                    target=None,
                    approved_by="ada",
                    instance="i",
                )
                commits.append([event(f"x{number}", payload, "ExecutionAgent", **common)])
            case _:
                step = draw(st.sampled_from(["started", "renewed", "stopped", "ended"]))
                payload_ = InstanceChanged(
                    agent=agent,
                    instance=f"{agent}-{of % 2}",
                    host="h",
                    engine="tail",
                    step=step,
                    kinds=[],
                    number=draw(st.integers(0, 3)) if step in ("renewed", "ended") else 0,
                    subscribes=draw(st.sampled_from([[], ["Rang"]])),
                )
                commits.append([event(f"i{number}", payload_, agent, **common)])
    return commits


def event(message_id: str, payload: Any, sender: str, **envelope: Any) -> Message:
    return row(
        message_id,
        to_agent=EVERYONE,
        message_type="event",
        kind=payload.kind(),
        content=payload.model_dump_json(),
        from_agent=sender,
        **envelope,
    )


def seen(state: State) -> dict[str, Any]:
    return {
        "open": [(key, m.position) for key, m in state.open.items()],
        "waiting": {a: [m.position for m in state.open_for(a)] for a in ("A", "B")},
        "claims": {grant: m.position for grant, m in state.claims.items()},
        "leases": {name: m.position for name, m in state.leases.items()},
        "subscriptions": dict(state.subscriptions),
        "version": state.version,
    }


def make(folder: Path) -> DeltaLog:
    table = DeltaLog(folder / "agent_messages", AGENT_MESSAGES)
    table.create()
    return table


@given(histories(), st.data())
@settings(max_examples=30, deadline=None)
def test_going_on_from_a_written_state_is_going_on(
    tmp_path_factory: pytest.TempPathFactory, history: Commits, data: st.DataObject
) -> None:
    cut = data.draw(st.integers(0, len(history)))
    state = State()
    for commit in history[:cut]:
        state.absorb(commit)
    snapshots = Snapshots(make(tmp_path_factory.mktemp("log")))
    snapshots.write(state)
    loaded = snapshots.newest()
    assert loaded is not None
    assert seen(loaded) == seen(state)
    for commit in history[cut:]:
        assert [m.position for m in loaded.absorb(commit)] == [m.position for m in state.absorb(commit)]
        assert seen(loaded) == seen(state)
    for name in ("c0", "c1", "c2", "never"):
        before, after = state.conversation(name), loaded.conversation(name)
        # What is closed is read from the table again; what is known is known whole.
        assert after is None or [m.position for m in after] == [m.position for m in before or []]
        assert (after is not None) or before
        if any(m.correlation_id == name for m in state.open.values()) and before is not None and cut == len(history):
            assert after is not None


class Vouching:
    def __init__(self, word: str) -> None:
        self.word = word

    def sign(self, data: bytes) -> str:
        return self.word

    def holds(self, data: bytes, signature: str) -> bool:
        return signature == self.word


def test_a_state_that_nobody_trusted_vouches_for_is_passed_over(tmp_path: Path) -> None:
    table = make(tmp_path)
    state = State()
    state.absorb([row("m", log_version=1, seq=0)])
    Snapshots(table, Vouching("friend")).write(state)
    state.absorb([row("n", log_version=2, seq=0)])
    Snapshots(table, Vouching("stranger")).write(state)
    found = Snapshots(table, Vouching("friend")).newest()
    assert found is not None
    assert found.version == 1


@pytest.mark.parametrize("damage", ["truncated", "altered", "gone"])
def test_a_damaged_state_is_passed_over(tmp_path: Path, damage: str) -> None:
    table = make(tmp_path)
    state = State()
    for version in (1, 2):
        state.absorb([row(f"m{version}", log_version=version, seq=0)])
        Snapshots(table).write(state)
    file = table.path / f"_tailrace/state-{2:020d}.parquet"
    data = file.read_bytes()
    match damage:
        case "truncated":
            file.write_bytes(data[:-100])
        case "altered":
            file.write_bytes(data[:200] + bytes([data[200] ^ 1]) + data[201:])
        case _:
            file.unlink()
    found = Snapshots(table).newest()
    assert found is not None
    assert found.version == 1


@pytest.mark.parametrize(
    "name", ["state-copy.json", "state-.json", "state-²³.json", "state-00000000000000000001 (1).json"]
)
def test_a_file_of_another_name_is_no_state(tmp_path: Path, name: str) -> None:
    table = make(tmp_path)
    state = State()
    state.absorb([row("m", log_version=1, seq=0)])
    Snapshots(table).write(state)
    table.store.put(f"_tailrace/{name}", b"{}")
    assert Snapshots(table).versions() == [1]
    assert Snapshots(table).newest() is not None


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    table = make(tmp_path)
    state = State()
    for version in range(1, 6):
        state.absorb([row(f"m{version}", log_version=version, seq=0)])
        Snapshots(table).write(state)
    assert Snapshots(table).prune(keep=2) == 3
    assert Snapshots(table).versions() == [5, 4]


def kept_files(table: DeltaLog) -> set[str]:
    return {path.name[6:26].lstrip("0") for path in (table.path / "_tailrace").glob("state-*")}


def written(table: DeltaLog, who: Vouching, versions: range) -> None:
    state = State()
    for version in versions:
        state.absorb([row(f"m{version}", log_version=version, seq=0)])
        Snapshots(table, who).write(state)


def test_a_forged_high_version_pushes_nothing_out(tmp_path: Path) -> None:
    table, friend = make(tmp_path), Vouching("friend")
    written(table, friend, range(1, 4))
    written(table, Vouching("stranger"), range(97, 100))
    assert Snapshots(table, friend).prune(keep=2) == 4
    assert kept_files(table) == {"2", "3"}


class Numbered(Vouching):
    """Vouches for the very bytes, as keys do."""

    def __init__(self) -> None:
        super().__init__("")

    def sign(self, data: bytes) -> str:
        return data.hex()

    def holds(self, data: bytes, signature: str) -> bool:
        return signature == data.hex()


def test_a_real_state_under_a_forged_number_pushes_nothing_out(tmp_path: Path) -> None:
    table = make(tmp_path)
    written(table, Numbered(), range(1, 4))
    for number in (800, 900):
        for end in ("json", "parquet"):
            data = (table.path / f"_tailrace/state-{3:020d}.{end}").read_bytes()
            (table.path / f"_tailrace/state-{number:020d}.{end}").write_bytes(data)
    assert Snapshots(table, Numbered()).prune(keep=2) == 3
    assert kept_files(table) == {"2", "3"}
    found = Snapshots(table, Numbered()).newest()
    assert found is not None
    assert found.version == 3


def test_who_cannot_tell_deletes_nothing(tmp_path: Path) -> None:
    table = make(tmp_path)
    written(table, Vouching("friend"), range(1, 6))
    assert Snapshots(table, Vouching("nobody's")).prune(keep=2) == 0
    assert kept_files(table) == {"1", "2", "3", "4", "5"}


def test_what_a_later_release_wrote_neither_counts_nor_goes(tmp_path: Path) -> None:
    table, friend = make(tmp_path), Vouching("friend")
    written(table, friend, range(1, 6))
    for version in (1, 4, 5):
        note = table.path / f"_tailrace/state-{version:020d}.json"
        note.write_text(note.read_text().replace('"format": 2', '"format": 3'))
    assert Snapshots(table, friend).prune(keep=2) == 1
    assert kept_files(table) == {"2", "3", "4", "5"}

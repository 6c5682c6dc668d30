"""Anchors kept elsewhere: what a forger with all files, and even with all keys, cannot take back."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from bus.keys import Keyring, Signer
from bus.log.store import LocalStore
from jobs.agents import UPKEEP
from jobs.audit import AuditReport, places, verifier, verify
from jobs.audit.anchoring import anchor_log, signed
from jobs.audit.anchors import BLOCKS, Anchor, Anchors, Source, extended
from jobs.audit.merkle import Peaks, node, root_of
from jobs.audit.places import CannotAnchor, place_of
from jobs.bootstrap import System
from schemas.payloads import Ask
from schemas.tables import AGENT_MESSAGES
from tests.unit.audit.conftest import copy_of
from tests.unit.audit.forging import cut_off, rewrite, rows_of
from tests.unit.audit.recorded import make_home


def ask(system: System, question: str = "how are sales defined?") -> None:
    with system.client("ana") as client:
        client.send("RAGAgent", Ask(question=question))


def checked(system: System, file: Path) -> AuditReport:
    return verify(system, [Source(str(file), place_of(str(file)).lines())])


def rules(system: System, file: Path) -> set[str]:
    """Of anchors, by both verifiers, which must agree."""
    ours = {p.rule for p in checked(system, file).problems if p.rule.startswith("anchor.")}
    report, _ = verifier.verify(system.home.root, None, [file])
    assert {rule for rule in report.found if rule.startswith("anchor.")} == ours
    return ours


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "elsewhere" / "anchors.jsonl"


def test_anchors_follow_each_other_and_hold(home: System, file: Path) -> None:
    first = anchor_log(home, [str(file)])
    again = anchor_log(home, [str(file)])
    assert (first.is_new, again.is_new) == (True, False)
    assert (first.sent, again.sent) == ({str(file): 1}, {str(file): 0})
    ask(home)
    second = anchor_log(home, [str(file)])
    assert second.anchor.previous == first.anchor.digest
    assert second.anchor.rows == first.anchor.rows + 2  # the first anchor's own fact, and the question
    report = checked(home, file)
    assert (report.problems, report.checked["anchors"]) == ([], 4)
    assert rules(home, file) == set()


def test_a_new_place_gets_all_anchors(home: System, file: Path) -> None:
    anchor_log(home)
    ask(home)
    anchor_log(home)
    ask(home)
    assert anchor_log(home, [str(file)]).sent == {str(file): 3}
    assert rules(home, file) == set()


def test_a_log_that_was_cut_off_is_named(home: System, file: Path) -> None:
    version = anchor_log(home, [str(file)]).anchor.log_version
    cut_off(home, version - 2)
    assert "anchor.truncated" in rules(home, file)
    assert f"the log ends at version {version - 2}" in str(checked(home, file).problems)


def test_a_log_that_was_cut_off_and_went_on_is_named(home: System, file: Path) -> None:
    version = anchor_log(home, [str(file)]).anchor.log_version
    cut_off(home, version - 3)
    for _ in range(10):
        ask(home, "what is a discount?")
    found = checked(home, file).problems
    assert f"version {version - 2}" in [p.where for p in found if p.rule == "anchor.block"]
    assert "anchor.block" in rules(home, file)


def test_a_writer_that_is_missing_is_named(home: System, file: Path) -> None:
    writer = next(iter(anchor_log(home, [str(file)]).anchor.writers))

    def without(rows: list[dict[str, object]]) -> list[dict[str, object]]:
        kept = [row for row in rows if f'"writer":"{writer}"' not in str(row["content"])]
        return [row | {"seq": place_in(kept, row)} for row in kept]

    def place_in(rows: list[dict[str, object]], row: dict[str, object]) -> int:
        return [one for one in rows if one["log_version"] == row["log_version"]].index(row)

    rewrite(home, without)
    assert "anchor.writer_missing" in rules(home, file)
    assert f"chain {writer}" in [p.where for p in checked(home, file).problems]


def test_two_histories_of_one_writer_are_named(home: System, fresh: Callable[[str], System], file: Path) -> None:
    """The holder of all keys and files: upkeep anchors once in each of two copies of a log, under one chain's name."""
    anchor_log(home, [str(file)])
    line = json.loads(file.read_text())
    writer, (sequence, _) = next(iter(line["writers"].items()))
    other = forged_by_the_key_holder(home, line | {"writers": {writer: [sequence, "ab" * 32]}})
    file.write_text(other + "\n")
    assert "anchor.fork" in rules(home, file)


def forged_by_the_key_holder(system: System, document: dict[str, object]) -> str:
    """An anchor that upkeep's key did sign."""
    place = (str(document["table_id"]), str(document["environment"]))
    anchor = Anchor.parse(json.dumps(document | {"signature": ""}))
    return signed(anchor, Signer.load(system.home.keys, [UPKEEP], *place), Keyring.load(system.home.keys), place).line


def test_a_log_that_was_begun_anew_is_another(home: System, file: Path) -> None:
    """By the holder of the machine, with new keys and its own anchors: it holds in itself, and is not what was anchored."""
    anchor_log(home, [str(file)])
    shutil.rmtree(home.home.root)
    other = make_home(home.home.root)
    ask(other)
    anchor_log(other)
    assert verify(other).ok
    assert rules(other, file) == {"anchor.table"}


@pytest.fixture(scope="module")
def signed_by(recorded_home: Path, tmp_path_factory: pytest.TempPathFactory) -> System:
    return copy_of(recorded_home, tmp_path_factory.mktemp("signed") / "home")


@pytest.fixture(scope="module")
def anchored(signed_by: System) -> str:
    return anchor_log(signed_by).anchor.line


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (lambda line: line | {"peaks": []}, "anchor.format"),
        (lambda line: line | {"log_version": line["log_version"] - 1}, "anchor.signature"),
        (lambda line: line | {"time": 0}, "anchor.signature"),
        (lambda line: line | {"writers": {}}, "anchor.signature"),
        (lambda line: line | {"signature": "00" * 64}, "anchor.signature"),
        (lambda line: line | {"key_id": "user-ada"}, "anchor.signature"),
        (lambda line: line | {"environment": "prod"}, "anchor.table"),
        (lambda line: {"what": "is this"}, "anchor.format"),
    ],
)
def test_a_forged_anchor_is_named(
    signed_by: System, anchored: str, change: Callable[[dict[str, object]], dict[str, object]], rule: str
) -> None:
    line = json.dumps(change(json.loads(anchored)))
    ours, theirs = AuditReport(), verifier.Report()
    keys, place = signed_by.home.keys, (signed_by.log(AGENT_MESSAGES.name).check(), "dev")
    Anchors([Source("it", [line])], Keyring.load(keys), place, ours)
    verifier.Anchors(verifier.Keys(keys, theirs), *place, theirs).add("it", [line])
    assert set(ours.found) == set(theirs.found) == {rule}


def test_anchors_out_of_order_are_named(home: System, file: Path) -> None:
    anchor_log(home, [str(file)])
    ask(home)
    anchor_log(home, [str(file)])
    lines = file.read_text().splitlines()
    file.write_text("\n".join(reversed(lines)) + "\n")
    assert rules(home, file) == {"anchor.order"}


def test_an_anchor_of_a_log_that_lost_it_is_refused(home: System, file: Path) -> None:
    anchor_log(home, [str(file)])
    ask(home)
    last = anchor_log(home, [str(file)]).anchor
    cut_off(home, last.log_version)  # the second anchor's own fact is above
    with pytest.raises(CannotAnchor, match=r"the log does not have it any more.*audit verify --anchor"):
        anchor_log(home, [str(file)])


def test_a_line_that_was_cut_off_spoils_no_later_one(home: System, file: Path) -> None:
    anchor_log(home, [str(file)])
    with file.open("a") as half:
        half.write('{"blocks":[[')
    with pytest.raises(CannotAnchor, match="is no anchor"):
        anchor_log(home, [str(file)])
    place_of(str(file)).append(2, "{}")
    assert file.read_text().splitlines()[1:] == ['{"blocks":[[', "{}"]


# --- places -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[str]:
    kept: list[bytes] = []

    class Keeper(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(b"".join(kept))

        def do_POST(self) -> None:
            if self.path == "/full":
                self.send_error(507)
                return
            kept.append(self.rfile.read(int(self.headers["Content-Length"])))
            self._answer(b"")

        def _answer(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Keeper) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()
        thread.join()


def test_a_server_keeps_anchors(home: System, server: str) -> None:
    assert anchor_log(home, [server]).sent == {server: 1}
    ask(home)
    assert anchor_log(home, [server]).sent == {server: 1}
    lines = place_of(server).lines()
    assert len(lines) == 2
    assert verify(home, [Source(server, lines)]).ok


def test_a_server_that_refuses_gets_it_the_next_time(home: System, server: str, file: Path) -> None:
    with pytest.raises(CannotAnchor, match="the server said 507"):
        anchor_log(home, [f"{server}/full"])
    assert anchor_log(home, [str(file)]).sent == {str(file): 1}


def test_an_object_store_keeps_each_anchor_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the store's own put-if-absent; a folder has the same one."""
    monkeypatch.setattr(places, "open_store", lambda _: LocalStore(tmp_path))
    store = place_of("s3://elsewhere/anchors")
    assert store.lines() == []
    store.append(1, '{"number":1}')
    store.append(2, '{"number":2}')
    with pytest.raises(CannotAnchor, match="not rewritten"):
        store.append(1, "{}")
    assert store.lines() == ['{"number":1}', '{"number":2}']


# --- the tree ---------------------------------------------------------------------------------------------------------


def test_the_root_is_that_of_rfc_6962() -> None:
    """Against its definition: the hash of the left half, the largest power of two below, and of the rest."""

    def defined(leaves: list[bytes]) -> bytes:
        if len(leaves) == 1:
            return leaves[0]
        split = 1 << (len(leaves) - 1).bit_length() - 1
        return node(defined(leaves[:split]), defined(leaves[split:]))

    for size in range(1, 70):
        leaves = [bytes([n]) * 32 for n in range(size)]
        assert root_of(leaves) == defined(leaves)


def test_peaks_go_on_from_where_they_were() -> None:
    leaves = [bytes([n]) * 32 for n in range(50)]
    for cut in range(50):
        begun = Peaks()
        for leaf in leaves[:cut]:
            begun.add(leaf)
        resumed = Peaks(cut, begun.peaks)
        for leaf in leaves[cut:]:
            resumed.add(leaf)
        assert resumed.root == root_of(leaves)
    with pytest.raises(ValueError, match="peaks"):
        Peaks(3, [b""])


def test_an_anchor_says_no_more_blocks_than_fit() -> None:
    commits = [(version, [bytes([version % 251]) * 32]) for version in range(1, 2001)]
    anchor = extended(None, commits, {}, ("t", "dev"), 2000, 0, "k")
    assert len(anchor.blocks) <= BLOCKS + 1
    assert anchor.blocks[-1][:2] == (2000, 2000)


def test_every_anchor_in_the_log_has_its_own_row(recorded_home: Path, tmp_path: Path) -> None:
    system = copy_of(recorded_home, tmp_path / "home")
    anchor_log(system)
    ask(system)
    anchor_log(system)
    facts = [json.loads(row["content"]) for row in rows_of(system) if row["from_agent"] == "Upkeep"]
    assert [fact["action"] for fact in facts] == ["log.anchored"] * 2
    assert [fact["details"]["anchor"]["number"] for fact in facts] == [1, 2]

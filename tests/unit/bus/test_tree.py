"""Rows that share a signature: each can be checked alone, and none can be exchanged, altered or moved."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bus import tree
from bus.errors import Untrusted
from bus.keys import TREE, Keyring, KeyWitness, Signer, create_keys
from schemas.envelope import Message


def message(number: int, sender: str = "user:eli") -> Message:
    return Message(
        message_id=f"m{number}",
        correlation_id="c",
        from_agent=sender,
        to_agent="A",
        message_type="request",
        kind="Ping",
        content=f'{{"n":{number}}}',
        timestamp=10,
        principal="eli",
    )


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    create_keys(folder, {"user-eli": ["user:eli"], "host": ["A", "B"], "upkeep": ["Upkeep"]}, 0)
    return folder


def signer(keys: Path, *subjects: str) -> Signer:
    return Signer.load(keys, subjects or ["user:eli"], "t", "e")


@given(st.integers(1, 600), st.data())
@settings(max_examples=60, deadline=None)
def test_every_row_climbs_to_the_root_by_its_groups_path_only(size: int, data: st.DataObject) -> None:
    rows = [f"row {n}".encode() for n in range(size)]
    grown = tree.Tree(rows)
    paths, width = grown.paths(), tree.group_of(size)
    place = data.draw(st.integers(0, size - 1)) // width
    assert [*tree.climb(place, size, paths[place])][-1][0] == grown.root
    assert tree.leaves(place, size, paths[place]) == {tree.leaf(row) for row in rows[place * width :][:width]}
    group = data.draw(st.integers(0, len(paths) - 1))
    if group != place:
        try:
            found = [*tree.climb(group, size, paths[place])][-1][0]
        except ValueError:
            return
        assert found != grown.root


@pytest.mark.parametrize("count", [1, 2, 3, 8, 9, 64, 65, 300])
def test_rows_signed_together_are_accepted_one_by_one_in_any_order(keys: Path, count: int) -> None:
    signed = signer(keys).sign_all([message(n) for n in range(count)])
    assert len({row.signature.split(":")[3] for row in signed if row.signature.startswith(TREE)}) == (count > 1)
    for row in signed[::-1]:
        assert Keyring.load(keys).accepts(row, "t", "e")  # alone, with nothing remembered
    remembering = Keyring.load(keys)
    assert all(remembering.accepts(row, "t", "e") for row in signed)


def test_two_senders_with_two_keys_share_a_commit_but_no_signature(keys: Path) -> None:
    signed = signer(keys, "user:eli", "A").sign_all([message(0), message(1, "A"), message(2), message(3, "A")])
    assert [row.key_id for row in signed] == ["user-eli", "host", "user-eli", "host"]
    keyring = Keyring.load(keys)
    assert all(keyring.accepts(row, "t", "e") for row in signed)
    assert not keyring.accepts(signed[0].model_copy(update={"signature": signed[1].signature}), "t", "e")


def _forms(signature: str) -> list[str]:
    """Ways to spoil a shared signature, each a way that a check might overlook."""
    _, place, size, signed, path = signature.split(":")
    flipped = ("B" if path[-3] == "A" else "A") + path[-2:]

    def with_path(path: str) -> str:
        return f"{TREE}{place}:{size}:{signed}:{path}"

    return [
        with_path(path[:-3] + flipped),
        with_path(path[:-44]),
        with_path(path + path[:44]),
        with_path(path[44:] + path[:44]),
        with_path(path[:-44] + path[-88:-44]),
        with_path(path[:-2] + chr(ord(path[-2]) + 1) + path[-1]),
        f"{TREE}{int(place) ^ 1}:{size}:{signed}:{path}",
        f"{TREE}{place}:{int(size) * 2}:{signed}:{path}",
        f"{TREE}{place}:{int(size) + 1}:{signed}:{path}",
        f"{TREE}{place}:{'9' * 40}:{signed}:{path}",
        f"{TREE}0{place}:{size}:{signed}:{path}",
        f"{TREE}-1:{size}:{signed}:{path}",
        f"{TREE}{place}:{size}:{base64.b64encode(bytes(64)).decode()}:{path}",
        f"{TREE}{place}:{size}:{signed}",
        f"{TREE}a:b:c:d",
        f"{TREE}{place}:{size}:{signed}:{path}:",
    ]


@pytest.mark.parametrize("way", range(16))
@pytest.mark.parametrize("remembered", [False, True])
def test_a_spoilt_shared_signature_is_refused_whether_or_not_its_neighbours_were_seen(
    keys: Path, way: int, remembered: bool
) -> None:
    signed = signer(keys).sign_all([message(n) for n in range(20)])
    keyring = Keyring.load(keys)
    if remembered:
        assert all(keyring.accepts(row, "t", "e") for row in signed)
    spoilt = signed[2].model_copy(update={"signature": _forms(signed[2].signature or "")[way]})
    with pytest.raises(Untrusted) as caught:
        keyring.check(spoilt, "t", "e")
    assert caught.value.rule == "signature.invalid"


@pytest.mark.parametrize("remembered", [False, True])
def test_an_altered_row_is_refused_whether_or_not_its_neighbours_were_seen(keys: Path, remembered: bool) -> None:
    signed = signer(keys).sign_all([message(n) for n in range(20)])
    keyring = Keyring.load(keys)
    if remembered:
        assert all(keyring.accepts(row, "t", "e") for row in signed)
    assert not keyring.accepts(signed[3].model_copy(update={"content": '{"n":4}'}), "t", "e")
    assert not keyring.accepts(signed[3].model_copy(update={"signature": signed[9].signature}), "t", "e")
    assert not keyring.accepts(signed[3], "another table", "e")


def test_a_statement_holds_for_its_subject_its_place_and_its_bytes_only(keys: Path) -> None:
    keyring = Keyring.load(keys)
    witness = KeyWitness(keyring, "Upkeep", ("t", "e"), signer(keys, "Upkeep"))
    said = witness.sign(b"state 7")
    assert witness.holds(b"state 7", said)
    assert not witness.holds(b"state 8", said)
    assert not KeyWitness(keyring, "Upkeep", ("t", "prod")).holds(b"state 7", said)
    assert not KeyWitness(keyring, "A", ("t", "e")).holds(b"state 7", said)
    stranger = KeyWitness(keyring, "A", ("t", "e"), signer(keys, "A")).sign(b"state 7")
    assert not witness.holds(b"state 7", stranger)
    for nonsense in ("", "upkeep:", "upkeep:!!", "nobody:AAAA", ":"):
        assert not witness.holds(b"state 7", nonsense)

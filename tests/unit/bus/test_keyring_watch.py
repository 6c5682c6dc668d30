"""A keyring that changes while somebody uses it: by its file, and by the root's signature alone."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import structlog
from cryptography.hazmat.primitives import serialization
from structlog.testing import capture_logs

from bus.errors import MissingKey, Untrusted
from bus.keyring_watch import LOOK_S, SAY_AGAIN_S, WatchedKeyring, WatchedTrust
from bus.keys import Signer, create_keys
from schemas.envelope import Message
from tests.unit.bus.logs import message

TABLE, ENVIRONMENT, NOW = "t", "dev", 1_767_225_600_000_000
HOLDERS = {"eli": ["user:eli"], "ada": ["user:ada"]}

Keys = list[dict[str, Any]]


def sign_anew(folder: Path, change: Callable[[Keys], Keys]) -> None:
    """As whoever holds the root key changes the ring."""
    path = folder / "keyring.json"
    keys = json.dumps(change(json.loads(json.loads(path.read_text())["keys"])))
    root = serialization.load_pem_private_key((folder / "private" / "root.pem").read_bytes(), None)
    signature = base64.b64encode(root.sign(keys.encode())).decode()
    scratch = folder / "new"
    scratch.write_text(json.dumps({"keys": keys, "signature": signature}))
    os.replace(scratch, path)


def without(key_id: str) -> Callable[[Keys], Keys]:
    return lambda keys: [key for key in keys if key["key_id"] != key_id]


def ended(key_id: str, at: int) -> Callable[[Keys], Keys]:
    return lambda keys: [key | ({"valid_until": at} if key["key_id"] == key_id else {}) for key in keys]


class Time:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    create_keys(tmp_path / "keys", HOLDERS, NOW)
    return tmp_path / "keys"


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def ring(keys: Path, time: Time) -> WatchedKeyring:
    return WatchedKeyring(keys, time)


def signed(keys: Path, user: str = "eli", **envelope: Any) -> Message:
    signer = Signer.load(keys, [f"user:{user}"], TABLE, ENVIRONMENT)
    return signer.sign(message(from_agent=f"user:{user}", principal=user, **envelope))


def holds(ring: WatchedKeyring, row: Message) -> bool:
    return ring.accepts(row, TABLE, ENVIRONMENT)


def test_a_key_that_was_taken_away_speaks_no_more(keys: Path, ring: WatchedKeyring, time: Time) -> None:
    row, other = signed(keys), signed(keys, "ada")
    assert holds(ring, row)
    sign_anew(keys, without("eli"))
    assert holds(ring, row)  # the file is not looked at for every row
    time.now += LOOK_S
    assert not holds(ring, row)
    assert holds(ring, other)
    assert ring.subjects() == {"user:ada"}


def test_a_key_that_ended_speaks_for_its_time_only(keys: Path, ring: WatchedKeyring, time: Time) -> None:
    before, after = signed(keys, timestamp=NOW + 5), signed(keys, timestamp=NOW + 10)
    sign_anew(keys, ended("eli", NOW + 7))
    time.now += LOOK_S
    assert (holds(ring, before), holds(ring, after)) == (True, False)


def test_a_key_that_was_replaced_under_its_name(keys: Path, ring: WatchedKeyring, time: Time, tmp_path: Path) -> None:
    row = signed(keys)
    assert holds(ring, row)
    create_keys(tmp_path / "other", HOLDERS, NOW)
    (other,) = [
        k for k in json.loads(json.loads((tmp_path / "other/keyring.json").read_text())["keys"]) if k["key_id"] == "eli"
    ]
    sign_anew(keys, lambda found: [*without("eli")(found), other])
    time.now += LOOK_S
    assert not holds(ring, row)
    (keys / "private" / "eli.pem").write_bytes((tmp_path / "other/private/eli.pem").read_bytes())
    assert holds(ring, signed(keys))


def test_a_key_that_is_new_is_believed_at_once(keys: Path, ring: WatchedKeyring) -> None:
    create_keys(keys, HOLDERS | {"kim": ["user:kim"]}, NOW)
    assert holds(ring, signed(keys, "kim"))


@pytest.mark.parametrize("how", ["unsigned", "half", "empty", "gone", "another root"])
def test_a_ring_that_nobody_signed_changes_nothing_and_is_spoken_of(
    keys: Path, ring: WatchedKeyring, time: Time, tmp_path: Path, how: str
) -> None:
    row, path = signed(keys), keys / "keyring.json"
    good = path.read_text()
    structlog.reset_defaults()
    match how:
        case "unsigned":
            path.write_text(json.dumps(json.loads(good) | {"keys": "[]"}))
        case "half":
            path.write_text(good[: len(good) // 2])
        case "empty":
            path.write_text("")
        case "gone":
            path.unlink()
        case _:
            create_keys(tmp_path / "other", HOLDERS, NOW)
            path.write_text((tmp_path / "other" / "keyring.json").read_text())
    with capture_logs() as said:
        for _ in range(3):
            time.now += LOOK_S
            assert holds(ring, row)
        assert [(one["event"], one["log_level"]) for one in said] == [("keyring.not_believed", "error")]
        time.now += SAY_AGAIN_S
        assert holds(ring, row)
        assert len(said) == 2
    path.write_text(good)
    sign_anew(keys, without("eli"))  # and it is seen when it is whole again
    time.now += LOOK_S
    assert not holds(ring, row)


def test_the_first_ring_must_hold(keys: Path, tmp_path: Path) -> None:
    (keys / "keyring.json").write_text("{}")
    with pytest.raises(Untrusted):
        WatchedKeyring(keys)
    with pytest.raises(MissingKey):
        WatchedKeyring(tmp_path / "nowhere")


def test_the_past_of_a_conversation_is_checked_by_the_new_ring(keys: Path, ring: WatchedKeyring, time: Time) -> None:
    trust = WatchedTrust(ring, TABLE, ENVIRONMENT)
    root = signed(keys).with_fields(log_version=1, seq=0)
    later = signed(keys, "ada", causation_id=root.message_id).with_fields(log_version=2, seq=0)
    assert trust.check(later, [root, later]) == [root, later]
    sign_anew(keys, without("eli"))
    time.now += LOOK_S
    with pytest.raises(Untrusted) as caught:
        trust.check(later, [root, later])
    assert caught.value.rule == "principal.root"
    with pytest.raises(Untrusted) as caught:
        trust.check(root, [root])
    assert caught.value.rule == "signature.unknown_key"


def test_a_process_whose_own_key_was_replaced_is_told(keys: Path, time: Time) -> None:
    structlog.reset_defaults()
    ring = WatchedKeyring(keys, time, ours=["user:eli"])

    def said() -> list[str]:
        time.now += LOOK_S
        with capture_logs() as lines:
            ring.subjects()
        return [one["event"] for one in lines]

    create_keys(keys, HOLDERS | {"kim": ["user:kim"]}, NOW)
    assert said() == ["keyring.changed"]
    create_keys(keys, HOLDERS | {"eli-2": ["user:eli"]}, NOW)
    assert said() == ["keyring.changed", "keyring.our_key_replaced"]
    assert said() == []
    sign_anew(keys, lambda found: without("eli")(without("eli-2")(found)))
    assert said() == ["keyring.changed", "keyring.our_key_replaced"]


def test_a_ring_of_another_root_is_not_believed_by_a_running_process(
    keys: Path, ring: WatchedKeyring, time: Time, tmp_path: Path
) -> None:
    create_keys(tmp_path / "other", {"ada": ["user:ada"]}, NOW)
    before = ring.current.keys
    for name in ("root.pub", "keyring.json"):
        (keys / name).write_text((tmp_path / "other" / name).read_text())

    time.now += LOOK_S
    with capture_logs() as said:
        assert ring.current.keys == before

    assert [line["event"] for line in said] == ["keyring.not_believed"]

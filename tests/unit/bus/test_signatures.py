"""Signatures, keys, trust: every way a row can be untrue has its rule, and no two rows have the same signed bytes."""

from __future__ import annotations

import json
import stat
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bus.errors import MissingKey, Untrusted
from bus.keys import Keyring, Signer, TrustedKey, create_keys
from bus.trust import SignedTrust
from schemas.envelope import Message
from schemas.tables import SIGNED_COLUMNS
from tests.unit.bus.logs import message

TABLE, ENVIRONMENT, NOW = "table-1", "dev", 1_767_225_600_000_000
HOLDERS = {"eli": ["user:eli"], "ada": ["user:ada"], "A": ["A"], "B": ["B"]}


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    create_keys(tmp_path / "keys", HOLDERS, NOW)
    return tmp_path / "keys"


def signer(keys: Path, *subjects: str, table: str = TABLE, environment: str = ENVIRONMENT) -> Signer:
    return Signer.load(keys, subjects or ("user:eli",), table, environment)


def rule_of(keyring: Keyring, row: Message) -> str:
    try:
        keyring.check(row, TABLE, ENVIRONMENT)
    except Untrusted as error:
        assert keyring.accepts(row, TABLE, ENVIRONMENT) is False
        return error.rule
    assert keyring.accepts(row, TABLE, ENVIRONMENT) is True
    return ""


def test_a_signed_row_holds(keys: Path) -> None:
    assert rule_of(Keyring.load(keys), signer(keys).sign(message())) == ""


CHANGES: dict[str, Any] = {
    "message_id": "other",
    "correlation_id": "other",
    "causation_id": "other",
    "to_agent": "B",
    "message_type": "event",
    "kind": "Pong",
    "schema_version": 2,
    "content": "{ }",
    "priority": 6,
    "timestamp": NOW + 1,
    "not_before": 1,
    "expires_at": 1,
    "attempt": 2,
    "principal": "ada",
    "traceparent": "00-1-1-01",
}


def test_the_changes_cover_every_signed_column() -> None:
    assert set(CHANGES) | {"from_agent"} == set(SIGNED_COLUMNS)


@pytest.mark.parametrize("field", CHANGES)
def test_an_altered_field_is_found(keys: Path, field: str) -> None:
    signed = signer(keys).sign(message())
    assert getattr(signed, field) != CHANGES[field]
    assert rule_of(Keyring.load(keys), signed.model_copy(update={field: CHANGES[field]})) == "signature.invalid"


@pytest.mark.parametrize("field", ["log_version", "seq", "handling_id"])
def test_what_the_writer_adds_is_not_signed(keys: Path, field: str) -> None:
    value: Any = "h" if field == "handling_id" else 7
    assert rule_of(Keyring.load(keys), signer(keys).sign(message()).model_copy(update={field: value})) == ""


def test_each_way_to_be_untrue_has_its_rule(keys: Path) -> None:
    keyring = Keyring.load(keys)
    signed = signer(keys).sign(message())
    ada = signer(keys, "user:ada").sign(message(from_agent="user:ada", principal="ada"))
    assert rule_of(keyring, message()) == "signature.missing"
    assert rule_of(keyring, signed.model_copy(update={"signature": None})) == "signature.missing"
    assert rule_of(keyring, signed.model_copy(update={"key_id": "nobodys"})) == "signature.unknown_key"
    assert rule_of(keyring, signed.model_copy(update={"from_agent": "user:ada"})) == "signature.sender"
    assert rule_of(keyring, signed.model_copy(update={"key_id": ada.key_id})) == "signature.sender"
    for spoilt in ("rsa:xxx", "ed25519:%%%", "ed25519:", "ed25519:AAAA", "ed25519:ü"):
        found = rule_of(keyring, signed.model_copy(update={"signature": spoilt}))
        assert found == ("signature.format" if spoilt.startswith("rsa") else "signature.invalid")
    assert rule_of(keyring, signed.model_copy(update={"signature": ada.signature})) == "signature.invalid"


@pytest.mark.parametrize("place", [{"table": "table-2"}, {"environment": "prod"}])
def test_a_row_of_another_table_or_environment_does_not_hold_here(keys: Path, place: dict[str, str]) -> None:
    assert rule_of(Keyring.load(keys), signer(keys, **place).sign(message())) == "signature.invalid"


@pytest.mark.parametrize(
    ("valid_from", "valid_until", "rule"),
    [(NOW, None, ""), (NOW, NOW, ""), (NOW + 1, None, "signature.validity"), (0, NOW - 1, "signature.validity")],
)
def test_a_key_holds_for_the_rows_of_its_time(keys: Path, valid_from: int, valid_until: int | None, rule: str) -> None:
    eli = Keyring.load(keys).keys["eli"]
    timed = Keyring([TrustedKey("eli", eli.public, eli.subjects, valid_from, valid_until)])
    assert rule_of(timed, signer(keys).sign(message(timestamp=NOW))) == rule


texts = st.text(alphabet="ab{}\x00é", max_size=4)
rows = st.fixed_dictionaries(
    {
        "message_id": texts.filter(bool),
        "correlation_id": texts.filter(bool),
        "causation_id": st.none() | texts,
        "from_agent": texts.filter(bool),
        "to_agent": texts,
        "message_type": st.sampled_from(["request", "event"]),
        "kind": texts.filter(bool),
        "content": texts,
        "principal": st.none() | texts,
        "traceparent": st.none() | texts,
        "not_before": st.none() | st.integers(0, 3),
        "expires_at": st.none() | st.integers(0, 3),
        "priority": st.integers(1, 3),
    }
)


@given(st.lists(st.tuples(rows, texts, texts, texts), min_size=2, max_size=2))
@settings(max_examples=150, deadline=None)
def test_signed_bytes_are_the_same_only_for_the_same_row_in_the_same_place(pair: list[Any]) -> None:
    told = [(message(**fields), *place) for fields, *place in pair]
    same = told[0] == told[1]
    signed = [row.signed_bytes(*place) for row, *place in told]
    assert (signed[0] == signed[1]) is same


@given(rows, st.data())
@settings(max_examples=150, deadline=None)
def test_moving_a_letter_to_the_next_field_changes_the_signed_bytes(
    fields: dict[str, Any], data: st.DataObject
) -> None:
    """What concatenation without lengths would get wrong."""
    names = [name for name in SIGNED_COLUMNS if isinstance(fields.get(name), str) and name != "message_type"]
    left, right = data.draw(st.sampled_from(list(pairwise(names))))
    if len(fields[left]) < 2:
        return
    moved = fields | {left: fields[left][:-1], right: fields[left][-1] + fields[right]}
    assert message(**fields).signed_bytes("t", "e", "k") != message(**moved).signed_bytes("t", "e", "k")


@given(rows)
@settings(max_examples=60, deadline=None)
def test_null_is_not_the_empty_text(fields: dict[str, Any]) -> None:
    null, empty = (message(**fields | {"causation_id": value}) for value in (None, ""))
    assert null.signed_bytes("t", "e", "k") != empty.signed_bytes("t", "e", "k")


# --- the keyring and the files ----------------------------------------------------------------------------------------


def test_private_keys_are_for_their_owner_only(keys: Path) -> None:
    private = list((keys / "private").iterdir())
    assert {path.stem for path in private} == {"root", *HOLDERS}
    for path in private:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(keys.stat().st_mode) == 0o700


def test_making_keys_again_keeps_them(keys: Path) -> None:
    before = {path.name: path.read_bytes() for path in keys.rglob("*") if path.is_file()}
    create_keys(keys, HOLDERS, NOW + 5)
    assert {path.name: path.read_bytes() for path in keys.rglob("*") if path.is_file()} == before


def altered(document: dict[str, Any], how: str) -> str:
    known = json.loads(document["keys"])
    match how:
        case "subject":
            known[0]["subjects"] = ["user:ada"]
        case "validity":
            known[0]["valid_from"] = 0
        case "key taken away":
            known.pop()
        case "no signature":
            return json.dumps({"keys": document["keys"]})
        case "signature spoilt":
            return json.dumps(document | {"signature": "AAAA"})
        case "garbage":
            return "garbage"
        case "a list":
            return "[]"
        case "empty":
            return ""
    return json.dumps(document | {"keys": json.dumps(known)})


@pytest.mark.parametrize(
    "how", ["subject", "validity", "key taken away", "no signature", "signature spoilt", "garbage", "a list", "empty"]
)
def test_an_altered_keyring_is_not_trusted(keys: Path, how: str) -> None:
    path = keys / "keyring.json"
    path.write_text(altered(json.loads(path.read_text()), how))
    with pytest.raises(Untrusted, match=r"keys\.keyring"):
        Keyring.load(keys)


def test_another_root_does_not_make_a_keyring_true(keys: Path, tmp_path: Path) -> None:
    create_keys(tmp_path / "others", HOLDERS, NOW)
    (keys / "root.pub").write_text((tmp_path / "others" / "root.pub").read_text())
    with pytest.raises(Untrusted):
        Keyring.load(keys)


def test_no_keyring_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(MissingKey, match="tailrace init"):
        Keyring.load(tmp_path)


def test_a_key_that_cannot_be_read_speaks_for_nobody(keys: Path) -> None:
    with pytest.raises(MissingKey, match="nobody"):
        signer(keys, "user:nobody")
    (keys / "private" / "eli.pem").unlink()
    with pytest.raises(MissingKey, match="user:eli"):
        signer(keys, "user:eli")
    with pytest.raises(MissingKey, match="holds no key for user:eli"):
        signer(keys, "user:ada").sign(message())


# --- trust in a conversation ------------------------------------------------------------------------------------------


class Conversation:
    """Signed rows in log order, and what trust makes of the last one."""

    def __init__(self, keys: Path) -> None:
        self.keys = keys
        self.trust = SignedTrust(Keyring.load(keys), TABLE, ENVIRONMENT)
        self.rows: list[Message] = []

    def say(self, sender: str, signed: bool = True, **envelope: Any) -> Message:
        cause = self.rows[-1].message_id if self.rows else None
        row = message(**{"from_agent": sender, "causation_id": cause, "principal": "eli"} | envelope)
        if signed:
            row = signer(self.keys, sender).sign(row)
        row = row.model_copy(update={"log_version": len(self.rows) + 1, "seq": 0})
        self.rows.append(row)
        return row

    def check(self) -> list[str]:
        return [m.from_agent for m in self.trust.check(self.rows[-1], self.rows)]

    def rule(self) -> str:
        with pytest.raises(Untrusted) as caught:
            self.check()
        return caught.value.rule


@pytest.fixture
def conversation(keys: Path) -> Conversation:
    return Conversation(keys)


def test_what_holds_is_evidence_and_what_does_not_is_left_out(conversation: Conversation) -> None:
    conversation.say("user:eli")
    conversation.say("A", signed=False)
    conversation.say("A")
    conversation.say("user:ada", principal="ada")
    conversation.say("A", principal="ada")
    conversation.say("B")
    assert conversation.check() == ["user:eli", "A", "user:ada", "B"]


def test_the_message_itself_must_hold(conversation: Conversation) -> None:
    conversation.say("user:eli")
    conversation.say("A", signed=False)
    assert conversation.rule() == "signature.missing"
    conversation.say("A", principal="ada")
    assert conversation.rule() == "principal.changed"
    conversation.say("user:ada", principal="eli")
    assert conversation.rule() == "principal.claimed"


def test_a_conversation_has_a_signed_beginning(conversation: Conversation) -> None:
    conversation.say("user:eli", signed=False)
    conversation.say("A")
    assert conversation.rule() == "principal.root"


def test_a_row_in_front_that_nobody_signed_begins_nothing(conversation: Conversation) -> None:
    conversation.say("user:ada", signed=False, principal="ada")
    conversation.say("user:eli", causation_id=None)
    assert conversation.check() == ["user:eli"]


def test_an_agent_begins_no_conversation_for_a_person(conversation: Conversation) -> None:
    conversation.say("A")
    assert conversation.rule() == "principal.claimed"


def test_an_agent_may_begin_one_for_itself(conversation: Conversation) -> None:
    conversation.say("A", principal="agent:A")
    assert conversation.check() == ["A"]


def test_a_row_is_not_taken_for_the_one_that_was_checked_in_its_place(conversation: Conversation) -> None:
    real = conversation.say("user:eli")
    conversation.check()
    conversation.rows[-1] = real.model_copy(update={"message_id": "other", "content": '{"x":1}'})
    assert conversation.rule() == "signature.invalid"


@pytest.mark.parametrize("field", ["content", "kind", "principal", "expires_at"])
def test_a_forged_row_that_repeats_the_id_and_place_of_a_checked_one_is_found(
    conversation: Conversation, field: str
) -> None:
    # A file's own columns say where its rows stand, and the table's readers believe them.
    conversation.say("user:eli")
    real = conversation.say("A")
    assert conversation.check() == ["user:eli", "A"]
    conversation.rows[-1] = real.model_copy(update={field: CHANGES[field]})
    assert conversation.rule() == "signature.invalid"

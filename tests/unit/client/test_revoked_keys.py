"""A key that is taken away while a host runs: whoever holds it is refused from then on, and the others are not."""

from __future__ import annotations

import pytest

from bus import keyring_watch
from schemas.payloads import Refused
from tests.unit.bus.test_keyring_watch import sign_anew, without
from tests.unit.client.conftest import Greeting, Place


def test_the_next_message_of_a_revoked_key_is_rejected(live: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    eli, ada = live.client("eli"), live.client("ada")
    assert eli.request("Greeter", Greeting(text="eli"), timeout=20).kind == "Greeting"
    sign_anew(live.system.home.keys, without("user-eli"))
    monkeypatch.setattr(keyring_watch, "LOOK_S", 0.0)  # the second is over
    answer = eli.request("Greeter", Greeting(text="eli"), timeout=20)
    assert answer.kind == "Refused"
    assert Refused.model_validate_json(answer.content).rule == "signature.unknown_key"
    assert ada.request("Greeter", Greeting(text="ada"), timeout=20).kind == "Greeting"

"""What a host runs with, as audit facts in its own chain: the keys it opened, its configuration, and changes of the key ring."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import structlog

from bus.base import Bus
from bus.errors import BusError
from bus.keys import Keyring
from bus.trust import AGENT
from config import files
from config.settings import Settings
from schemas.envelope import EVERYONE, Message
from schemas.payloads import AuditRecorded
from workers.runtime.clock import Clock, micros

log = structlog.get_logger(__name__)

#: Files that decide what may happen, and what is said of it.
FILES = ("rbac_roles.yaml", "redaction.yaml", "mas_config.yaml")
#: Settings that an auditor asks for. None of them is a secret.
SETTINGS = (
    "env", "tables", "engine", "durability", "approval_ttl_s", "grant_ttl_s", "retain_days", "archive", "anchor_to",
)  # fmt: skip
#: Seconds between two looks at the key ring.
LOOK_S = 10.0


def configuration(settings: Settings, policy: Callable[[], str]) -> dict[str, str]:
    """Name -> digest of everything that decides. `policy`: the digest of the policy in force."""
    found = {name: _sha256(files.text(name)) for name in (*FILES, f"users.{settings.env}.yaml") if files.exists(name)}
    found["policy"] = policy()
    return found | {"settings": _sha256(json.dumps(chosen(settings), sort_keys=True, default=str))}


def chosen(settings: Settings) -> dict[str, Any]:
    return {name: getattr(settings, name) for name in SETTINGS}


def ring(keyring: Keyring) -> dict[str, str]:
    """Key id -> what the ring says of it, short enough to compare by eye: fingerprint, and since when and until when."""
    return {
        key.key_id: f"{_sha256_bytes(base64.b64decode(key.public))[:16]} {key.valid_from}-{key.valid_until or ''}"
        for key in keyring.keys.values()
    }


class HostFacts:
    """A companion of a host: says what it runs with as it starts, and when the key ring changes while it runs.

    `noted`: where this host's last word is kept, so that only changes are said; every start says the digest of all of it
    anyway, so that a note which somebody altered hides nothing.
    """

    def __init__(
        self,
        bus: Bus,
        host: str,
        agents: Iterable[str],
        keys: Path,
        noted: Path,
        configured: Callable[[], tuple[Mapping[str, str], Mapping[str, Any]]],
        clock: Clock,
        look_s: float = LOOK_S,
    ) -> None:
        """`configured`: digests, and the settings behind one of them."""
        self._bus = bus
        self._host = host
        self._agents = tuple(agents)
        self._keys = keys
        self._noted = noted
        self._configured = configured
        self._clock = clock
        self._look = look_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="host-facts", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        try:
            self._say_all()
            while not self._stopping.wait(self._look):
                self._say_ring()
        except (BusError, OSError, ValueError) as error:
            log.warning("facts.not_recorded", host=self._host, error=str(error))

    def _say_all(self) -> None:
        keyring = Keyring.load(self._keys)
        digests, settings = self._configured()
        opened = {key.key_id: fingerprint for key, fingerprint in self._opened(keyring)}
        root = _sha256_bytes(base64.b64decode((self._keys / "root.pub").read_text()))
        self._say(
            "keys.opened",
            host=self._host,
            speaks_for=list(self._agents),
            fingerprints=opened,
            root=root,
            configuration=_sha256(json.dumps(digests, sort_keys=True)),
        )
        before = self._before()
        known = before.get("digests", {})
        if known != digests:
            changed = sorted(name for name in {*known, *digests} if known.get(name) != digests.get(name))
            self._say(
                "config.changed", host=self._host, changed=changed, digests=dict(digests), settings=dict(settings)
            )
        self._note(digests, before.get("ring", {}))
        self._say_ring()

    def _opened(self, keyring: Keyring) -> Iterable[tuple[Any, str]]:
        for key in keyring.keys.values():
            if set(key.subjects) & set(self._agents):
                yield key, _sha256_bytes(base64.b64decode(key.public))[:16]

    def _say_ring(self) -> None:
        try:
            now = ring(Keyring.load(self._keys))
        except (BusError, OSError, ValueError):
            return  # a ring that cannot be believed changes nothing; hosts log it
        before = self._before()
        known = before.get("ring", {})
        if known == now:
            return
        self._say(
            "keys.changed",
            host=self._host,
            added=sorted(now.keys() - known.keys()),
            gone=sorted(known.keys() - now.keys()),
            changed=sorted(key for key in now.keys() & known.keys() if now[key] != known[key]),
            ring=now,
        )
        self._note(before.get("digests", {}), now)

    def _say(self, action: str, **details: Any) -> None:
        sender, fact_id = self._agents[0], f"fact-{uuid.uuid4().hex}"
        self._bus.submit(
            [
                Message(
                    message_id=fact_id,
                    correlation_id=fact_id,
                    from_agent=sender,
                    to_agent=EVERYONE,
                    message_type="event",
                    kind=AuditRecorded.kind(),
                    content=AuditRecorded(action=action, decision="done", details=details).model_dump_json(),
                    timestamp=micros(self._clock.now()),
                    principal=AGENT + sender,
                )
            ]
        ).result()

    def _before(self) -> dict[str, Any]:
        try:
            found = json.loads(self._noted.read_text())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _note(self, digests: Mapping[str, str], known: Mapping[str, str]) -> None:
        self._noted.parent.mkdir(parents=True, exist_ok=True)
        scratch = self._noted.with_suffix(f".{uuid.uuid4().hex[:8]}")
        scratch.write_text(json.dumps({"digests": dict(digests), "ring": dict(known)}))
        scratch.replace(self._noted)


def _sha256(text: str) -> str:
    return _sha256_bytes(text.encode())


def _sha256_bytes(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()

"""Anchors the log: what it is now, in a signed row of its own and at places elsewhere. `python -m jobs.audit.anchoring`."""

from __future__ import annotations

import base64
import json
import sys
import uuid
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc
import structlog

from bus.audit import fact_hash, is_audit
from bus.errors import Untrusted
from bus.keys import Keyring, KeyWitness, Signer
from bus.log import reading
from bus.log import rows as codec
from bus.log.contents import load
from bus.projections.projector import payload_of
from bus.trust import AGENT
from config.settings import Settings
from jobs.agents import UPKEEP, Agent
from jobs.audit import merkle, standing
from jobs.audit.anchors import ACTION, Anchor, extended, recorded
from jobs.audit.places import AnchorPlace, CannotAnchor, place_of
from jobs.audit.signatures import raws
from jobs.bootstrap import System
from schemas.envelope import EVERYONE, Message
from schemas.payloads import AuditRecorded
from schemas.tables import AGENT_MESSAGES
from workers.runtime.base import Worker
from workers.runtime.clock import micros

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Anchored:
    """The newest anchor; `is_new`: made now, because the log had grown. `sent`: how many went to each place."""

    anchor: Anchor
    is_new: bool
    sent: dict[str, int]


def anchor_log(system: System, to: Sequence[str] = ()) -> Anchored:
    """Anchor what came since the last anchor, and bring every place up to date.

    The log has it first, so that a place which cannot be reached gets it the next time. Raises CannotAnchor, Untrusted when
    an anchor in the log does not hold, MissingKey without upkeep's private key, and what opening the log raises.
    """
    keyring = Keyring.load(system.home.keys)
    source = system.log(AGENT_MESSAGES.name)
    place = (source.check(), system.settings.env)
    signer = Signer.load(system.home.keys, [UPKEEP], *place)
    of_upkeep = (pc.field("kind") == "AuditRecorded") & (pc.field("from_agent") == UPKEEP)
    if system.unity_schema is None:
        there = load(source)
        head, since = there.version, partial(standing.rows, source, there)
        known = _known(reading.rows(source.open(), filters=of_upkeep), keyring, place)
    else:
        whole, head = source.scan()
        whole = whole.filter(pc.field("log_version") <= head)
        since = partial(_above, whole)
        known = _known(whole.filter(of_upkeep), keyring, place)
    before = known[-1] if known else None
    places = {text: place_of(text) for text in dict.fromkeys(to)}
    held = {text: _held(there, known) for text, there in places.items()}
    rows = since(-1 if before is None else before.log_version)
    # Its own fact makes no new anchor necessary, or there would be one after each.
    is_new = before is None or rows.num_rows > 1
    if is_new:
        made = _made(before, rows, keyring, place, head, micros(system.clock.now()), signer)
        known.append(signed(made, signer, keyring, place))
        _record(system, known[-1])
    sent = {text: _send(there, known, held[text]) for text, there in places.items()}
    return Anchored(known[-1], is_new, sent)


def _above(rows: pa.Table, version: int) -> pa.Table:
    return rows.filter(pc.field("log_version") > version)


def _known(rows: pa.Table, keyring: Keyring, place: tuple[str, str]) -> list[Anchor]:
    """Anchors of the log in their order. Raises Untrusted: on what does not hold nothing is built."""
    witness = KeyWitness(keyring, UPKEEP, place)
    found: list[Anchor] = []
    for version, document in recorded(rows, keyring, place):
        try:
            anchor = Anchor.parse(json.dumps(document))
        except ValueError as error:
            raise Untrusted("anchor.format", f"the anchor in version {version} of the log is none: {error}") from error
        if not anchor.holds(witness):
            raise Untrusted("anchor.signature", f"the anchor in version {version} of the log was altered")
        if not found or anchor.number > found[-1].number:
            found.append(anchor)
    return found


def _made(
    before: Anchor | None,
    rows: pa.Table,
    keyring: Keyring,
    place: tuple[str, str],
    head: int,
    now: int,
    signer: Signer,
) -> Anchor:
    commits: dict[int, list[bytes]] = defaultdict(list)
    facts: dict[str, tuple[int, str]] = {}
    for raw in raws(rows):
        commits[-1 if raw["log_version"] is None else raw["log_version"]].append(merkle.leaf_of(raw, *place))
    for message in codec.from_arrow(rows.filter(pc.equal(rows.column("kind"), "AuditRecorded"))):
        if is_audit(message) and keyring.accepts(message, *place):
            # Whoever speaks for an agent can sign one that is none: an anchor says nothing of it, `audit verify` names it.
            fact = payload_of(message)
            writer, sequence = fact.get("writer"), fact.get("sequence")
            if isinstance(writer, str) and isinstance(sequence, int):
                facts[writer] = (sequence, fact_hash(message, *place))
    return extended(before, list(commits.items()), facts, place, head, now, signer.key_id(UPKEEP))


def signed(anchor: Anchor, signer: Signer, keyring: Keyring, place: tuple[str, str]) -> Anchor:
    """By upkeep's key, which the signer has to hold."""
    witness = KeyWitness(keyring, UPKEEP, place, signer)
    _, _, signature = witness.sign(anchor.signed_bytes).rpartition(":")
    return anchor.model_copy(update={"signature": base64.b64decode(signature).hex()})


def _record(system: System, anchor: Anchor) -> None:
    """In the log, as a fact of upkeep's own chain."""
    bus = system.bus([Agent(UPKEEP, UPKEEP.lower(), UPKEEP.lower(), _no_worker)])
    fact_id = f"anchor-{uuid.uuid4().hex}"
    fact = AuditRecorded(action=ACTION, decision="done", details={"anchor": anchor.model_dump(mode="json")})
    try:
        bus.submit(
            [
                Message(
                    message_id=fact_id,
                    correlation_id=fact_id,
                    from_agent=UPKEEP,
                    to_agent=EVERYONE,
                    message_type="event",
                    kind=AuditRecorded.kind(),
                    content=fact.model_dump_json(),
                    timestamp=anchor.time,
                    principal=AGENT + UPKEEP,
                )
            ]
        ).result()
    finally:
        bus.close()


def _no_worker(_: System) -> Worker:
    raise TypeError("upkeep has a key and no worker")


def _held(place: AnchorPlace, known: Sequence[Anchor]) -> int:
    """Number of the last anchor there. Raises CannotAnchor when the log does not know it."""
    lines = place.lines()
    if not lines:
        return 0
    remedy = f"something was altered; tailrace audit verify --anchor {place.name}"
    try:
        last = Anchor.parse(lines[-1])
    except ValueError as error:
        raise CannotAnchor(f"the last line of {place.name} is no anchor ({error}): {remedy}") from error
    if not known or last.number > known[-1].number:
        raise CannotAnchor(
            f"{place.name} has anchor number {last.number}, and the log does not have it any more: {remedy}"
        )
    if last.digest not in (one.digest for one in known):
        raise CannotAnchor(f"anchor number {last.number} of {place.name} is another one than that of the log: {remedy}")
    return last.number


def _send(place: AnchorPlace, known: Sequence[Anchor], held: int) -> int:
    missing = [anchor for anchor in known if anchor.number > held]
    for anchor in missing:
        place.append(anchor.number, anchor.line)
    return len(missing)


def main(arguments: Sequence[str] | None = None) -> None:
    """`TAILRACE_ANCHOR_TO`, or the arguments, say where to."""
    settings = Settings.load()
    to = list(sys.argv[1:] if arguments is None else arguments) or settings.anchor_places
    done = anchor_log(System(settings), to)
    log.info("log.anchored", number=done.anchor.number, version=done.anchor.log_version, sent=done.sent)


if __name__ == "__main__":
    main()

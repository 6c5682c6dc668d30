"""Verifies the audit trail from the tables and the public keys alone: one walk over the log, and every check beside it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from bus.audit import is_audit, says_fact
from bus.conversations import Conversations
from bus.fold import State, is_binding
from bus.ids import IdSet
from bus.keys import Keyring
from bus.log import rows as codec
from bus.projections.projector import payload_of
from bus.projections.tables import PROJECTIONS
from jobs.audit import signatures
from jobs.audit.anchors import Anchors, Source, of_log
from jobs.audit.chains import Chains
from jobs.audit.entries import Entries, all_rows
from jobs.audit.grants import Grants
from jobs.audit.projections import Compared, compared
from jobs.audit.report import AuditReport
from jobs.audit.signatures import Checked, Leaf
from jobs.bootstrap import System
from schemas.envelope import MALFORMED, USER, Message, is_user
from schemas.tables import AGENT_MESSAGES


def verification(system: System, anchors: Sequence[Source] = (), many: int | None = None) -> AuditReport:
    """Everything, from version 0 to now, days in the archive included.

    `anchors`: kept elsewhere; those in the log are always looked at. `many`: rows from which on processes help.
    Raises LogMissing, MissingKey, Untrusted for the keyring itself, or LogError when the archive is not where days went.
    """
    source = system.log(AGENT_MESSAGES.name)
    place = (source.check(), system.settings.env)
    report = AuditReport()
    keyring = Keyring.load(system.home.keys)
    # Before the rows, since hosts go on writing: what is looked at first is in them.
    projections = list(compared(PROJECTIONS, system.log, report).values())
    entries = Entries(source, report)
    rows = all_rows(source, report)
    anchored = Anchors([of_log(rows, keyring, place), *anchors], keyring, place, report)
    walk = Walk(system, place[1], anchored, entries, projections, report)
    for chunk in signatures.checked(rows, system.home.keys, *place, many=signatures.MANY if many is None else many):
        walk.take(chunk)
    walk.end()
    return report


class Walk:
    """The log from its beginning: what each check has to remember, and no more."""

    def __init__(
        self,
        system: System,
        environment: str,
        anchors: Anchors,
        entries: Entries,
        projections: Sequence[Compared],
        report: AuditReport,
    ) -> None:
        self._report = report
        self._anchors = anchors
        self._entries = entries
        self._projections = projections
        self._chains = Chains(report, anchors.writers())
        self._grants = Grants(system.roles, environment, report)
        self._state = State()
        self._state.conversations = _Unkept(1)
        self._seen = IdSet(2_000_000)
        #: Conversation -> on whose behalf it was begun.
        self._principals: dict[str, str | None] = {}
        #: Problems of rows that their addressee may yet have rejected, by message id.
        self._suspects: dict[str, list[tuple[str, str, str]]] = defaultdict(list)
        self._rejected: set[str | None] = set()
        #: Trees whose rows stood in an earlier commit.
        self._trees: dict[str, int] = {}

    def take(self, chunk: Checked) -> None:
        indices = range(chunk.rows.num_rows)
        for version, commit in groupby(zip(indices, _messages(chunk), strict=True), key=lambda one: one[1].log_version):
            self._commit(version, list(commit), chunk)

    def _commit(self, version: int, commit: list[tuple[int, Message]], chunk: Checked) -> None:
        rows = [message for _, message in commit]
        self._report.checked["commits"] += 1
        self._positions(version, rows)
        self._trees_of(version, commit, chunk.leaves)
        self._entries.take(version, rows)
        self._anchors.take(version, [chunk.hashes[index] for index, _ in commit])
        holding = {message.position for index, message in commit if self._holds(message, index, chunk)}
        # What the bus itself folds: a receipt or claim that nobody signed decides nothing.
        valid = {
            m.position: m for m in self._state.absorb(m for m in rows if m.position in holding or not is_binding(m))
        }
        for index, message in commit:
            if message.position in holding:
                self._signed(message, message.position in valid, chunk.facts.get(index))
        for message in valid.values():
            if message.position in holding:
                for projection in self._projections:
                    projection.take(message)

    def _positions(self, version: int, rows: Sequence[Message]) -> None:
        """No version's rows have a hole: a commit's seq runs from 0."""
        seqs = [message.seq for message in rows]
        if seqs == list(range(len(seqs))):
            return
        missing = sorted(set(range(max(seqs) + 1)) - set(seqs))
        twice = sorted({seq for seq in seqs if seqs.count(seq) > 1})
        told = [f"{_numbers(missing)} missing"] if missing else []
        told += [f"{_numbers(twice)} there twice"] if twice else []
        what = f"of its rows, {' and '.join(told) or 'some have no number'}: one was taken out, or added"
        self._report.add("log.sequence", f"version {version}", what)

    def _trees_of(self, version: int, commit: list[tuple[int, Message]], leaves: dict[int, Leaf]) -> None:
        """Rows that were signed together stand in one commit, all of them, in the order in which they were signed."""
        groups: dict[str, list[tuple[Leaf, Message]]] = defaultdict(list)
        for index, message in commit:
            if (leaf := leaves.get(index)) is not None:
                groups[leaf.group].append((leaf, message))
        for name, found in groups.items():
            size = found[0][0].size
            places = [leaf.place for leaf, _ in found if leaf.place >= 0]
            by = f"{found[0][1].from_agent}'s key"
            if len(found) < size:
                gone = sorted(set(range(size)) - set(places)) if len(places) == len(found) else []
                which = f", number {_numbers(gone)} of them" if gone else ""
                what = f"{by} signed {size} rows together, and {len(found)} are in this commit{which}"
                self._report.add("log.removed", f"version {version}", what)
            for (leaf, message), (before, _) in zip(found[1:], found, strict=False):
                if 0 <= leaf.place <= before.place:
                    what = f"{by} signed it as number {leaf.place} of {size} rows, and it stands behind number {before.place}"
                    self._report.add("log.order", where(message), what)
            if name in self._trees:
                what = f"{by} signed them together with rows of version {self._trees[name]}"
                self._report.add("log.order", f"version {version}", what)
            self._trees[name] = version

    def _holds(self, message: Message, index: int, chunk: Checked) -> bool:
        """Whether the row is signed. One that is not is a problem, unless its addressee rejected it and said so."""
        self._report.checked["rows"] += 1
        refused = chunk.refused.get(index)
        if message.kind == MALFORMED:
            refused = ("message.malformed", "the row is no message")
        if refused is None:
            self._report.checked["signatures"] += 1
            return True
        self._suspects[message.message_id].append((refused[0], where(message), refused[1]))
        return False

    def _signed(self, message: Message, is_valid: bool, digest: str | None) -> None:
        is_new = self._seen.add(message.message_id)
        if not is_new:
            what = "a row with this id stands in the log before: this one is a copy, which nobody obeys"
            self._report.add("log.repeated", where(message), what)
        self._principal(message)
        payload = payload_of(message) if message.message_type != "receipt" or not is_valid else outcome_of(message)
        if message.message_type == "receipt":
            self._report.checked["receipts"] += 1
            if is_valid and payload.get("outcome") == "rejected":
                self._rejected.add(message.causation_id)
            if is_user(message.from_agent):
                # Agents write receipts; what a person's key signs as one settles nothing and spoils nothing.
                self._report.checked["receipts of people, which are none"] += 1
            elif not is_valid and is_new:
                what = f"{message.causation_id} had a receipt by {message.from_agent} already, or is not in the log"
                self._report.add("receipt.second", where(message), what)
        elif is_new:
            if is_audit(message) and digest is not None:
                self._chains.take(payload, digest, where(message))
            elif says_fact(message) and digest is not None:
                self._chains.ignore(payload, digest)
            self._grants.take(message, payload)

    def _principal(self, message: Message) -> None:
        root = self._principals.setdefault(message.correlation_id, message.principal)
        if message.from_agent.startswith(USER):
            holds = message.principal == message.from_agent.removeprefix(USER)
        else:
            holds = message.principal == root
        if not holds:
            what = f"it acts for {message.principal}, the root for {root}"
            self._suspects[message.message_id].append(("principal.changed", where(message), what))

    def end(self) -> None:
        for message_id, found in self._suspects.items():
            if message_id in self._rejected:
                self._report.checked["rejected rows"] += 1
                continue
            for problem in found:
                self._report.add(*problem)
        self._entries.end()
        self._grants.end()
        for projection in self._projections:
            projection.end()
        self._anchors.end(self._entries.head, self._chains)


class _Unkept(Conversations):
    """Nobody asks this walk what a conversation said: none of it is kept."""

    def add(self, row: Message, waits: bool = False) -> None:
        return

    def opened(self, correlation_id: str) -> None:
        return

    def settled(self, correlation_id: str) -> None:
        return


def where(message: Message) -> str:
    return f"agent_messages ({message.log_version}, {message.seq}) {message.kind} from {message.from_agent}"


def _messages(chunk: Checked) -> Iterator[Message]:
    """In the chunk's own order, whatever the rows say about their places."""
    rows = chunk.rows
    if rows.column("log_version").null_count == 0 and rows.column("seq").null_count == 0:
        yield from codec.from_arrow(rows)
        return
    for place in range(rows.num_rows):
        yield from codec.from_arrow(rows.slice(place, 1))


def outcome_of(receipt: Message) -> dict[str, Any]:
    """Of a receipt, whether it was rejected; the others need not be parsed."""
    return dict(payload_of(receipt)) if '"rejected"' in receipt.content else {}


def _numbers(numbers: Sequence[int]) -> str:
    shown = ", ".join(map(str, numbers[:10]))
    return shown if len(numbers) <= 10 else f"{shown} and {len(numbers) - 10} more"

"""Verifies the audit trail from the tables and the public keys alone: signatures, chains, decisions, grants, projections."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from bus.audit import GENESIS, fact_hash, is_audit
from bus.errors import Untrusted
from bus.fold import decision_key, valid_rows
from bus.keys import Keyring
from bus.log import rows as codec
from bus.log.retention import everything
from bus.log.table import DeltaLog
from bus.projections.projector import payload_of
from bus.projections.tables import PROJECTIONS
from jobs.bootstrap import System
from schemas.envelope import MALFORMED, USER, Message
from schemas.tables import AGENT_MESSAGES


@dataclass(frozen=True)
class Problem:
    """`rule` is the check that failed, `where` the row or table, `what` a sentence for the auditor."""

    rule: str
    where: str
    what: str


@dataclass
class AuditReport:
    problems: list[Problem] = field(default_factory=list)
    checked: Counter[str] = field(default_factory=Counter)

    @property
    def ok(self) -> bool:
        return not self.problems

    def add(self, rule: str, where: str, what: str) -> None:
        self.problems.append(Problem(rule, where, what))


def verify(system: System) -> AuditReport:
    """Everything, from version 0 to now, days in the archive included.

    Raises LogMissing, MissingKey, Untrusted for the keyring itself, or LogError when the archive is not where days went.
    """
    source = system.log(AGENT_MESSAGES.name)
    table_id = source.check()
    messages = codec.from_arrow(everything(source))
    report = AuditReport()
    keyring = Keyring.load(system.home.keys)
    _positions(messages, report)
    _entries(source, report)
    quarantined = {
        m.causation_id for m in messages if m.kind == "Receipt" and payload_of(m).get("outcome") == "rejected"
    }
    signed = _signatures(messages, keyring, table_id, system.settings.env, quarantined, report)
    _principals(signed, quarantined, report)
    _chains([m for m in signed if is_audit(m)], table_id, system.settings.env, report)
    # What the bus itself folds: a receipt or claim that nobody signed decides nothing.
    holding = {m.position for m in signed}
    valid = valid_rows(m for m in messages if decision_key(m) is None or m.position in holding)
    _receipts(signed, {m.position for m in valid}, report)
    _grants(signed, system, report)
    _projections([m for m in valid if m.position in holding], system.log, report)
    return report


def _positions(messages: Sequence[Message], report: AuditReport) -> None:
    """No version's rows have a hole: a commit's seq runs from 0."""
    commits: dict[int, list[int]] = defaultdict(list)
    for message in messages:
        commits[message.log_version].append(message.seq)
    for version, seqs in commits.items():
        report.checked["commits"] += 1
        if sorted(seqs) != list(range(len(seqs))):
            report.add(
                "log.sequence",
                f"version {version}",
                f"its rows are numbered {sorted(seqs)}: one is missing or was added",
            )


def _entries(source: DeltaLog, report: AuditReport) -> None:
    """Few rows stand twice: hosts believe the entry, everybody else its data file. As long as both are there, they agree."""

    def differs(name: str) -> bool:
        entry = source.entry(int(name[:20]))
        if entry is None or not entry.inline or not all(source.store.exists(one.file) for one in entry.added):
            return False  # cleaned away, or compacted: then the file was made of what hosts had read
        return codec.of_entry(source, entry) != codec.from_arrow(source.read(entry), entry.version)

    names = sorted(n for n in source.store.names("_delta_log") if n.endswith(".json") and n[:20].isdigit())
    with ThreadPoolExecutor(16, thread_name_prefix="audit-entries") as pool:
        for name, different in zip(names, pool.map(differs, names), strict=True):
            if different:
                what = "its log entry and its data file say different rows: hosts read the one, queries the other"
                report.add("log.entry", f"version {int(name[:20])}", what)


def _signatures(
    messages: Sequence[Message],
    keyring: Keyring,
    table_id: str,
    environment: str,
    quarantined: set[str | None],
    report: AuditReport,
) -> list[Message]:
    """Rows that hold. One that does not is a problem, unless its addressee rejected it and said so."""
    holding = []
    for message in messages:
        report.checked["rows"] += 1
        try:
            if message.kind == MALFORMED:
                raise Untrusted("message.malformed", "the row is no message")
            keyring.check(message, table_id, environment)
        except Untrusted as error:
            if message.message_id in quarantined:
                report.checked["rejected rows"] += 1
            else:
                report.add(error.rule, _where(message), error.reason)
            continue
        report.checked["signatures"] += 1
        holding.append(message)
    return holding


def _principals(signed: Sequence[Message], quarantined: set[str | None], report: AuditReport) -> None:
    conversations: dict[str, list[Message]] = defaultdict(list)
    for message in signed:
        conversations[message.correlation_id].append(message)
    for conversation in conversations.values():
        root = conversation[0]
        for message in conversation:
            if message.from_agent.startswith(USER):
                holds = message.principal == message.from_agent.removeprefix(USER)
            else:
                holds = message.principal == root.principal
            if not holds and message.message_id not in quarantined:
                report.add(
                    "principal.changed",
                    _where(message),
                    f"it acts for {message.principal}, the root for {root.principal}",
                )


def _chains(facts: Sequence[Message], table_id: str, environment: str, report: AuditReport) -> None:
    """Every writer's facts: 1, 2, 3, ..., each naming the hash of the one before, in the log's order."""
    chains: dict[str, list[tuple[int, Message]]] = defaultdict(list)
    for message in facts:
        fact = payload_of(message)
        chains[str(fact.get("writer"))].append((int(fact.get("sequence", 0)), message))
        report.checked["facts"] += 1
    for writer, links in chains.items():
        report.checked["chains"] += 1
        expected, previous = 1, GENESIS
        for sequence, message in links:
            if sequence != expected:
                report.add(
                    "audit.sequence",
                    f"chain {writer}",
                    f"fact {expected} is missing or out of order: {sequence} stands there",
                )
            elif payload_of(message).get("previous") != previous:
                report.add("audit.chain", f"chain {writer}, fact {sequence}", "it does not name the fact before it")
            expected, previous = sequence + 1, fact_hash(message, table_id, environment)


def _receipts(signed: Sequence[Message], counting: set[tuple[int, int]], report: AuditReport) -> None:
    """At most one receipt counts; none may stand in the log that does not."""
    for message in signed:
        if message.message_type == "receipt":
            report.checked["receipts"] += 1
            if message.position not in counting:
                what = f"{message.causation_id} had a receipt by {message.from_agent} already, or is not in the log"
                report.add("receipt.second", _where(message), what)


def _grants(signed: Sequence[Message], system: System, report: AuditReport) -> None:
    """Each effect has a claim, each claim a grant from governance, each grant a signed yes of another person who may."""
    events = [m for m in signed if m.message_type == "event"]
    decisions = [(m, payload_of(m)) for m in signed if m.kind == "Decide"]
    grants: dict[str, Mapping[str, Any]] = {}
    for message in signed:
        if message.kind == "RunCode" and message.from_agent == "GovernanceAgent":
            grant = payload_of(message)["grant"]
            grants[grant["grant_id"]] = grant
            report.checked["grants"] += 1
            yes = [
                m
                for m, said in decisions
                if (said.get("approval_id"), said.get("decision"), said.get("digest"))
                == (grant["approval_id"], "approve", grant["dry_run_digest"])
                and m.from_agent == USER + grant["approved_by"]
            ]
            if not yes:
                report.add("grant.approval", _where(message), f"{grant['approved_by']} never signed an approval of it")
            if grant["approved_by"] == grant["requester"]:
                report.add("grant.four_eyes", _where(message), "requester and approver are one person")
            if not system.roles.allows(grant["approved_by"], "execution.approve"):
                report.add("grant.approver", _where(message), f"{grant['approved_by']}'s role does not allow approving")
    claims: Counter[str] = Counter()
    for message in events:
        if message.kind not in ("ExecutionClaimed", "ExecutionSettled") or message.from_agent != "ExecutionAgent":
            continue
        grant_id = str(payload_of(message).get("grant_id"))
        if grant_id not in grants:
            report.add("execution.without_grant", _where(message), f"there is no grant {grant_id}")
        if message.kind == "ExecutionClaimed":
            report.checked["executions"] += 1
            claims[grant_id] += 1
        elif claims[grant_id] == 0:
            report.add(
                "execution.without_claim", _where(message), f"grant {grant_id} has an outcome and no claim before it"
            )
    for grant_id, count in claims.items():
        if count > 1:
            report.add("execution.twice", f"grant {grant_id}", f"it was claimed {count} times")


def _projections(valid: Sequence[Message], open_log: Any, report: AuditReport) -> None:
    """What was decided is in the projections, and nothing else is: up to the position each of them says it has."""
    for schema, project in PROJECTIONS:
        table: DeltaLog = open_log(schema.name)
        found, upto = _projected(table, f"projector:{schema.name}")
        expected = {}
        for message in valid:
            if message.log_version <= upto and (row := project(message)) is not None:
                expected[message.position] = _comparable(schema.file_schema.names, row)
        actual: dict[tuple[int, int], list[Any]] = {}
        for row in found:
            position = (row["log_version"], row["seq"])
            if position in actual:
                report.add("projection.repeated", f"{schema.name} {position}", "the row stands there twice")
            actual[position] = _comparable(schema.file_schema.names, row)
        report.checked["projected rows"] += len(actual)
        for position in expected.keys() - actual.keys():
            report.add("projection.missing", f"{schema.name} {position}", "it is in the log and not in the projection")
        for position in actual.keys() - expected.keys():
            report.add("projection.invented", f"{schema.name} {position}", "it is in the projection and not in the log")
        for position in expected.keys() & actual.keys():
            if expected[position] != actual[position]:
                report.add("projection.altered", f"{schema.name} {position}", "it differs from what the log says")


def _projected(table: DeltaLog, app_id: str) -> tuple[Iterable[dict[str, Any]], int]:
    import pyarrow as pa

    opened = table.open()
    version = opened.transaction_version(app_id)
    found = everything(table, opened).select(table.schema.file_schema.names)
    for index, name in enumerate(found.column_names):
        if pa.types.is_timestamp(found.schema.field(name).type):
            found = found.set_column(index, name, found.column(name).cast(pa.timestamp("us", "UTC")).cast(pa.int64()))
    return found.to_pylist(), -1 if version is None else int(version)


def _comparable(names: Sequence[str], row: Mapping[str, Any]) -> list[Any]:
    return [row.get(name) for name in names]


def _where(message: Message) -> str:
    return f"agent_messages ({message.log_version}, {message.seq}) {message.kind} from {message.from_agent}"

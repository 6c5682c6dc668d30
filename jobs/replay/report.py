"""What a replay found: counts, and every message that is not simply the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from workers.runtime.comparing import Comparison, Difference
from workers.runtime.replaying import Recording, Replayed

#: Findings of one verdict that are kept for showing; the table has them all.
KEPT = 1_000


@dataclass(frozen=True)
class Finding:
    """One message that is not simply the same. Milliseconds are those in the handler."""

    message_id: str
    correlation_id: str
    agent: str
    kind: str
    verdict: str
    reason: str
    recorded_outcome: str
    replayed_outcome: str | None
    recorded_ms: float | None
    replayed_ms: float | None
    differences: tuple[Difference, ...]

    @classmethod
    def of(cls, recording: Recording, replayed: Replayed | None, comparison: Comparison) -> Finding:
        message = recording.message
        return cls(
            message_id=message.message_id,
            correlation_id=message.correlation_id,
            agent=recording.agent,
            kind=message.kind,
            verdict=comparison.verdict,
            reason=comparison.reason,
            recorded_outcome=recording.said.outcome,
            replayed_outcome=replayed.receipt.outcome if replayed else None,
            recorded_ms=recording.said.handled_ms,
            replayed_ms=replayed.receipt.handled_ms if replayed else None,
            differences=comparison.differences,
        )

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> Finding:
        return cls(**{**document, "differences": tuple(Difference(**one) for one in document["differences"])})


@dataclass
class ReplayReport:
    """`counts`: (agent, kind, verdict) -> messages. `held`: what the system kept the workers from, `files` and `network`.

    `from_archive`: messages that had left the table; `discarded_to`: the last day of the span of which nothing is left.
    """

    replay_id: str
    version: int
    counts: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)
    held: tuple[str, ...] = ()
    from_archive: int = 0
    discarded_to: str | None = None
    _kept: Counter[str] = field(default_factory=Counter)

    @property
    def verdicts(self) -> Counter[str]:
        found: Counter[str] = Counter()
        for (_, _, verdict), count in self.counts.items():
            found[verdict] += count
        return found

    @property
    def total(self) -> int:
        return self.counts.total()

    def add(self, finding: Finding) -> None:
        self.counts[finding.agent, finding.kind, finding.verdict] += 1
        if finding.verdict != "same" and self._kept[finding.verdict] < KEPT:
            self._kept[finding.verdict] += 1
            self.findings.append(finding)

    def document(self) -> dict[str, Any]:
        """For machines. What is not among `findings` is in the table `replays`."""
        return {
            "replay_id": self.replay_id,
            "version": self.version,
            "messages": self.total,
            "from_archive": self.from_archive,
            "discarded_to": self.discarded_to,
            "verdicts": dict(sorted(self.verdicts.items())),
            "by_kind": [
                {"agent": agent, "kind": kind, "verdict": verdict, "messages": count}
                for (agent, kind, verdict), count in sorted(self.counts.items())
            ],
            "findings": [asdict(one) for one in self.findings],
            "kept_from": list(self.held),
        }

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> ReplayReport:
        counts = Counter({(c["agent"], c["kind"], c["verdict"]): c["messages"] for c in document["by_kind"]})
        findings = [Finding.parse(one) for one in document["findings"]]
        return cls(
            document["replay_id"],
            document["version"],
            counts,
            findings,
            held=tuple(document["kept_from"]),
            from_archive=document["from_archive"],
            discarded_to=document["discarded_to"],
        )

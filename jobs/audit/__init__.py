"""The audit trail: verified from the tables and the public keys alone, anchored elsewhere, and exported for others to check."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from jobs.audit.report import AuditReport, Problem

if TYPE_CHECKING:
    from jobs.audit.anchors import Source
    from jobs.bootstrap import System

__all__ = ["AuditReport", "Problem", "verify"]


def verify(system: System, anchors: Sequence[Source] = (), many: int | None = None) -> AuditReport:
    """See `jobs.audit.verification`, which is not loaded before it is needed: processes that check signatures never do."""
    if system.unity_schema is not None:
        from jobs.audit.catalogue import verification
    else:
        from jobs.audit.verification import verification

    return verification(system, anchors, many)

"""The audit trail: verified from the tables and the public keys alone, anchored elsewhere, and exported for others to check."""

from jobs.audit.report import AuditReport, Problem
from jobs.audit.verify import verify

__all__ = ["AuditReport", "Problem", "verify"]

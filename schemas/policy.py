"""Policies as data: rules that allow, deny, or ask for approval, and who has to say yes then."""

from __future__ import annotations

import hashlib
import json
from datetime import time
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from schemas.payloads import Need, Subject


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Drift(_Frozen):
    """How far things may move between dry run and run before approval is asked for again."""

    table_versions: int = Field(default=0, ge=0)


class Approval(_Frozen):
    """Who has to say yes, and what happens while nobody does. Times are seconds after the question was asked."""

    needs: tuple[Need, ...]
    remind_after_s: float | None = Field(default=None, gt=0)
    escalate_after_s: float | None = Field(default=None, gt=0)
    escalate_to: tuple[Need, ...] = ()
    expires_after_s: float = Field(default=3600.0, gt=0)
    grant_ttl_s: float = Field(default=900.0, gt=0)
    drift: Drift = Drift()


class When(_Frozen):
    """Conditions, all of which must hold; one that is left out holds. Table and column patterns take `*`."""

    subject: tuple[Subject, ...] | None = None
    roles: tuple[str, ...] | None = None
    principals: tuple[str, ...] | None = None
    environments: tuple[str, ...] | None = None
    languages: tuple[str, ...] | None = None
    classes: tuple[str, ...] | None = None
    #: Some table that is read matches, and some table that is written.
    reads: tuple[str, ...] | None = None
    writes: tuple[str, ...] | None = None
    #: Some column that is read, as schema.table.column, matches.
    columns: tuple[str, ...] | None = None
    #: All of them match: for rules that allow.
    reads_only: tuple[str, ...] | None = None
    writes_only: tuple[str, ...] | None = None
    rows_over: int | None = None
    rows_at_most: int | None = None
    bytes_over: int | None = None
    bytes_at_most: int | None = None
    removes_rows_over: int | None = None
    confidence_below: float | None = None
    confidence_at_least: float | None = None
    not_before: time | None = None
    not_after: time | None = None
    weekdays: tuple[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"], ...] | None = None


class Rule(_Frozen):
    """`deny` wins over all, then the first of the others in the order of the file. `allow`: nobody is asked."""

    id: str = Field(pattern=r"^[a-z][a-z0-9_.-]{1,63}$")
    effect: Literal["allow", "deny", "approve"]
    reason: str
    when: When = When()
    approval: Approval | None = None


class Policy(_Frozen):
    """`groups`: people by name, for approvals; a role is a group as well. What no rule speaks of is denied."""

    version: Literal[1]
    timezone: str = "UTC"
    groups: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    rules: tuple[Rule, ...]

    @property
    def digest(self) -> str:
        """sha256 of the policy as canonical JSON: two files that mean the same have the same digest."""
        document = self.model_dump(mode="json", exclude_none=True)
        return hashlib.sha256(json.dumps(document, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

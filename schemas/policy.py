"""Policies as data: rules that allow, deny, or ask for approval, and who has to say yes then."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from datetime import time
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from schemas.payloads import Need, Subject

StatementClass = Literal["read", "create", "write", "delete", "drop", "alter", "grant", "other"]
Language = Literal["sql", "python", "pyspark", "restore"]
Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
WEEKDAYS: tuple[Weekday, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def _clock(value: Any) -> Any:
    # YAML reads 22:00 as the number 1320, which would be taken for 22 minutes after midnight.
    if isinstance(value, int | float):
        raise ValueError("a time of day is written in quotes, such as '22:00'")
    return value


def _no_zone(value: time) -> time:
    if value.tzinfo is not None:
        raise ValueError("a time of day has no zone of its own; the policy's `timezone` says where it is meant")
    return value


def _named(parts: int, example: str) -> AfterValidator:
    def check(pattern: str) -> str:
        if pattern != "*" and (len(pattern.split(".")) not in (parts, parts + 1) or "" in pattern.split(".")):
            raise ValueError(f"{pattern!r} is not of the form {example}, where `*` stands for anything within a part")
        return pattern

    return AfterValidator(check)


Clock = Annotated[time, BeforeValidator(_clock), AfterValidator(_no_zone)]
Table = Annotated[str, _named(2, "schema.table")]
Column = Annotated[str, _named(3, "schema.table.column")]
Count = Annotated[int, Field(ge=0, strict=True)]
Confidence = Annotated[float, Field(ge=0, le=1)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Drift(_Frozen):
    """How far things may move between dry run and run before approval is asked for again."""

    table_versions: int = Field(default=0, ge=0)


class Approval(_Frozen):
    """Who has to say yes, and what happens while nobody does. Times are seconds after the question was asked."""

    needs: tuple[Need, ...] = Field(min_length=1)
    remind_after_s: float | None = Field(default=None, gt=0)
    escalate_after_s: float | None = Field(default=None, gt=0)
    escalate_to: tuple[Need, ...] = ()
    expires_after_s: float = Field(default=3600.0, gt=0)
    grant_ttl_s: float = Field(default=900.0, gt=0)
    drift: Drift = Drift()

    @model_validator(mode="after")
    def _in_time(self) -> Self:
        for name in ("remind_after_s", "escalate_after_s"):
            after = getattr(self, name)
            if after is not None and after >= self.expires_after_s:
                raise ValueError(f"{name} is not before expires_after_s ({self.expires_after_s:g}): it would never be")
        if (self.escalate_after_s is None) != (not self.escalate_to):
            raise ValueError("escalate_after_s and escalate_to belong together: when, and to whom")
        for name in ("needs", "escalate_to"):
            twice = [group for group, times in Counter(need.group for need in getattr(self, name)).items() if times > 1]
            if twice:
                raise ValueError(f"{name} names {twice[0]} twice; say the count once")
        return self


class When(_Frozen):
    """Conditions, all of which must hold; one that is left out holds. Table and column patterns take `*`.

    What is said of statements (languages, classes, tables, columns, sizes) holds for executions only.
    """

    subject: tuple[Subject, ...] | None = None
    roles: tuple[str, ...] | None = None
    principals: tuple[str, ...] | None = None
    environments: tuple[str, ...] | None = None
    languages: tuple[Language, ...] | None = None
    classes: tuple[StatementClass, ...] | None = None
    #: Some table that is read matches, and some table that is written.
    reads: tuple[Table, ...] | None = None
    writes: tuple[Table, ...] | None = None
    #: Some column that is read, as schema.table.column, matches.
    columns: tuple[Column, ...] | None = None
    #: All of them match: for rules that allow.
    reads_only: tuple[Table, ...] | None = None
    writes_only: tuple[Table, ...] | None = None
    rows_over: Count | None = None
    rows_at_most: Count | None = None
    bytes_over: Count | None = None
    bytes_at_most: Count | None = None
    #: Of the table that is written: rows that are gone afterwards, and rows that are gone or no longer what they were.
    removes_rows_over: Count | None = None
    replaces_rows_over: Count | None = None
    confidence_below: Confidence | None = None
    confidence_at_least: Confidence | None = None
    #: A window that ends before it begins goes over midnight; `weekdays` is the day on which it is asked.
    not_before: Clock | None = None
    not_after: Clock | None = None
    weekdays: tuple[Weekday, ...] | None = None

    @model_validator(mode="after")
    def _may_hold(self) -> Self:
        for name in type(self).model_fields:
            if getattr(self, name) == ():
                raise ValueError(f"{name} is empty, so the rule could never hold; leave it out, or name something")
        for what in ("rows", "bytes"):
            over, at_most = getattr(self, f"{what}_over"), getattr(self, f"{what}_at_most")
            if over is not None and at_most is not None and over >= at_most:
                raise ValueError(f"{what}_over {over} and {what}_at_most {at_most} never hold together")
        below, at_least = self.confidence_below, self.confidence_at_least
        if below is not None and at_least is not None and at_least >= below:
            raise ValueError(f"confidence_at_least {at_least} and confidence_below {below} never hold together")
        return self


class Rule(_Frozen):
    """`deny` wins over all, then the first of the others in the order of the file. `allow`: nobody is asked."""

    id: str = Field(pattern=r"^[a-z][a-z0-9_.-]{1,63}$")
    effect: Literal["allow", "deny", "approve"]
    reason: str = Field(min_length=1)
    when: When = When()
    approval: Approval | None = None

    @model_validator(mode="after")
    def _approval_where_it_belongs(self) -> Self:
        if self.effect == "approve" and self.approval is None:
            raise ValueError("a rule that asks for approval says by whom: give it an `approval` with `needs`")
        if self.effect != "approve" and self.approval is not None:
            raise ValueError(f"a rule that says {self.effect} asks nobody: take `approval` away, or say `approve`")
        return self


class Policy(_Frozen):
    """`groups`: people by name, for approvals; a role is a group as well. What no rule speaks of is denied."""

    version: Literal[1]
    timezone: str = "UTC"
    groups: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    rules: tuple[Rule, ...]

    @field_validator("timezone")
    @classmethod
    def _a_place(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (LookupError, ValueError, OSError) as error:
            raise ValueError(f"{value!r} is no time zone; they are called UTC, Europe/Vienna and so on") from error
        return value

    @model_validator(mode="after")
    def _once(self) -> Self:
        twice = [rule for rule, times in Counter(rule.id for rule in self.rules).items() if times > 1]
        if twice:
            raise ValueError(f"the rule {twice[0]} is there twice; every decision names one rule, so ids differ")
        return self

    @property
    def digest(self) -> str:
        """sha256 of the policy as canonical JSON: two files that mean the same have the same digest."""
        document = self.model_dump(mode="json", exclude_none=True)
        return hashlib.sha256(json.dumps(document, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

"""Redaction as data: what is looked for, where, and what takes its place."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

#: Where text may end up: the log of messages, the log of a process (and its spans), a model's prompt.
Place = Literal["message", "log", "prompt"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RedactionRule(_Frozen):
    """One kind of thing. `detector` names one that is built in; `pattern` is a regular expression of one's own.

    `mask` puts `[ID]` in its place, `last4` keeps the last four characters.
    """

    id: str = Field(pattern=r"^[a-z][a-z0-9_.-]{1,40}$")
    detector: str | None = None
    pattern: str | None = Field(default=None, min_length=2, max_length=500)
    action: Literal["mask", "last4"] = "mask"
    where: tuple[Place, ...]

    @model_validator(mode="after")
    def _one_of_both(self) -> RedactionRule:
        if (self.detector is None) == (self.pattern is None):
            raise ValueError(f"rule {self.id}: give either a detector or a pattern")
        return self


class RedactionPolicy(_Frozen):
    version: Literal[1]
    rules: tuple[RedactionRule, ...]

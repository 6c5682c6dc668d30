"""Goal-driven plans: which agents are asked what, in which order, and which permission the goal needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict


class Step(BaseModel):
    """Ask `agent` with `request`; the step is done when one of `done` comes back."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    agent: str
    request: str
    done: str


class Plan(BaseModel):
    """`permission`: what the principal's role must allow. `instead`: the plan of those who may not, if there is one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    goal: str
    permission: str
    instead: str | None = None
    steps: tuple[Step, ...]


class Plans(BaseModel):
    """All plans by name, as `config/mas_config.yaml` has them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_question_length: int
    plans: Mapping[str, Plan]

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> Plans:
        """Raises pydantic's ValidationError, or ValueError for a plan that names one that is not there."""
        plans = cls.model_validate(document)
        for name, plan in plans.plans.items():
            if plan.instead is not None and plan.instead not in plans.plans:
                raise ValueError(f"plan {name}: `instead` names {plan.instead}, which is no plan")
        return plans

"""docs/governance.md names every condition, and its policy is one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from config.roles import Roles
from jobs.policies import load_policy
from schemas.policy import Approval, When

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "governance.md").read_text(encoding="utf-8")
POLICY = PAGE.split("## Policy", 1)[1]


@pytest.mark.parametrize("name", [*When.model_fields, *Approval.model_fields])
def test_every_condition_is_explained(name: str) -> None:
    assert f"`{name}`" in POLICY or f"`{name}:" in POLICY


def test_the_example_is_a_policy_without_warnings(tmp_path: Path) -> None:
    (block,) = re.findall(r"```yaml\n(version.*?)```", POLICY, re.S)
    path = tmp_path / "example.yaml"
    path.write_text(block)
    assert load_policy(Roles.load("dev"), path).warnings == ()

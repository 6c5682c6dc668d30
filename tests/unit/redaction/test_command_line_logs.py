"""What a command itself logs is masked by the policy of the installation, as what hosts log is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from apps.cli.session import open_system
from config.files import ConfigError
from jobs import logging

POLICY = """
version: 1
rules:
  - {id: staff, pattern: 'EMP-[0-9]{4}', where: [log]}
"""
SECRET = "AKIA" + "IOSFODNN7EXAMPLE"


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    kept = structlog.get_config()
    yield
    structlog.configure(**kept)


@pytest.fixture
def policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TAILRACE_CONFIG", str(tmp_path))
    file = tmp_path / "redaction.yaml"
    file.write_text(POLICY)
    return file


def logged(tmp_path: Path, capsys: pytest.CaptureFixture[str], **said: str) -> str:
    open_system(home_needed=False, home=str(tmp_path / "home"))
    try:
        raise ValueError(f"nobody is {said['who']}")
    except ValueError:
        structlog.get_logger("of-a-command").warning("bus.slow", exc_info=True, **said)
    return capsys.readouterr().err


def test_a_line_of_a_command_is_masked_by_the_policy(
    policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = logged(tmp_path, capsys, who="EMP-1234")
    assert "bus.slow" in said
    assert "nobody is" in said
    assert "EMP-1234" not in said


def test_without_a_policy_that_can_be_read_values_are_withheld(
    policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command itself says what is wrong with it; its log must not tell meanwhile what was to be masked."""
    policy.write_text(POLICY.replace("EMP-[0-9]{4}", "EMP-["))
    said = logged(tmp_path, capsys, who="EMP-1234")
    assert "bus.slow" in said
    assert logging.WITHHELD in said
    assert "EMP-1234" not in said
    with pytest.raises(ConfigError, match=r"redaction\.yaml"):
        open_system(home_needed=False, home=str(tmp_path / "home")).redactor  # noqa: B018  # reading it is the point


def test_commands_that_log_nothing_read_no_policy(policy: Path, tmp_path: Path) -> None:
    policy.write_text("no policy")
    open_system(home_needed=False, home=str(tmp_path / "home"))


def test_what_was_given_as_a_policy_is_used_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    logging.configure("WARNING")
    structlog.get_logger("plain").warning("bus.slow", key=SECRET)
    said = capsys.readouterr().err
    assert "bus.slow" in said
    assert SECRET not in said

"""What is typed wrongly, or cannot be done here: a cause, a remedy, the right exit code, never a traceback."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from apps.cli.exits import CODES, FAILED, MISUSE, TIMED_OUT, CommandError, explained
from apps.cli.main import COMMANDS
from bus.errors import ContentTooLarge, LogMissing, MissingKey, TimedOut, Untrusted
from jobs.bootstrap import System
from tests.unit.cli.conftest import Run


def test_help_names_every_command_and_loads_nothing_heavy() -> None:
    program = (
        "import sys\nfrom apps.cli.main import app\n"
        "try: app(['--help'])\nexcept SystemExit: pass\n"
        "heavy = {'pyspark', 'deltalake', 'pandas', 'pyarrow', 'sqlglot'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(command in done.stdout for command in COMMANDS)


@pytest.mark.parametrize("command", [(name,) for name in COMMANDS] + [("approvals", "approve"), ("audit", "verify")])
def test_every_command_explains_itself_and_speaks_json(run: Run, command: tuple[str, ...]) -> None:
    said = run(*command, "--help")
    assert said.code == 0
    assert "Usage" in said.out
    if "COMMAND [ARGS]" not in said.out:  # a group speaks JSON in its commands
        assert "--json" in said.out


@pytest.mark.parametrize(
    "words",
    [
        ("nonsense",),
        ("ask",),
        ("ask", "a question"),
        ("ask", "a question", "--as", "ana", "--timeout", "soon"),
        ("ask", "a question", "--as", "ana", "--engine", "steam"),
        ("send", "--to", "RAGAgent"),
        ("approvals", "approve"),
        ("worker",),
    ],
)
def test_misuse_is_said_on_standard_error_with_exit_code_2(run: Run, words: tuple[str, ...]) -> None:
    said = run(*words)
    assert said.code == MISUSE
    assert said.out == ""
    assert "→" in said.err
    assert "Traceback" not in said.err


def test_misuse_in_json_is_one_document_too(run: Run) -> None:
    said = run("ask", "--json")
    assert said.code == MISUSE
    assert said.json["error"]["exit_code"] == MISUSE
    assert "question" in said.json["error"]["cause"].lower()


def test_without_a_home_it_says_init(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAILRACE_HOME", str(tmp_path / "nowhere"))
    for words in (("ask", "x", "--as", "ana"), ("agents",), ("up",), ("audit", "verify"), ("trace", "abcd")):
        said = run(*words)
        assert said.code == FAILED
        assert "tailrace init" in said.err


def test_a_user_without_a_key_is_told_who_there_is(run: Run, home: System) -> None:
    for words in (("ask", "x", "--as", "bob"), ("send", "--to", "X", "--kind", "K", "--content", "{}", "--as", "bob")):
        said = run(*words)
        assert said.code == MISUSE
        assert "ada, ana, eli" in said.err


def test_a_user_whose_key_is_kept_elsewhere_is_not_offered(run: Run, home: System) -> None:
    (home.home.keys / "private" / "user-eli.pem").unlink()
    said = run("ask", "x", "--as", "eli", "--json")
    assert said.code == MISUSE
    assert "ada, ana" in said.json["error"]["cause"]
    assert "ada, ana, eli" not in said.json["error"]["cause"]


def test_wrong_settings_are_named(run: Run, home: System, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAILRACE_ENGINE", "steam")
    said = run("agents")
    assert said.code == FAILED
    assert "TAILRACE_ENGINE" in said.err


def test_a_broken_keyring_is_named_with_its_rule(run: Run, home: System) -> None:
    path = home.home.keys / "keyring.json"
    path.write_text(path.read_text().replace("user:ana", "user:eve"))
    said = run("ask", "x", "--as", "ada", "--json")
    assert said.code == FAILED
    assert said.json["error"]["rule"] == "keys.keyring"


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        (("trace", "deadbeef"), "no conversation"),
        (("trace", "last"), "nobody has asked"),
        (("wait", "deadbeef"), "no conversation"),
        (("approvals", "show", "apr-x"), "no approval apr-x"),
        (("approvals", "approve", "apr-x", "--as", "ada"), "no approval apr-x"),
        (("dead", "show", "x"), "no dead message"),
        (("worker", "nobody"), "no agent nobody"),
        (("worker", "governance", "rag"), "processes of their own"),
        (("worker", "no.such.module:Agent"), "cannot be imported"),
    ],
)
def test_what_is_not_there_is_misuse(run: Run, home: System, words: tuple[str, ...], cause: str) -> None:
    said = run(*words)
    assert said.code == MISUSE
    assert cause in " ".join(said.err.split())


@pytest.mark.parametrize(
    ("kind", "content", "cause"),
    [
        ("Ask", "not json", "not JSON"),
        ("Ask", '{"question": 1}', "Ask.question"),
        ("Ask", '{"query": "x"}', "Ask."),
        ("Ask", "@/no/such/file", "cannot be read"),
    ],
)
def test_contents_are_checked_before_they_are_sent(run: Run, home: System, kind: str, content: str, cause: str) -> None:
    said = run("send", "--to", "OrchestratorAgent", "--kind", kind, "--content", content, "--as", "ana")
    assert said.code == MISUSE
    assert cause in said.err


def test_a_content_over_the_limit_is_misuse(run: Run, home: System) -> None:
    content = json.dumps({"x": "y" * (1 << 20)})
    said = run("send", "--to", "Stranger", "--kind", "Big", "--content", "-", "--as", "ana", stdin=content)
    assert said.code == MISUSE
    assert "1048576" in said.err


def test_an_error_nobody_foresaw_is_shown_whole_when_debugging(
    run: Run, home: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home.home.table("agent_messages") / "_delta_log" / f"{0:020d}.json").write_text("{}")
    assert run("agents").code == FAILED
    monkeypatch.setenv("TAILRACE_DEBUG", "1")
    said = run("agents")
    assert said.code == 1
    assert said.err == ""  # the exception itself went up to whoever called


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (LogMissing("no log"), FAILED),
        (MissingKey("no key"), MISUSE),
        (ContentTooLarge("too large"), MISUSE),
        (TimedOut("late"), TIMED_OUT),
        (Untrusted("signature.invalid", "altered"), FAILED),
        (OSError(28, "No space left on device"), FAILED),
        (PermissionError(13, "Permission denied"), FAILED),
        (ZeroDivisionError(), FAILED),
        (CommandError("as it is", code=3), 3),
    ],
)
def test_every_error_has_words_and_a_code(error: Exception, code: int) -> None:
    said = explained(error)
    assert said.code == code
    assert said.cause


def test_every_status_has_an_exit_code() -> None:
    assert CODES == {"answered": 0, "failed": 1, "refused": 3, "timed_out": 4, "pending_approval": 4}

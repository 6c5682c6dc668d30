"""approvals delegate, changes; grants list, show, revoke; knowledge add: through the commands, on agents that run."""

from __future__ import annotations

from pathlib import Path

from jobs.bootstrap import System
from tests.unit.cli.conftest import EXECUTE, Run


def pending(run: Run, user: str = "eli") -> tuple[str, str]:
    """A new approval, and its conversation."""
    asked = run("ask", EXECUTE, "--as", user, "--no-wait-approval", "--timeout", "20", "--json").json
    (approval,) = [
        one for one in run("approvals", "list", "--json").json if one["correlation_id"] == asked["correlation_id"]
    ]
    return approval["approval_id"], asked["correlation_id"]


def test_a_delegate_approves_and_the_grant_is_shown(run: Run, live: System) -> None:
    approval, conversation = pending(run)
    none = run("approvals", "approve", approval, "--as", "ana", "--for", "ada", "--json")
    assert (none.code, none.json["rule"]) == (3, "delegation.none")
    lent = run("approvals", "delegate", "ana", "--as", "ada", "--hours", "2", "--reason", "on leave", "--json")
    assert (lent.code, lent.json["accepted"]) == (0, True)
    (shown,) = run("approvals", "delegations", "--json").json
    assert (shown["from_user"], shown["to_user"], shown["holds"]) == ("ada", "ana", True)
    assert "on leave" in run("approvals", "delegations").out

    details = run("approvals", "show", approval)
    assert "has to say yes  1 of admin" in details.out
    assert "execution.four_eyes" in details.out
    yes = run("approvals", "approve", approval, "--as", "ana", "--for", "ada")
    assert (yes.code, "approved by ana for ada" in yes.out) == (0, True), yes
    assert run("wait", conversation, "--timeout", "20", "--json").json["status"] == "answered"

    (grant,) = [g for g in run("grants", "list", "--all", "--json").json if g["correlation_id"] == conversation]
    assert (grant["status"], grant["approvers"], grant["approval_id"]) == ("done", ["ana"], approval)
    assert grant["grant_id"] in run("grants", "list", "--all").out
    assert run("grants", "show", grant["grant_id"], "--json").json == grant
    assert "execution.four_eyes" in run("grants", "show", grant["grant_id"][:12]).out
    late = run("grants", "revoke", grant["grant_id"], "--as", "eli", "--json")
    assert (late.code, late.json["rule"]) == (3, "grant.used")
    assert "grant.used" in run("grants", "revoke", grant["grant_id"], "--as", "ada").out

    assert run("approvals", "undelegate", shown["id"], "--as", "eli").code == 3
    assert run("approvals", "undelegate", shown["id"], "--as", "ana").code == 0
    assert run("approvals", "delegations").out.strip() == "nobody has lent the right to decide"
    assert "over" in run("approvals", "delegations", "--all").out


def test_sent_back_for_changes(run: Run, live: System) -> None:
    approval, conversation = pending(run)
    assert run("approvals", "changes", approval, "--as", "ada").code == 2, "what has to change is said"
    back = run("approvals", "changes", approval, "--as", "ada", "--reason", "only this year")
    assert (back.code, "sent back for changes by ada" in back.out) == (0, True)
    refused = run("wait", conversation, "--json")
    assert (refused.code, refused.json["refusal"]["rule"]) == (3, "approval.changes")
    assert "only this year" in run("approvals", "show", approval).out


def test_what_is_not_there_is_a_misuse(run: Run, live: System, tmp_path: Path) -> None:
    for words in (
        ("grants", "show", "grant-nothing"),
        ("grants", "revoke", "grant-nothing", "--as", "ada"),
        ("approvals", "undelegate", "dlg-nothing", "--as", "ada"),
        ("approvals", "delegate", "ana", "--as", "nobody"),
        ("knowledge", "add", str(tmp_path / "missing.md"), "--as", "eli"),
    ):
        said = run(*words, "--json")
        assert (said.code, said.json["error"]["exit_code"]) == (2, 2), words
    bad = tmp_path / "bad.md"
    bad.write_text("no front matter")
    said = run("knowledge", "add", str(bad), "--as", "eli")
    assert said.code == 2
    assert "bad.md:1" in said.err
    assert run("knowledge", "list", "--json").json == []

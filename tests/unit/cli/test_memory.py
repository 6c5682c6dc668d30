"""`tailrace memory`: what agents share, for a person."""

from __future__ import annotations

import pytest

from jobs.bootstrap import System
from tests.unit.cli.conftest import Run


def test_what_is_put_is_found_by_others(run: Run, home: System) -> None:
    assert run("memory", "put", "quarter", "open", '{"month": 3}', "--as", "eli").code == 0
    got = run("memory", "get", "quarter", "open", "--as", "ana", "--json")
    assert (got.code, got.json["value"]) == (0, {"month": 3})
    assert '"month": 3' in run("memory", "get", "quarter", "open", "--as", "ana").out
    assert run("memory", "list", "quarter", "--as", "ana", "--json").json == [{"key": "open", "value": {"month": 3}}]
    assert "open" in run("memory", "list", "quarter", "--as", "ana").out
    assert run("memory", "delete", "quarter", "open", "--as", "eli").code == 0
    gone = run("memory", "get", "quarter", "open", "--as", "ana", "--json")
    assert (gone.code, gone.json["value"]) == (1, None)
    assert "nothing is kept" in run("memory", "list", "quarter", "--as", "ana").out


def test_roles_of_a_scope_hold(run: Run, home: System) -> None:
    assert run("memory", "roles", "quarter", "--write", "data_engineer", "--read", "", "--as", "eli").code == 3
    assert run("memory", "roles", "quarter", "--write", "data_engineer", "--read", "", "--as", "ada").code == 0
    assert run("memory", "put", "quarter", "open", "1", "--as", "eli").code == 0
    refused = run("memory", "get", "quarter", "open", "--as", "ana", "--json")
    assert refused.code == 3
    assert "ana may not read quarter: it is for data_engineer" in refused.json["error"]["cause"]


@pytest.mark.parametrize("words", [("put", "s", "k", "open"), ("put", "s", "", "1"), ("get", "s", "k")])
def test_misuse(run: Run, home: System, words: tuple[str, ...]) -> None:
    user = "nobody" if words[0] == "get" else "eli"
    assert run("memory", *words, "--as", user).code == 2

from __future__ import annotations

from pathlib import Path

import pytest

from workers.adapters.knowledge.documents import BadDocument, parse, read_folder


def test_a_document_without_roles_and_status_is_approved_for_everybody():
    found = parse("sales", "---\ntitle: How sales are defined\n---\nSales are what we sell.\n")
    assert (found.title, found.roles, found.status) == ("How sales are defined", ("*",), "approved")
    assert found.body == "Sales are what we sell."


def test_roles_and_status_are_read():
    found = parse("margin", "---\ntitle: Margin\nroles: [data_engineer, admin]\nstatus: withdrawn\n---\nText.")
    assert (found.roles, found.status) == (("data_engineer", "admin"), "withdrawn")


def test_line_ends_and_a_byte_order_mark_make_no_difference_to_what_is_read():
    found = parse("a", "\ufeff---\r\ntitle: A\r\nroles: [admin]\r\n---\r\nOne.\r\n\r\nTwo.\r\n")
    assert (found.title, found.roles, found.body) == ("A", ("admin",), "One.\n\nTwo.")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Just text.", "a.md:1: must begin with front matter"),
        ("", "a.md:1: must begin with front matter"),
        ("---\ntitle: A\nText.", "a.md:1: opens front matter that no second line"),
        ("---\ntitle: A\n---\n  \n", "a.md:3: has no text"),
        ("---\nroles: [admin]\n---\nText.", "a.md:2: has no title"),
        ("---\ntitle: [A]\n---\nText.", "a.md:2: title must be text"),
        ("---\ntitle: 12\n---\nText.", "a.md:2: title must be text"),
        ("---\ntitle: A\nstatus: draft\n---\nText.", "a.md:3: status is 'draft'; it must be approved or withdrawn"),
        ("---\ntitle: A\nroles: [admin\n---\nText.", "a.md:3: front matter is not YAML"),
        ("---\n- title\n---\nText.", "a.md:2: front matter must be lines of 'key: value'"),
        ("---\n---\nText.", "a.md:2: front matter must be lines of 'key: value'"),
        ("---\ntitle: A\n---\nOne.\nTwo \x1b[31mred.", "a.md:5: holds a control character"),
    ],
)
def test_an_error_names_file_and_line(text: str, message: str):
    with pytest.raises(BadDocument) as error:
        parse("a", text)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    "line",
    [
        "role: [admin]",
        "Roles: [admin]",
        "roles: admin",
        "roles: []",
        "roles:",
        "roles: [1]",
        "roles: ['']",
        "roles: {a: b}",
    ],
)
def test_a_typing_error_in_roles_never_makes_a_document_public(line: str):
    with pytest.raises(BadDocument, match=r"a\.md:3: "):
        parse("a", f"---\ntitle: A\n{line}\n---\nText.")


def test_roles_given_twice_are_refused():
    with pytest.raises(BadDocument, match=r"a\.md:4: 'roles' is there twice"):
        parse("a", "---\ntitle: A\nroles: [admin]\nroles: ['*']\n---\nText.")


@pytest.mark.parametrize("name", ["", "../a", "A b", ".hidden", "a/b"])
def test_a_name_is_a_plain_word(name: str):
    with pytest.raises(BadDocument, match="is no name for a document"):
        parse(name, "---\ntitle: A\n---\nText.")


def test_a_folder_gives_its_markdown_by_name(tmp_path: Path):
    (tmp_path / "b.md").write_text("B", encoding="utf-8")
    (tmp_path / "a.md").write_text("Ä", encoding="utf-8")
    (tmp_path / "c.txt").write_text("C", encoding="utf-8")
    assert list(read_folder(tmp_path)) == [("a", "Ä"), ("b", "B")]


def test_a_missing_folder_and_a_foreign_encoding_are_said(tmp_path: Path):
    with pytest.raises(BadDocument, match="is no folder"):
        list(read_folder(tmp_path / "nowhere"))
    (tmp_path / "a.md").write_bytes(b"---\ntitle: \xff")
    with pytest.raises(BadDocument, match=r"a\.md: not UTF-8 text at byte 11"):
        list(read_folder(tmp_path))

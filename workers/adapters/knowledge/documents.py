"""A document of the knowledge: Markdown with YAML front matter, read strictly."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import yaml

from workers.ports import PortError

EVERYONE = ("*",)
_STATUS = ("approved", "withdrawn")
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*")
_FENCE = "---"
#: Control characters could rewrite a terminal's screen when a passage is quoted.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class BadDocument(PortError):
    """A document cannot be read; the message names file and line. Remedy: correct that line and ingest again."""


@dataclass(frozen=True)
class Document:
    """One version of a document: `sha256` is the digest of `text`, front matter included."""

    name: str
    title: str
    roles: tuple[str, ...]
    status: str
    text: str
    body: str
    sha256: str


def read_folder(folder: Path) -> Iterator[tuple[str, str]]:
    """Name and text of every Markdown file of a folder, by name."""
    if not folder.is_dir():
        raise BadDocument(f"{folder} is no folder; name one that holds Markdown files")
    for path in sorted(folder.glob("*.md")):
        try:
            yield path.stem, path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise BadDocument(f"{path.name}: not UTF-8 text at byte {error.start}") from error


def parse(name: str, text: str) -> Document:
    """Read one document. Raises BadDocument: a typing error must never make a restricted document public."""
    if not _NAME.fullmatch(name):
        raise BadDocument(f"{name!r} is no name for a document: use small letters, digits, '-', '_' and '.'")
    digest = hashlib.sha256(text.encode()).hexdigest()
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").split("\n")
    for number, line in enumerate(lines, 1):
        if _CONTROL.search(line):
            _fail(name, number, "holds a control character; remove it")
    if lines[0].rstrip() != _FENCE:
        _fail(name, 1, "must begin with front matter: a line '---', then 'title: ...', then a line '---'")
    end = next((n for n, line in enumerate(lines[1:], 1) if line.rstrip() == _FENCE), None)
    if end is None:
        _fail(name, 1, "opens front matter that no second line '---' closes")
    fields = _fields(name, "\n".join(lines[1:end]))
    body = "\n".join(lines[end + 1 :]).strip()
    if not body:
        _fail(name, end + 1, "has no text after its front matter")
    return Document(name, _title(name, fields), _roles(name, fields), _status(name, fields), text, body, digest)


def _fields(name: str, source: str) -> dict[str, yaml.Node]:
    """The front matter as nodes, which know their lines and show a key that is there twice."""
    try:
        root = yaml.compose(source, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        _fail(name, (mark.line if mark else 0) + 2, f"front matter is not YAML: {error.problem or error.context}")
    if not isinstance(root, yaml.MappingNode):
        _fail(name, 2, "front matter must be lines of 'key: value'")
    fields: dict[str, yaml.Node] = {}
    for key, value in root.value:
        line = key.start_mark.line + 2
        if key.value not in ("title", "roles", "status"):
            _fail(name, line, f"unknown key '{key.value}'; known are title, roles and status")
        if key.value in fields:
            _fail(name, line, f"'{key.value}' is there twice")
        fields[key.value] = value
    return fields


def _title(name: str, fields: dict[str, yaml.Node]) -> str:
    node = fields.get("title")
    if node is None:
        _fail(name, 2, "has no title")
    return _word(name, node, "title")


def _roles(name: str, fields: dict[str, yaml.Node]) -> tuple[str, ...]:
    node = fields.get("roles")
    if node is None:
        return EVERYONE
    if not isinstance(node, yaml.SequenceNode) or not node.value:
        _fail(
            name, node.start_mark.line + 2, "roles must be a list such as [data_engineer, admin], or left out for all"
        )
    return tuple(_word(name, one, "a role") for one in node.value)


def _status(name: str, fields: dict[str, yaml.Node]) -> str:
    node = fields.get("status")
    if node is None:
        return _STATUS[0]
    status = _word(name, node, "status")
    if status not in _STATUS:
        _fail(name, node.start_mark.line + 2, f"status is '{status}'; it must be {' or '.join(_STATUS)}")
    return status


def _word(name: str, node: yaml.Node, what: str) -> str:
    if not isinstance(node, yaml.ScalarNode) or node.tag != "tag:yaml.org,2002:str" or not node.value.strip():
        _fail(name, node.start_mark.line + 2, f"{what} must be text")
    return " ".join(node.value.split())


def _fail(name: str, line: int, problem: str) -> NoReturn:
    raise BadDocument(f"{name}.md:{line}: {problem}")

"""Configuration files that ship with the package, each of which a file of the same name in TAILRACE_CONFIG replaces."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml as _yaml


class ConfigError(ValueError):
    """A configuration file is missing or wrong; the message names the file and the remedy."""


_replacements: ContextVar[Mapping[str, Path]] = ContextVar("replacements", default=MappingProxyType({}))


@contextmanager
def replaced(by: Mapping[str, Path]) -> Iterator[None]:
    """Within it these files are read instead: name in this package -> file. Raises ConfigError for one that is not there."""
    for name, path in by.items():
        if not path.is_file():
            raise ConfigError(f"there is no file {path} to read instead of {name}")
    token = _replacements.set({**_replacements.get(), **by})
    try:
        yield
    finally:
        _replacements.reset(token)


def text(name: str) -> str:
    """`name` relative to this package, such as `semantic/tpch.yaml`. Raises ConfigError."""
    if (override := _instead_of(name)) is not None:
        return override.read_text(encoding="utf-8")
    found = resources.files("config").joinpath(*name.split("/"))
    if not found.is_file():
        raise ConfigError(f"there is no configuration file {name}")
    return found.read_text(encoding="utf-8")


def yaml(name: str) -> Any:
    """The parsed YAML. Raises ConfigError with file, line and problem."""
    try:
        return parse(text(name))
    except _yaml.YAMLError as error:
        raise ConfigError(f"{where(name)} is not YAML: {error}") from error


def parse(document: str) -> Any:
    """YAML without repeated keys. Raises yaml.YAMLError with line and problem."""
    return _yaml.load(document, _StrictLoader)


def exists(name: str) -> bool:
    """Whether `text` would find it."""
    if _instead_of(name) is not None:
        return True
    return resources.files("config").joinpath(*name.split("/")).is_file()


def where(name: str) -> str:
    """The file that `text` reads, for messages."""
    return str(_instead_of(name) or f"config/{name}")


def names(folder: str) -> list[str]:
    """File names in a folder of the package, and of the override, sorted."""
    found = {entry.name for entry in resources.files("config").joinpath(folder).iterdir() if entry.is_file()}
    override = _override()
    if override is not None and (override / folder).is_dir():
        found |= {path.name for path in (override / folder).iterdir() if path.is_file()}
    return sorted(found)


def _instead_of(name: str) -> Path | None:
    """The file that is read in the place of the package's own."""
    if (path := _replacements.get().get(name)) is not None:
        return path
    override = _override()
    return override / name if override is not None and (override / name).is_file() else None


def _override() -> Path | None:
    folder = os.environ.get("TAILRACE_CONFIG")
    return Path(folder) if folder else None


class _StrictLoader(_yaml.SafeLoader):
    """YAML that refuses a repeated key: the second would silently replace the first, a role for example."""

    def construct_mapping(self, node: _yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise _yaml.constructor.ConstructorError(None, None, f"{key!r} is there twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)

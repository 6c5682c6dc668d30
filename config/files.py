"""Configuration files that ship with the package, each of which a file of the same name in TAILRACE_CONFIG replaces."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path
from typing import Any

import yaml as _yaml


class ConfigError(ValueError):
    """A configuration file is missing or wrong; the message names the file and the remedy."""


def text(name: str) -> str:
    """`name` relative to this package, such as `semantic/tpch.yaml`. Raises ConfigError."""
    override = _override()
    if override is not None and (override / name).is_file():
        return (override / name).read_text(encoding="utf-8")
    found = resources.files("config").joinpath(*name.split("/"))
    if not found.is_file():
        raise ConfigError(f"there is no configuration file {name}")
    return found.read_text(encoding="utf-8")


def yaml(name: str) -> Any:
    """The parsed YAML. Raises ConfigError with file, line and problem."""
    try:
        return _yaml.load(text(name), _StrictLoader)
    except _yaml.YAMLError as error:
        raise ConfigError(f"{where(name)} is not YAML: {error}") from error


def exists(name: str) -> bool:
    """Whether `text` would find it."""
    override = _override()
    if override is not None and (override / name).is_file():
        return True
    return resources.files("config").joinpath(*name.split("/")).is_file()


def where(name: str) -> str:
    """The file that `text` reads, for messages."""
    override = _override()
    return str(override / name) if override is not None and (override / name).is_file() else f"config/{name}"


def names(folder: str) -> list[str]:
    """File names in a folder of the package, and of the override, sorted."""
    found = {entry.name for entry in resources.files("config").joinpath(folder).iterdir() if entry.is_file()}
    override = _override()
    if override is not None and (override / folder).is_dir():
        found |= {path.name for path in (override / folder).iterdir() if path.is_file()}
    return sorted(found)


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

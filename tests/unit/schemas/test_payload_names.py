"""The payloads are loaded when they are first used: what that must not change, and what it is for."""

from __future__ import annotations

import ast
import pickle
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

import tailrace.payloads
from schemas import payloads
from schemas.payloads import Payload

SOURCE = Path(payloads.__file__)
MODULES = sorted(path.stem for path in SOURCE.parent.glob("*.py") if path.stem not in ("__init__", "base"))
LOADED = "print(*sorted(m for m in sys.modules if m.startswith('schemas.payloads.')))"
BASE, ASKING, GOVERNING = (f"schemas.payloads.{name}" for name in ("base", "asking", "governing"))


def defined() -> dict[str, str]:
    """Every payload there is, by looking into the modules, and the module it is in."""
    return {
        name: module
        for module in MODULES
        for name, found in vars(import_module(f"schemas.payloads.{module}")).items()
        if isinstance(found, type) and issubclass(found, Payload) and found.__module__ == f"schemas.payloads.{module}"
    }


def python(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# --- every name is there, and is what it was -------------------------------------------------------------------------


def test_every_payload_has_its_name_here() -> None:
    assert set(payloads.__all__) == {*defined(), "Payload", "Subject", "KINDS", "KIND_MODULES"}


@pytest.mark.parametrize("name", payloads.__all__)
def test_a_name_is_the_class_of_its_module(name: str) -> None:
    if name in defined():
        assert getattr(payloads, name) is getattr(import_module(f"schemas.payloads.{defined()[name]}"), name)
    assert name in dir(payloads)


def test_type_checkers_see_the_same_names() -> None:
    """They read what stands under TYPE_CHECKING, and never run the rest."""
    guarded = next(node for node in ast.parse(SOURCE.read_text(encoding="utf-8")).body if isinstance(node, ast.If))
    seen = {
        alias.name: node.module for node in guarded.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert seen == {name: f"schemas.payloads.{module}" for name, module in defined().items()} | {"Subject": GOVERNING}


@pytest.mark.parametrize("module", [payloads, tailrace, tailrace.payloads])
def test_type_checkers_still_find_a_name_that_is_not_there(module: ModuleType) -> None:
    """A `__getattr__` they can see would give every name a type."""
    top = ast.parse(Path(module.__file__).read_text(encoding="utf-8")).body
    assert "__getattr__" not in {node.name for node in top if isinstance(node, ast.FunctionDef)}
    assert hasattr(module, "__getattr__")


def test_a_kind_is_found_by_its_name_and_a_part_is_none() -> None:
    assert {kind: model.kind() for kind, model in payloads.KINDS.items()} == {kind: kind for kind in payloads.KINDS}
    assert payloads.KINDS.keys() == payloads.KIND_MODULES.keys()
    assert not {"Code", "Grant", "Need", "Result", "Source"} & payloads.KINDS.keys()


def test_what_is_no_payload_is_refused_as_python_does() -> None:
    assert not hasattr(payloads, "Aks")
    with pytest.raises(ImportError, match="Aks"):
        from schemas.payloads import Aks  # noqa: F401  # there is none


def test_payloads_survive_pickling() -> None:
    ask = payloads.Ask(question="Who?")
    code = payloads.CodeGenerated(
        question="Who?", code=payloads.Code(language="sql", text="select 1"), explanation="", tables=[], columns=[]
    )
    for payload in (ask, code):
        copy = pickle.loads(pickle.dumps(payload))
        assert (copy, type(copy)) == (payload, type(payload))
        assert isinstance(copy, Payload)


def test_the_facade_offers_the_kinds() -> None:
    assert set(dir(tailrace.payloads)) == {"Payload", *payloads.KINDS}
    assert tailrace.payloads.Ask is payloads.Ask


# --- what a process loads --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("program", "loaded"),
    [
        ("from schemas.payloads import Payload", [BASE]),
        ("from tailrace.payloads import Ask", [ASKING, BASE]),
        ("from tailrace.payloads import Decide", [ASKING, BASE, GOVERNING]),
    ],
)
def test_only_what_is_used_is_loaded(program: str, loaded: list[str]) -> None:
    assert python(f"import sys; {program}; {LOADED}").split() == loaded


def test_threads_that_use_a_name_first_at_the_same_time_get_one_class() -> None:
    program = """
import threading
from concurrent.futures import ThreadPoolExecutor
from schemas import payloads
together = threading.Barrier(12)
def first(name):
    together.wait(30)
    return name, getattr(payloads, name)
with ThreadPoolExecutor(12) as pool:
    found = list(pool.map(first, ["Ask", "Grant", "KINDS", "Receipt"] * 3))
assert all(value == getattr(payloads, name) if name == "KINDS" else value is getattr(payloads, name) for name, value in found)
print(len(found))
"""
    assert python(program).split() == ["12"]

"""A first look at code: what cannot work here, or hides what it does, is refused before anybody is asked to approve it.

This protects nothing: whoever wants to gets around it, and meets the walls. It spares people a run that must fail.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator

from workers.ports import StatementRefused

#: Modules that can do nothing inside, by what they are for.
_USELESS = {
    "no network": "socket ssl http urllib ftplib smtplib poplib imaplib telnetlib xmlrpc socketserver requests httpx aiohttp",
    "no other programs or processes": "subprocess multiprocessing pty posix",
    "no way around Python": "ctypes cffi _ctypes gc",
}
_WHY = {module: why for why, modules in _USELESS.items() for module in modules.split()}

#: Names that run text as code: whoever approves could not read what would run.
_HIDING = frozenset({"eval", "exec", "compile", "__import__", "breakpoint"})
_HIDING_MODULES = frozenset({"importlib", "imp", "runpy", "code", "codeop", "pickle", "marshal"})

#: The way from any object to the interpreter's insides.
_INSIDE_NAMES = """__subclasses__ __globals__ __builtins__ __code__ __closure__ __bases__ __base__ __mro__ __getattribute__
    __loader__ __spec__ __reduce__ __reduce_ex__ __dict__ f_globals f_locals f_builtins gi_frame tb_frame cr_frame"""
_INSIDES = frozenset(_INSIDE_NAMES.split())
#: The way from a DataFrame to Spark's virtual machine.
_MACHINE = frozenset({"_jvm", "_jsc", "_gateway", "_jsparkSession", "_jdf", "_sc"})


def check(code: str, language: str, longest: int) -> None:
    """Raises StatementRefused with `code.size`, `code.syntax`, `code.import`, `code.hidden`, `code.insides` or `code.result`."""
    size = len(code.encode())
    if size > longest:
        raise StatementRefused("code.size", f"the code has {size} bytes, and may have {longest}")
    tree = _parsed(code)
    assigns = False
    for node in ast.walk(tree):
        for module in _imports(node):
            _check_import(module, node)
        match node:
            case ast.Name(id=name) if name in _HIDING:
                raise StatementRefused("code.hidden", f"{_at(node)}{name} hides what runs: write the code itself")
            case ast.Name(id=name) | ast.Attribute(attr=name) if name in _INSIDES:
                raise StatementRefused("code.insides", f"{_at(node)}{name} reaches into the interpreter: remove it")
            case ast.Attribute(attr=name) if language == "pyspark" and name in _MACHINE:
                raise StatementRefused(
                    "code.insides", f"{_at(node)}{name} reaches into Spark's machine: use DataFrames"
                )
        assigns = assigns or "result" in _binds(node)
    if not assigns:
        kind = "a DataFrame" if language == "pyspark" else "a pyarrow Table or a list of dicts"
        raise StatementRefused("code.result", f"nothing is assigned to `result`: give it {kind}")


def _parsed(code: str) -> ast.Module:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(code)
    except SyntaxError as error:
        where = f"line {error.lineno}: " if error.lineno else ""
        raise StatementRefused("code.syntax", f"{where}{error.msg}") from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise StatementRefused("code.syntax", f"this is no code that Python reads: {error or 'too deep'}") from None


def _imports(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Import(names=names):
            yield from (name.name for name in names)
        case ast.ImportFrom(module=module):
            yield module or ""


def _check_import(module: str, node: ast.AST) -> None:
    top = module.partition(".")[0]
    if top in _WHY:
        raise StatementRefused("code.import", f"{_at(node)}{module} cannot work: there is {_WHY[top]} here")
    if top in _HIDING_MODULES:
        raise StatementRefused("code.hidden", f"{_at(node)}{module} hides what runs: write the code itself")


def _binds(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Name(id=name, ctx=ast.Store()):
            yield name
        case ast.alias(name=name, asname=other):
            yield other or name
        case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
            yield name


def _at(node: ast.AST) -> str:
    line = getattr(node, "lineno", None)
    return f"line {line}: " if line else ""

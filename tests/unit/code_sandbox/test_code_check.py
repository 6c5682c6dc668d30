import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.adapters.code_sandbox.check import check
from workers.ports import StatementRefused


def rule(code: str, language: str = "python") -> str | None:
    try:
        check(code, language, 10_000)
    except StatementRefused as refused:
        return refused.rule
    return None


@pytest.mark.parametrize(
    "code",
    [
        "result = 1",
        "import pyarrow.compute as pc\nimport os.path, math, asyncio, json\nresult = pc.sum([1])",
        "for result in range(3): pass",
        "with open('x') as result: pass",
        "(result := 3)",
        "from math import pi as result",
        "def result(): pass",
        "try: 1\nexcept ValueError: result = 1\nelse: result = 2",
        "a, *result = [1, 2]",
        "match 1:\n    case x: result = x",
        "class Thing:\n    def __init__(self): self.x = 1\nresult = Thing().x",
    ],
)
def test_ordinary_code_passes(code: str) -> None:
    assert rule(code) is None


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("x = 1", "code.result"),
        ("print('result')", "code.result"),
        ("", "code.result"),
        ("result = 1 +", "code.syntax"),
        ("result = '\0'", "code.syntax"),
        ("result = " + "(" * 300 + ")" * 300, "code.syntax"),
        ("result = " + "-" * 9000 + "1", "code.syntax"),
        ("result = 1 #" + "x" * 20_000, "code.size"),
        ("import subprocess\nresult = 1", "code.import"),
        ("import urllib.request\nresult = 1", "code.import"),
        ("from multiprocessing import Pool\nresult = 1", "code.import"),
        ("def f():\n    import ctypes\nresult = 1", "code.import"),
        ("result = eval('1')", "code.hidden"),
        ("run = exec\nresult = run('1')", "code.hidden"),
        ("result = __import__('os')", "code.hidden"),
        ("import importlib\nresult = 1", "code.hidden"),
        ("import pickle\nresult = 1", "code.hidden"),
        ("result = ().__class__.__base__.__subclasses__()", "code.insides"),
        ("result = print.__globals__", "code.insides"),
        ("result = __builtins__", "code.insides"),
    ],
)
def test_what_cannot_work_is_said_before_anybody_approves(code: str, expected: str) -> None:
    assert rule(code) == expected


def test_the_way_into_sparks_machine_is_said_too() -> None:
    assert rule("result = spark._jvm.java.lang.Runtime", "pyspark") == "code.insides"
    assert rule("result = thing._jvm", "python") is None


def test_it_says_where() -> None:
    with pytest.raises(StatementRefused, match="line 3: socket cannot work: there is no network here"):
        check("x = 1\n\nimport socket\nresult = 1", "python", 1000)


@settings(deadline=None, max_examples=60)
@given(code=st.text(max_size=300))
def test_whatever_is_written_it_passes_or_is_refused(code: str) -> None:
    rule(code)
    rule(f"result = {code}")

import subprocess
import sys

import pytest

from tests.unit.project.checkout import ROOT


def python(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_imports_point_one_way() -> None:
    program = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports())"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    "module", ["bus", "bus.base", "bus.client", "bus.memory", "bus.log", "tailrace", "apps.cli.main"]
)
def test_what_must_start_fast_loads_no_spark(module: str) -> None:
    heavy = ("pyspark", "py4j", "delta", "databricks")
    program = f"import sys, {module}; print(*[name for name in {heavy} if name in sys.modules])"
    assert python(program).split() == []


def test_agents_load_no_engine() -> None:
    agents = ["workers.orchestrator", "workers.rag", "workers.code", "workers.governance", "workers.execution"]
    heavy = ("pyspark", "py4j", "delta", "deltalake", "databricks", "workers.adapters")
    program = f"import sys, {', '.join(agents)}; print(*[name for name in {heavy} if name in sys.modules])"
    assert python(program).split() == []


@pytest.mark.parametrize("module", ["bus.client", "bus.aio"])
def test_a_client_loads_only_what_it_needs_before_it_is_opened(module: str) -> None:
    """Without a clock: what a client may load is what keeps its import below half a second."""
    heavy = (
        "pyarrow",
        "numpy",
        "pandas",
        "deltalake",
        "obstore",
        "cryptography",
        "structlog",
        "re2",
        "rich",
        "workers",
    )
    ours = [f"schemas.payloads.{name}" for name in ("asking", "bus", "governing", "knowledge")]
    ours += ["bus.keys", "bus.log.bus", "bus.log.table", "bus.redaction", "bus.trusted"]
    program = f"import sys, {module}; print(*[name for name in {(*heavy, *ours)} if name in sys.modules])"
    assert python(program).split() == []

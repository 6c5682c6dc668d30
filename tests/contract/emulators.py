"""Object stores on this machine: azurite for Azure, moto for S3; each one process for all the tests of a run."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from pathlib import Path

import pytest

#: Installed once, beside the other packages of the environment, and never into the tree.
AZURITE = "3.35.0"
_ACCOUNT = "devstoreaccount1"
#: Azurite's own key: the same for everybody, so no secret.
_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
_BUCKET = "tables"
_PATIENCE = 60.0


@pytest.fixture(scope="session")
def s3_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    port = _free_port()
    command = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with _running(command, port, tmp_path_factory.mktemp("moto") / "said.log"):
        assert _put(port, f"/{_BUCKET}", {}) == 200
        yield port


@pytest.fixture(scope="session")
def azure_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    port, folder = _free_port(), tmp_path_factory.mktemp("azurite")
    program = _azurite()
    # Clients are newer than the emulator; what it does not know yet is nothing we use.
    options = ["--inMemoryPersistence", "--skipApiVersionCheck", "--silent", "--disableTelemetry"]
    with _running(["node", str(program), *options, "--blobPort", str(port)], port, folder / "said.log", cwd=folder):
        assert _put(port, f"/{_ACCOUNT}/{_BUCKET}?restype=container", _signed()) == 201
        yield port


def use_s3(monkeypatch: pytest.MonkeyPatch, port: int) -> str:
    """Set the usual variables; returns the URL of the bucket."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "anybody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "anything")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    return f"s3://{_BUCKET}"


def use_azure(monkeypatch: pytest.MonkeyPatch, port: int) -> str:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", _ACCOUNT)
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", _KEY)
    monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", f"http://127.0.0.1:{port}/{_ACCOUNT}")
    monkeypatch.setenv("AZURE_ALLOW_HTTP", "true")
    return f"az://{_BUCKET}"


def _azurite() -> Path:
    """Its program; installed on first use, which needs the network once."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("azurite needs node and npm, and they are not installed")
    folder = Path(sys.prefix) / f"azurite-{AZURITE}"
    program = folder / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"
    if not program.exists():
        command = [
            "npm",
            "install",
            "--prefix",
            str(folder),
            "--no-audit",
            "--no-fund",
            "--fetch-retries=1",
            f"azurite@{AZURITE}",
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        if done.returncode != 0:
            pytest.skip(f"azurite could not be installed: {done.stderr.strip()[-300:]}")
    return program


@contextmanager
def _running(command: list[str], port: int, said: Path, cwd: Path | None = None) -> Iterator[None]:
    with open(said, "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=cwd)
    try:
        end = time.monotonic() + _PATIENCE
        while True:
            assert process.poll() is None and time.monotonic() < end, said.read_text()[-2000:]  # noqa: PT018  # one cause
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.05)
        yield
    finally:
        process.kill()
        process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _put(port: int, path: str, headers: dict[str, str]) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE)
    connection.request("PUT", path, headers={**headers, "Content-Length": "0"})
    status = connection.getresponse().status
    connection.close()
    return status


def _signed() -> dict[str, str]:
    """The header that lets us make a container, which obstore does not do."""
    headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": "2021-08-06"}
    named = "".join(f"{name}:{value}\n" for name, value in headers.items())
    text = "PUT" + "\n" * 12 + named + f"/{_ACCOUNT}/{_ACCOUNT}/{_BUCKET}\nrestype:container"
    digest = hmac.new(base64.b64decode(_KEY), text.encode(), hashlib.sha256).digest()
    return {**headers, "Authorization": f"SharedKey {_ACCOUNT}:{base64.b64encode(digest).decode()}"}

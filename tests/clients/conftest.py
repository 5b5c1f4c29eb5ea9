"""`raison serve` as users start it, with the shipped model, for other people's clients.

The clients are looked for in the environment that RAISON_CLIENTS names (a folder with bin/), or in this one; a test
whose client is not there is skipped. Such an environment:

    python -m venv clients && clients/bin/pip install schemathesis 'lm-eval[api]' llama-benchy langchain-openai litellm
    RAISON_CLIENTS=$PWD/clients pytest tests/clients
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "raison" / "models" / "countdown-r1"


def client(name: str) -> str:
    """A client's program; skips the test where it is not installed."""
    folder = os.environ.get("RAISON_CLIENTS")
    found = shutil.which(name, path=f"{folder}/bin" if folder else None)
    if found is None:
        pytest.skip(f"{name} is not installed; tests/clients/conftest.py says how")
    return found


def python_with(package: str) -> str:
    """A Python that has the package; skips the test where there is none."""
    program = client("python")
    done = subprocess.run([program, "-c", f"import {package}"], capture_output=True, timeout=120, check=False)
    if done.returncode:
        pytest.skip(f"{package} is not installed; tests/clients/conftest.py says how")
    return program


def run(command: list[str], seconds: float = 300, **environment: str) -> str:
    """A command's output; fails with all of it where the command does."""
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "OPENAI_API_KEY": "none", "PYTHONPATH": str(ROOT)}
    settings = {**os.environ, **offline, **environment}
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, env=settings, check=False)
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server of the shipped model, ended by SIGTERM."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    home = str(tmp_path_factory.mktemp("home"))
    settings = {**os.environ, "RAISON_HOME": home, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "raison", "serve", "--port", str(port), "--log", "warning"]
    process = subprocess.Popen(command, env=settings)
    url, ends = f"http://127.0.0.1:{port}", time.monotonic() + 120
    try:
        while True:
            assert process.poll() is None, "the server has ended"
            assert time.monotonic() < ends, "the server does not become ready"
            try:
                if httpx.get(url + "/health").status_code == 200:
                    break
            except httpx.TransportError:
                pass
            time.sleep(0.2)
        yield url
        process.terminate()
        assert process.wait(40) == 0, "SIGTERM drains and ends with 0"
    finally:
        process.kill()

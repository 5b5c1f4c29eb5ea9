"""`raison serve` as a process: it says where it is, drains on SIGTERM with 0, and tells mistakes in one line."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from raison.cli import main
from raison.serve.store import HOME

Capture = pytest.CaptureFixture[str]


def test_it_serves_and_drains(model_folder: str, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "raison", "serve", model_folder, "--port", str(port), "--name", "mine"]
    process = subprocess.Popen(command, env={**os.environ, HOME: str(tmp_path)}, stdout=subprocess.PIPE, text=True)
    url, ends = f"http://127.0.0.1:{port}", time.monotonic() + 300
    while True:
        assert process.poll() is None and time.monotonic() < ends
        try:
            if httpx.get(f"{url}/health").status_code == 200:
                break
        except httpx.TransportError:
            time.sleep(0.1)
    assert httpx.get(f"{url}/v1/models").json()["data"][0]["id"] == "mine"
    body = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 900, "stream": True}
    with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=60) as reply:
        lines = reply.iter_lines()
        next(lines)
        process.send_signal(signal.SIGTERM)
        assert [line for line in lines if line][-1] == "data: [DONE]", "the answer under way comes to its end"
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert said.splitlines()[0].split() == ["loading", "mine", "..."]
    assert f"mine on {url}/v1" in said
    assert "no keys: this machine only" in said


def test_what_is_loaded_is_said_before_anything_slow() -> None:
    """Neither torch nor the server's own libraries are there when the first line comes, nor torch when it listens."""
    code = """
import sys
from argparse import Namespace
import raison.cli.serve as serve
def line(self, *_, **__):
    assert not {"torch", "fastapi", "sqlalchemy"} & set(sys.modules)
    sys.exit(7)
serve.Console.print = line
serve.command(Namespace(name="", model=None))
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == 7
    code = "import sys, raison.serve.server, raison.serve.service; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_mistakes_are_one_line(
    model_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv(HOME, str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for arguments, says in (
            ([model_folder, "--host", "0.0.0.0"], "no key was ever created"),
            ([model_folder, "--port", str(port)], f"port {port}"),
            ([model_folder, "--queue", "0"], "queued_requests is 0"),
            ([str(tmp_path / "nothing"), "--port", "0"], "nothing"),
        ):
            assert main(["serve", *arguments]) == 2
            said = capsys.readouterr().err
            last = said.splitlines()[-1]
            assert last.startswith("raison: ") and says in last and "Traceback" not in said

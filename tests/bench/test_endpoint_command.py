"""`raison bench endpoint` as a user types it: what it prints and writes, its exit codes, its mistakes in one line."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from raison.bench.endpoint.known_server import KnownServer, Script
from raison.cli.entry import main

Capture = pytest.CaptureFixture[str]
SCRIPTS = {"thinker": Script(thinking=2, answer=3), "busy": Script(status=429)}
SMALL = ("--inputs", "90", "--requests", "3")


class Served:
    """A known server on a loop of its own, as main() has one of its own."""

    def __init__(self, *models: str) -> None:
        self._models, self._ready = models, threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    async def _serve(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        async with KnownServer({name: SCRIPTS[name] for name in self._models}) as self.server:
            self._ready.set()
            await self._end.wait()

    def __enter__(self) -> KnownServer:
        self._thread.start()
        assert self._ready.wait(60)
        return self.server

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()


@pytest.fixture
def thinker() -> Iterator[KnownServer]:
    with Served("thinker") as server:
        yield server


def said(capsys: Capture) -> str:
    return capsys.readouterr().err.splitlines()[-1]


def test_it_measures_tells_and_writes(
    thinker: KnownServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("MY_KEY", "sk-secret")
    rows, page = tmp_path / "rows.csv", tmp_path / "page.html"
    files = ["--csv", str(rows), "--report", str(page), "--json", "--key-env", "MY_KEY"]
    worth = ["--limit", "ttft=600,e2e=600", "--price-in", "1", "--price-out", "4"]
    loads = ["--parallel", "1,2", "--rates", "100"]
    assert main(["bench", "endpoint", f"{thinker.url}/", *SMALL, *files, *worth, *loads]) == 0
    out, err = capsys.readouterr()
    result = json.loads(out.splitlines()[-1])
    assert (result["model"], result["tokenizer"]["shipped"], result["stopped"]) == ("thinker", True, False)
    assert [cell["load"] for cell in result["cells"]] == ["1 parallel", "2 parallel", "100/s poisson"]
    for cell in result["cells"]:
        assert (cell["requests"], cell["whole"], cell["goodput"]["share"]["value"]) == (3, 3, 1.0)
        assert cell["cost"]["total"] == pytest.approx(3 * (7 + 4 * 5) * 1e-6)
        assert cell["metrics"]["thinking_tokens"]["p50"] == {"value": 2.0, "low": 2.0, "high": 2.0}
    assert "time to first answer token" in err and "3 of 3 requests whole" in err and "shipped" in err
    assert len(rows.read_text().splitlines()) == 10 and "<svg" in page.read_text()
    chats = [head.lower() for head in thinker.heads if "chat/completions" in head]
    assert len(chats) == 3 * 3 + 1 + 2 + 1 and all("authorization: bearer sk-secret" in head for head in chats)
    assert "sk-secret" not in out + err + rows.read_text() + page.read_text()


def test_a_task_is_judged(thinker: KnownServer, capsys: Capture) -> None:
    asked = [*("bench", "endpoint", thinker.url, "--requests", "3", "--parallel", "1", "--json"), "--task", "countdown"]
    assert main(asked) == 0
    cell = json.loads(capsys.readouterr().out)["cells"][0]
    assert (cell["accuracy"]["value"], cell["accuracy"]["count"], cell["tokens_per_correct"]) == (0.0, 3, None)


def test_without_one_whole_answer_the_exit_code_says_no(capsys: Capture) -> None:
    with Served("thinker", "busy") as server:
        assert main(["bench", "endpoint", server.url, *SMALL, "--parallel", "1"]) == 2
        assert "--model names one of: thinker, busy" in said(capsys)
        assert main(["bench", "endpoint", server.url, *SMALL, "--parallel", "1", "--model", "busy"]) == 1
        assert "failed: 3 HTTP 429" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--key-env", "NO_SUCH_KEY"], "NO_SUCH_KEY"),
        (["--inputs", "1k,x"], "--inputs"),
        (["--inputs", "0"], "--inputs"),
        (["--parallel", "0"], "--parallel"),
        (["--rates", "-1"], "--rates"),
        (["--limit", "ttfs=1"], 'did you mean "ttft"'),
        (["--limit", "ttft"], "NAME=SECONDS"),
        (["--price-in", "1"], "--price-out"),
        (["--price-in", "-1", "--price-out", "1"], "price"),
        (["--body", "[1]"], "--body"),
        (["--task", "countdown", "--prompts", "x"], "exclude each other"),
        (["--task", "countdwn"], "countdown"),
        (["--prompts", "no-such-file"], "no-such-file"),
        (["--tokenizer", "no-such-file"], "no-such-file"),
        (["--timeout", "0"], "--timeout"),
        (["--seed", "-1"], "--seed"),
    ],
)
def test_mistakes_are_one_line(options: list[str], says: str, capsys: Capture) -> None:
    assert main(["bench", "endpoint", "http://127.0.0.1:9/v1", *options]) == 2
    last = said(capsys)
    assert last.startswith("raison: ") and says in last


def test_without_its_client_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    for name in ("raison.cli.bench_endpoint", "raison.bench.endpoint.client", "raison.bench.endpoint.run"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    monkeypatch.delattr("raison.cli.bench_endpoint", raising=False)
    assert main(["bench", "endpoint", "http://127.0.0.1:9/v1"]) == 2
    assert "raison bench endpoint needs aiohttp: pip install 'raison[bench]'" in said(capsys)


def test_a_page_without_matplotlib_fails_before_the_measurement(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture, tmp_path: Path
) -> None:
    monkeypatch.setattr("raison.cli.bench_endpoint_plan.find_spec", lambda name: None)
    assert main(["bench", "endpoint", "http://127.0.0.1:9/v1", "--report", str(tmp_path / "page.html")]) == 2
    assert "raison[report]" in said(capsys)


def test_where_nobody_answers(capsys: Capture) -> None:
    assert main(["bench", "endpoint", "http://127.0.0.1:9/v1"]) == 2
    assert "is it running?" in said(capsys)
    assert main(["bench", "endpoint"]) == 2
    assert "name the endpoint" in said(capsys)
    assert main(["bench", "endpoint", "localhost:9"]) == 2
    assert "http://" in said(capsys)

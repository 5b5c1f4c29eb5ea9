"""The server itself, killed by SIGKILL while clients are being answered: who has an answer has its bill, once."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import select

from raison.serve import ledger
from raison.serve.schema import USAGE
from raison.serve.store import open_store
from tests.access.conftest import child_environment, eventually

CLIENTS = 12
ANSWERS = 40
PATIENCE_SECONDS = 120
PRICES = "[default]\nprompt = 1\ncompletion = 2\n"


def raison(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "raison", *arguments]


def told(*arguments: str) -> dict[str, Any]:
    """What a command says with --json."""
    done = subprocess.run(raison(*arguments, "--json"), capture_output=True, check=True, env=child_environment())
    value: dict[str, Any] = json.loads(done.stdout)
    return value


@dataclass
class Clients:
    """Threads that ask, half of them for a stream, until the server is gone."""

    port: int
    key: str
    answers: dict[str, dict[str, int]] = field(default_factory=dict)
    """Usage by the id of each answer whose last byte came."""

    def start(self) -> list[threading.Thread]:
        threads = [threading.Thread(target=self._ask_on, args=(number % 2 == 0,)) for number in range(CLIENTS)]
        for thread in threads:
            thread.start()
        return threads

    def _ask_on(self, stream: bool) -> None:
        with suppress(OSError, http.client.HTTPException):
            while True:
                id, usage = self._ask(stream)
                self.answers[id] = usage

    def _ask(self, stream: bool) -> tuple[str, dict[str, int]]:
        question = {"messages": [{"role": "user", "content": "3 7 25 -> 46"}], "max_completion_tokens": 8,
                    "stream": stream, "stream_options": {"include_usage": True} if stream else None}  # fmt: skip
        status, body = self.post(question)
        assert status == 200, body
        if not stream:
            return json.loads(body)["id"], json.loads(body)["usage"]
        if not body.rstrip().endswith("data: [DONE]"):
            raise OSError("cut off")
        chunks = [json.loads(line[6:]) for line in body.splitlines() if line.startswith("data: {")]
        return chunks[0]["id"], chunks[-1]["usage"]

    def post(self, question: Mapping[str, Any]) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_SECONDS)
        try:
            headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
            connection.request("POST", "/v1/chat/completions", json.dumps(question), headers)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()


@contextmanager
def server(database: str, prices: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = raison("serve", "--port", str(port), "--database", database, "--prices", str(prices), "--early-access")
    log = prices.with_name("server.log")
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, env=child_environment())
    try:
        eventually(lambda: healthy(process, port, log), PATIENCE_SECONDS)
        yield process, port
    finally:
        process.kill()
        process.wait()


def healthy(process: subprocess.Popen[bytes], port: int, log: Path) -> bool:
    assert process.poll() is None, log.read_text()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    with suppress(OSError):
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    return False


def test_every_answer_that_came_before_a_kill_is_billed_once(database: str, tmp_path: Path) -> None:
    (tmp_path / "prices.toml").write_text(PRICES)
    made = told("keys", "create", "--name", "alice", "--allow", "--quota", "1000000", "--database", database)
    stranger = told("keys", "create", "--name", "mallory", "--database", database)
    answers: dict[str, dict[str, int]] = {}
    for _ in range(2):
        with server(database, tmp_path / "prices.toml") as (process, port):
            assert Clients(port, stranger["key"]).post({"messages": []})[0] == 403, "not on the list"
            clients = Clients(port, made["key"])
            threads = clients.start()
            eventually(lambda asked=clients: len(asked.answers) >= ANSWERS, PATIENCE_SECONDS)  # type: ignore[misc]
            process.kill()
            for thread in threads:
                thread.join()
        answers |= clients.answers
    check_books(database, made["id"], answers)


def check_books(database: str, key: str, answers: Mapping[str, Mapping[str, int]]) -> None:
    assert len(answers) >= 2 * ANSWERS
    store = open_store(Path(), database)
    with store.read() as connection:
        rows = list(connection.execute(select(USAGE)))
        spent = ledger.balances(connection)[key].total_tokens
    store.close()
    billed = {row.request: row for row in rows}
    assert max(Counter(row.request for row in rows).values()) == 1 and {row.key for row in rows} == {key}
    assert set(answers) <= set(billed), "an answer came and is not in the books"
    assert len(billed) <= len(answers) + 2 * CLIENTS, "only what was under way may be in the books unanswered"
    for id, usage in answers.items():
        row = billed[id]
        assert (row.prompt_tokens, row.completion_tokens) == (usage["prompt_tokens"], usage["completion_tokens"])
        assert row.cost == 1000 * row.prompt_tokens + 2000 * row.completion_tokens
    assert spent == sum(row.prompt_tokens + row.completion_tokens for row in rows)
    total = told("usage", "--database", database)["total"]
    assert (total["requests"], total["cost_nanodollars"]) == (len(rows), sum(row.cost for row in rows))

"""A server of a small random model in a thread of the test's own process, and what tests ask it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from raison.engine.settings import EngineSettings
from raison.reasoner import Reasoner
from raison.serve.access import Access, open_access
from raison.serve.checkers import Checkers
from raison.serve.server import Server, create_app
from raison.serve.service import Service
from raison.serve.settings import ServeSettings
from raison.text.tokenizer import Tokenizer
from tests.engine.small import TOKENIZER, small_model

CHAT = "/v1/chat/completions"
PATIENCE_SECONDS = 60
"""After which what should come does not; no test is right or wrong by how long it takes."""
QUESTION = [{"role": "user", "content": "Make 46 from 3, 7, 25"}]


@dataclass(frozen=True)
class Served:
    url: str
    service: Service
    client: httpx.Client

    def ask(self, path: str = CHAT, *, expect: int = 200, **fields: Any) -> dict[str, Any]:
        """A whole answer's body."""
        if path == CHAT:
            fields.setdefault("messages", QUESTION)
        reply = self.client.post(path, json=fields)
        assert reply.status_code == expect, reply.text
        body = reply.json()
        assert isinstance(body, dict)
        return body

    def events(self, path: str = CHAT, **fields: Any) -> list[dict[str, Any]]:
        """A stream's events, without [DONE], which must be the last."""
        if path == CHAT:
            fields.setdefault("messages", QUESTION)
        with self.client.stream("POST", path, json={**fields, "stream": True}) as reply:
            assert reply.status_code == 200, reply.read()
            data = [line.removeprefix("data: ") for line in reply.iter_lines() if line.startswith("data: ")]
        assert data[-1] == "[DONE]"
        return [json.loads(line) for line in data[:-1]]

    def quiet(self) -> None:
        """Wait until nothing is under way; fails where pages of the cache are still held then."""
        eventually(lambda: not (self.service.jobs or self._steps() or self.service.admission.running))
        stats = self.service.engine.stats
        assert stats is not None and stats.pages_free == stats.pages_total

    def _steps(self) -> int:
        """Sequences that the engine still works on or will."""
        stats = self.service.engine.stats
        assert stats is not None
        return stats.running + stats.waiting


def eventually(true: Callable[[], bool]) -> None:
    """Wait until it is true."""
    ends = time.monotonic() + PATIENCE_SECONDS
    while not true():
        assert time.monotonic() < ends, "it did not come true"
        time.sleep(0.002)


def small_reasoner(tokenizer: Tokenizer = TOKENIZER, **engine: Any) -> Reasoner:
    sizes: dict[str, Any] = {"page_size": 4, "cache_tokens": 8192, "max_batch": 16, "prefill_chunk": 64}
    return Reasoner(small_model(), tokenizer, {}, EngineSettings(**{**sizes, **engine}))


@contextmanager
def serving(
    home: Path,
    load: Callable[[], Reasoner] | None = None,
    access: Access | None = None,
    wait: bool = True,
    checkers: Checkers | None = None,
    **settings: Any,
) -> Iterator[Served]:
    """A server on a free port of this machine, until the end of the block; ready, unless `wait` is False."""
    books, made = access or open_access(home), ServeSettings(**settings)
    service = Service(load or small_reasoner, books, made, "small", checkers)
    config = uvicorn.Config(create_app(service), port=0, log_config=None, access_log=False, ws="none")
    server = Server(config, service)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started or (wait and service.health == "loading"):
        time.sleep(0.005)
    port = server.servers[0].sockets[0].getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    try:
        with httpx.Client(base_url=url, timeout=PATIENCE_SECONDS) as client:
            yield Served(url, service, client)
    finally:
        server.should_exit = True
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive()


def joined(events: list[dict[str, Any]], field: str, index: int = 0) -> str:
    """All that a stream said in one field of a choice."""
    deltas = [choice["delta"] for event in events for choice in event["choices"] if choice["index"] == index]
    return "".join(delta.get(field) or "" for delta in deltas)

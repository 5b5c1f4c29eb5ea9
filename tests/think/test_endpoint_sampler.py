"""Strategies over an OpenAI-compatible endpoint: a server of a few lines that streams, on loopback."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from raison.config import EndpointSection
from raison.engine.sequence import sample_seed
from raison.errors import UserError
from raison.think.drive import Heard, drive
from raison.think.endpoint_sampler import EndpointSampler, Request
from raison.think.parse import Context, parse_strategy
from raison.think.strategy import Branch, Outcome

pytest.importorskip("openai", reason="the extra `endpoint` is not installed")
PATIENCE_SECONDS = 60
SEEDS = {sample_seed(7, number) % 2**31: number for number in range(16)}


class Server(ThreadingHTTPServer):
    """`script` says what each branch streams: deltas, the last of them with the answer. None streams for ever."""

    daemon_threads = True

    def __init__(
        self, script: dict[int, list[dict[str, Any]] | None], status: int = 200, usage: bool = True, meet: int = 1
    ) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script, self.status, self.usage, self.meet = script, status, usage, meet
        self.met = threading.Event()
        """Nothing is answered before so many as `meet` have been asked at once."""
        self.gates: dict[int, threading.Event] = {}
        """Branches that are answered only then."""
        self.asked: list[dict[str, Any]] = []
        self.left: list[int] = []
        """Branches whose client went away."""
        self.busy = self.most_busy = 0
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, *_: object) -> None:
        pass


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_: object) -> None:
        pass

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server, number = self.server, SEEDS[asked["seed"]]
        with server.lock:
            server.asked.append(asked)
            server.busy += 1
            server.most_busy = max(server.most_busy, server.busy)
            if server.busy >= server.meet:
                server.met.set()
        try:
            for gate in (server.met, server.gates.get(number, server.met)):
                gate.wait(PATIENCE_SECONDS)
            self.answer(number)
        finally:
            with server.lock:
                server.busy -= 1

    def answer(self, number: int) -> None:
        self.send_response(self.server.status)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        if self.server.status != 200:
            self.wfile.write(b'{"error": {"message": "no"}}')
            return
        deltas = self.server.script[number]
        try:
            for delta in deltas if deltas is not None else iter(lambda: {"reasoning_content": "hm "}, None):
                self.send({"choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
                time.sleep(0.002)
        except OSError:
            self.server.left.append(number)
            return
        self.send({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        if self.server.usage:
            counts = {"prompt_tokens": 5, "completion_tokens": 40, "total_tokens": 45}
            self.send({"choices": [], "usage": {**counts, "completion_tokens_details": {"reasoning_tokens": 30}}})
        self.wfile.write(b"data: [DONE]\n\n")

    def send(self, chunk: dict[str, Any]) -> None:
        whole = {"id": "x", "object": "chat.completion.chunk", "created": 0, "model": "m", **chunk}
        self.wfile.write(b"data: " + json.dumps(whole).encode() + b"\n\n")
        self.wfile.flush()


@pytest.fixture
def serve() -> Iterator[Any]:
    servers: list[Server] = []

    def start(*arguments: Any, **more: Any) -> Server:
        servers.append(Server(*arguments, **more))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return servers[-1]

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def talk(answer: str, thoughts: int = 3) -> list[dict[str, Any]]:
    return [*[{"reasoning_content": "so "}] * thoughts, {"content": answer}]


def ask(server: Server, wish: dict[str, Any], retries: int = 0, concurrency: int = 16) -> Outcome:
    async def run() -> Outcome:
        section = EndpointSection(url=server.url, model="m", retries=retries)
        request = Request(({"role": "user", "content": "what?"},), 100, seed=7)
        async with EndpointSampler(section, request, concurrency) as sampler:
            return await drive(parse_strategy(wish, Context(100)), sampler)

    return asyncio.run(asyncio.wait_for(run(), PATIENCE_SECONDS))


def test_a_vote_over_an_endpoint(serve: Any) -> None:
    server = serve({number: talk("1/2" if number % 2 else "0.5") for number in range(5)}, meet=2)
    outcome = ask(server, {"vote": "windows", "max_samples": 10})
    assert outcome.completion is not None and outcome.completion.answer in ("1/2", "0.5")
    assert outcome.completion.thinking == "so so so "
    assert outcome.tally.classes[0].branches == (0, 1, 2, 3, 4)
    assert outcome.tokens == 5 * 40 and outcome.branches[0].thinking_tokens == 30, "counted by the server"
    assert server.met.is_set(), "branches are asked at once"
    assert all(asked["stream"] and asked["max_tokens"] == 100 for asked in server.asked)


def test_what_is_no_longer_needed_is_cancelled(serve: Any) -> None:
    """Two that never end, beside one that the checker accepts, which is told once the others have been heard."""
    server = serve({0: None, 1: None, 2: talk("7")})
    gate = server.gates[2] = threading.Event()
    heard: set[int] = set()

    def hear(events: Heard) -> None:
        heard.update(branch for branch, _ in events)
        if {0, 1} <= heard:
            gate.set()

    context = Context(100, score=lambda said: float(said.answer == "7"), checker=True)

    async def run() -> Outcome:
        section = EndpointSection(url=server.url, model="m", retries=0)
        async with EndpointSampler(section, Request(({"role": "user", "content": "?"},), 100, seed=7)) as sampler:
            strategy = parse_strategy({"vote": "best-of-n", "width": 3, "max_samples": 3}, context)
            return await drive(strategy, sampler, hear)

    outcome = asyncio.run(asyncio.wait_for(run(), PATIENCE_SECONDS))
    assert outcome.chosen == 2
    assert [branch.finish for branch in outcome.branches] == ["cancelled", "cancelled", "stop"]
    assert all(branch.tokens > 0 for branch in outcome.branches), "what had come is counted by chunks"
    deadline = time.monotonic() + PATIENCE_SECONDS
    while len(server.left) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert sorted(server.left) == [0, 1], "the server sees them go"


def test_tags_in_the_text_and_no_usage(serve: Any) -> None:
    said = [{"content": "<think>well"}, {"content": " </think>"}, {"content": "9"}]
    server = serve({0: said, 1: [{"content": "<think>never closed"}]}, usage=False)
    outcome = ask(server, {"vote": "self-consistency", "max_samples": 2})
    assert outcome.completion is not None
    assert (outcome.completion.thinking, outcome.completion.answer) == ("well ", "9")
    assert [branch.answer for branch in outcome.branches] == ["9", ""], "unclosed thoughts are no answer"
    assert [branch.tokens for branch in outcome.branches] == [3, 1]


def test_no_more_requests_at_once_than_allowed(serve: Any) -> None:
    server = serve({number: talk("1") for number in range(8)}, meet=2)
    ask(server, {"vote": "self-consistency", "max_samples": 8}, concurrency=2)
    assert server.most_busy == 2


@pytest.mark.parametrize("status", [401, 404, 500])
def test_a_refusal_is_one_error_that_names_the_endpoint(status: int, serve: Any) -> None:
    server = serve({}, status=status)
    with pytest.raises(UserError, match=f"{server.url}.*{status}"):
        ask(server, {"vote": "self-consistency", "max_samples": 4})


def test_a_silent_endpoint_and_steps_are_refused(serve: Any) -> None:
    server = serve({})
    server.shutdown()
    server.server_close()
    with pytest.raises(UserError, match="is it running"):
        ask(server, {"vote": "auto"})
    sampler = EndpointSampler(EndpointSection(url=server.url, model="m"), Request((), 9))
    with pytest.raises(UserError, match="token ids"):
        asyncio.run(sampler.start([Branch(0, (1, 2))]))


def test_a_branch_cancelled_before_it_began_ends_too() -> None:
    async def run() -> str:
        async with EndpointSampler(EndpointSection(url="http://127.0.0.1:9/v1", model="m"), Request((), 9)) as sampler:
            await sampler.start([Branch(0)])
            await sampler.cancel([0])
            ((_, event),) = await sampler.events()
            assert event.finished is not None
            return event.finished.finish_reason

    assert asyncio.run(asyncio.wait_for(run(), 10)) == "cancelled"

"""Nothing is open but /health and the page's files; bodies have a size; a drained, loading or failed server says so."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from raison.engine.sequence import Event
from raison.reasoner import Reasoner
from raison.serve import keyring
from raison.serve.access import Caller, open_access
from raison.serve.gate import Gate, hostname, is_open
from raison.serve.keys import Key, mint
from raison.serve.refusal import Unavailable
from tests.serve.serving import CHAT, PATIENCE_SECONDS, QUESTION, Served, eventually, serving, small_reasoner


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, dict[str, str]]]:
    """A server with one key for the model "small", and the header that shows it."""
    home = tmp_path_factory.mktemp("guarded")
    access = open_access(home)
    public, text = mint()
    key = Key(public, "tester", time.time(), models=frozenset(["small"]))
    access.store.write(lambda connection: keyring.create(connection, key, text))
    with serving(home, access=access, max_body_bytes=10_000) as one:
        yield one, {"Authorization": f"Bearer {text}"}


Guarded = tuple[Served, dict[str, str]]


def test_every_route_but_the_open_ones_wants_a_key(guarded: Guarded) -> None:
    served, right = guarded
    schema = served.client.get("/openapi.json", headers=right).json()
    assert CHAT in schema["paths"]
    tried = 0
    for path, operations in schema["paths"].items():
        for method in operations:
            reply = served.client.request(method, path)
            assert reply.status_code == (200 if is_open(path, method.upper()) else 401), (method, path)
            tried += 1
    assert tried >= 5


@pytest.mark.parametrize("path", ["/openapi.json", "/docs", "/metrics", "/nothing", "/v1", "/health/../v1/models"])
def test_what_nobody_opened_is_closed(path: str, guarded: Guarded) -> None:
    served, _ = guarded
    assert served.client.get(path).status_code == 401


@pytest.mark.parametrize("method", ["POST", "PUT", "OPTIONS", "DELETE"])
def test_open_paths_are_open_to_readers_only(method: str, guarded: Guarded) -> None:
    served, _ = guarded
    assert served.client.request(method, "/health").status_code == 401


def test_health_needs_no_key(guarded: Guarded) -> None:
    served, _ = guarded
    assert served.client.get("/health").json() == {"status": "ok"}


def test_two_authorizations_are_none(guarded: Guarded) -> None:
    served, right = guarded
    headers = [("Authorization", right["Authorization"]), ("Authorization", "Bearer wrong")]
    assert served.client.get("/v1/models", headers=headers).status_code == 401
    assert served.client.get("/v1/models", headers=headers[:1]).status_code == 200


def test_a_key_may_use_its_models_only(guarded: Guarded) -> None:
    served, right = guarded
    for model, status in (("small", 200), ("other", 403)):
        body = {"model": model, "messages": QUESTION, "max_tokens": 2}
        assert served.client.post(CHAT, json=body, headers=right).status_code == status


@pytest.mark.parametrize("chunked", [False, True])
def test_a_large_body_is_413(chunked: bool, guarded: Guarded) -> None:
    served, right = guarded
    body = b'{"messages":[{"role":"user","content":"' + b"x" * 20_000 + b'"}]}'
    pieces = (body[i : i + 1000] for i in range(0, len(body), 1000))
    headers = {**right, "Content-Type": "application/json"}
    reply = served.client.post(CHAT, content=pieces if chunked else body, headers=headers)
    assert reply.status_code == 413
    assert "error" in reply.json()


@pytest.mark.parametrize("said", [100, 20_000])
def test_a_body_that_does_not_come_is_given_up(said: int, tmp_path: Path) -> None:
    """One that says that it is too large is refused for that."""
    with serving(tmp_path, body_seconds=0.3, max_body_bytes=10_000) as one:
        port = int(one.url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS) as slow:
            head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            slow.sendall(f'{head}Content-Length: {said}\r\n\r\n{{"mess'.encode())
            reply = b"".join(iter(partial(slow.recv, 4096), b"")).decode()  # to the end, so the connection was closed
        assert reply.startswith("HTTP/1.1 408" if said == 100 else "HTTP/1.1 413")
        one.ask(max_tokens=2)


def test_a_caller_may_listen_for_longer_than_its_body_may_take(tmp_path: Path) -> None:
    """What is asked after the whole body, whether the caller has left, is asked for as long as the answer takes."""
    with serving(tmp_path, body_seconds=0.05) as one:
        assert one.ask(max_tokens=800, expect=200)["usage"]["completion_tokens"] > 0

    async def work() -> Any:
        settings: Any = SimpleNamespace(settings=SimpleNamespace(body_seconds=0.01))
        waits = asyncio.Event()

        async def receive() -> Any:
            if waits.is_set():
                await asyncio.sleep(0.05)
                return {"type": "http.disconnect"}
            waits.set()
            return {"type": "http.request", "body": b"{}", "more_body": False}

        timed = Gate(never, settings)._timed(receive)
        return await timed(), await timed()

    first, second = asyncio.run(work())
    assert (first["body"], second["type"]) == (b"{}", "http.disconnect")


def test_a_keyless_server_answers_to_the_names_of_this_machine_only(served: Served) -> None:
    for host, status in (("localhost:1", 200), ("[::1]", 200), ("evil.example", 403), ("127.0.0.1.evil.example", 403)):
        assert served.client.get("/v1/models", headers={"Host": host}).status_code == status, host


def test_a_form_of_a_website_is_refused(served: Served) -> None:
    """A page of another site can send text without asking first; JSON it cannot."""
    reply = served.client.post(CHAT, content='{"messages":[]}', headers={"Content-Type": "text/plain"})
    assert reply.status_code == 400


def test_hostname() -> None:
    assert hostname("LOCALHOST:80") == "localhost"
    assert hostname("[::1]:80") == "::1"
    assert hostname("[") is None


def test_embeddings_are_refused_clearly(served: Served) -> None:
    error = served.ask("/v1/embeddings", expect=400, input="x")["error"]
    assert "embeddings" in error["message"]


def test_while_the_model_loads_health_and_requests_say_503(tmp_path: Path) -> None:
    gate = threading.Event()

    def load() -> Reasoner:
        gate.wait(PATIENCE_SECONDS)
        return small_reasoner()

    with serving(tmp_path, load, wait=False) as one:
        health = one.client.get("/health")
        assert (health.status_code, health.json()["error"]["message"]) == (503, "Loading model")
        reply = one.client.post(CHAT, json={"messages": QUESTION})
        assert (reply.status_code, reply.json()["error"]["code"]) == (503, "loading")
        assert int(reply.headers["retry-after"]) > 0
        assert one.client.get("/metrics").status_code == 200
        gate.set()
        eventually(lambda: one.client.get("/health").status_code == 200)
        one.ask(max_tokens=2)


def test_an_engine_that_fails_says_so_and_holds_nobody(tmp_path: Path) -> None:
    reasoner = small_reasoner()
    step, told = reasoner.engine.step, threading.Event()

    def breaks() -> list[Event]:
        if told.is_set():
            raise RuntimeError("a bug of ours")
        return step()

    reasoner.engine.step = breaks  # type: ignore[method-assign]
    with serving(tmp_path, lambda: reasoner) as one:
        one.ask(max_tokens=2)
        told.set()
        assert one.ask(max_tokens=500, expect=503)["error"]["code"] == "engine_failed"
        assert one.client.get("/health").status_code == 503
        assert one.ask(max_tokens=2, expect=503)["error"]["code"] == "engine_failed"
        one.service.engine.error = None  # it was meant


def test_a_crowd_is_known_by_one_look_and_nobody_by_one_that_began_before() -> None:
    begun, go = threading.Event(), threading.Event()
    looks: list[str | None] = []

    def caller(authorization: str | None) -> Caller:
        looks.append(authorization)
        number = str(len(looks))
        begun.set()
        assert go.wait(10)
        return Caller("a", number, None, 0)

    async def work() -> list[Caller]:
        books: Any = SimpleNamespace(access=SimpleNamespace(caller=caller), book=asyncio.to_thread)
        gate = Gate(never, books)
        early = asyncio.create_task(gate.known("Bearer x"))
        await asyncio.to_thread(begun.wait, 10)
        crowd = [asyncio.create_task(gate.known("Bearer x")) for _ in range(20)]
        while len(looks) < 2:
            await asyncio.sleep(0.001)
        go.set()
        return await asyncio.gather(early, *crowd)

    assert [one.name for one in asyncio.run(asyncio.wait_for(work(), 20))] == ["1"] + ["2"] * 20
    assert len(looks) == 2


async def never(scope: Scope, receive: Receive, send: Send) -> None:
    raise AssertionError("nothing was asked of the application")


def test_who_has_no_key_learns_nothing_of_the_database(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    def caller(authorization: str | None) -> Caller:
        raise Unavailable("connection to 10.0.0.1 as user books failed")

    monkeypatch.setattr(served.service.access, "caller", caller)
    reply = served.client.get("/v1/models")
    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "database_unavailable")
    assert "10.0.0.1" not in reply.text and "books" not in reply.text
    assert int(reply.headers["retry-after"]) > 0


def test_health_can_be_asked_for_its_head(served: Served) -> None:
    assert served.client.head("/health").status_code == 200

"""A request's life: hung up on, cut off, overloaded, drained; every drawn token in the books once, no page lost."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from sqlalchemy import select

from raison.engine.sequence import SamplingParams
from raison.serve.access import LOCAL, DatabaseAccess, Reservation
from raison.serve.admission import Admission, Room
from raison.serve.asking import Order
from raison.serve.job import Job
from raison.serve.refusal import Refused
from raison.serve.schema import USAGE
from raison.serve.settings import ServeSettings
from tests.serve.serving import CHAT, PATIENCE_SECONDS, QUESTION, Served, eventually, serving


def rows(served: Served) -> list[Any]:
    """What the books hold."""
    access = served.service.access
    assert isinstance(access, DatabaseAccess)
    with access.store.read() as connection:
        return list(connection.execute(select(USAGE)))


def hang_up(served: Served, after: int, ready: Callable[[], bool] = lambda: True, **fields: Any) -> None:
    """Ask, read so many bytes, and close as soon as it is `ready`."""
    port = urlsplit(served.url).port
    assert port is not None
    body = json.dumps({"messages": QUESTION, "max_tokens": 900, **fields}).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)
        while after and (piece := connection.recv(after)):
            after -= len(piece)
        eventually(ready)


def sampled(served: Served) -> int:
    stats = served.service.engine.stats
    assert stats is not None
    return stats.tokens_sampled


SOME = 200
"""Tokens of a request at which `left` tells whether it goes on: more than a client of these tests reads."""


def hold(served: Served, until: Callable[[], bool]) -> None:
    """No step begins before `until` is true, so that a test says when there is a token, and not the machine's pace."""
    engine = served.service.reasoner.engine
    step = engine.step

    def held() -> Any:
        ends = time.monotonic() + PATIENCE_SECONDS
        waited = False
        while not until() and time.monotonic() < ends:
            waited = True
            time.sleep(0.001)
        return [] if waited else step()  # what was asked meanwhile comes first

    engine.step = held  # type: ignore[method-assign]


def left(served: Served) -> bool:
    """Whether the server knows that nobody waits any more: clients have gone, or a deadline has come."""
    return all(job._stopped is not None for job in list(served.service.jobs.values()))  # type: ignore[attr-defined]


@pytest.mark.parametrize("stream", [True, False])
def test_hanging_up_ends_every_branch_and_is_settled(stream: bool, tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        served.ask(max_tokens=2)  # warm
        start = sampled(served)
        hold(served, lambda: sampled(served) < start + SOME or left(served))
        for _ in range(3):
            hang_up(served, 400 if stream else 0, lambda: sampled(served) > start, stream=stream, n=8)  # noqa: B023
            served.quiet()
            start = sampled(served)
        assert start < 3 * 8 * 900
        assert sum(row.completion_tokens for row in rows(served)) == start
        assert [row.finish for row in rows(served)][1:] == ["cancelled"] * 3


def test_a_storm_of_hang_ups_leaves_nothing_behind(tmp_path: Path) -> None:
    """At every stage: before the answer, at its first bytes, in the middle."""
    with serving(tmp_path, queued_requests=1000) as served:
        with ThreadPoolExecutor(16) as pool:
            list(
                pool.map(lambda i: hang_up(served, (0, 1, 300, 2000)[i % 4], stream=i % 3 > 0, n=1 + i % 5), range(120))
            )
        served.quiet()
        assert sum(row.completion_tokens for row in rows(served)) == sampled(served)
        assert served.ask(seed=1, max_tokens=20)["choices"]


def test_every_answer_is_in_the_books_once(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        with ThreadPoolExecutor(8) as pool:
            bodies = list(pool.map(lambda i: served.ask(max_tokens=5 + i, seed=i), range(40)))
        booked = {row.request: row for row in rows(served)}
        assert len(booked) == len(rows(served)) == 40
        for body in bodies:
            row, usage = booked[body["id"]], body["usage"]
            assert row.prompt_tokens == usage["prompt_tokens"]
            assert row.completion_tokens == usage["completion_tokens"]
            assert row.reasoning_tokens == usage["completion_tokens_details"]["reasoning_tokens"]


def test_who_hangs_up_in_the_moment_of_its_turn_draws_nothing() -> None:
    """Between the turn and the job's hearing of it there is one round of the event loop, in which others may act."""
    started: list[object] = []

    async def start(*asked: object) -> None:
        started.append(asked)

    async def work() -> None:
        admission = Admission(Room(1, 1000), 8, 1000)
        service: Any = SimpleNamespace(
            admission=admission, jobs={}, settings=ServeSettings(), book=asyncio.to_thread,
            engine=SimpleNamespace(start=start, cancel=lambda ticket: None),
            access=SimpleNamespace(reserve=lambda *_: Reservation("", "local", 0), release=lambda _: None),
            metrics=SimpleNamespace(admitted=lambda seconds: None), draining=False,
        )  # fmt: skip
        first = await admission.enter(LOCAL, 1, 10)
        job = Job(service, LOCAL, Order("chat", "small", ((1,),), SamplingParams(), 1), "x")
        begun = asyncio.create_task(job.begin())
        while not admission.waiting:
            await asyncio.sleep(0)
        admission.leave(first, 10)
        asyncio.get_running_loop().call_soon(job.cancel)
        with pytest.raises(Refused, match="gone"):
            await begun
        assert not (started or admission.running)

    asyncio.run(asyncio.wait_for(work(), 20))


def test_a_slow_reader_holds_nobody_and_gets_all(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        want = served.ask(seed=5, n=16, max_tokens=900)
        port = urlsplit(served.url).port
        body = json.dumps({"messages": QUESTION, "seed": 5, "n": 16, "max_tokens": 900, "stream": True}).encode()
        head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        slow = socket.socket()
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect(("127.0.0.1", port))
        slow.sendall(f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)
        eventually(lambda: sampled(served) >= 2 * want["usage"]["completion_tokens"])  # while nothing is read
        served.ask(max_tokens=2)
        served.quiet()
        text = b""
        while piece := slow.recv(65536):
            text += piece
        slow.close()
        assert b"data: [DONE]" in text


def test_a_deadline_cuts_the_answer_off(tmp_path: Path) -> None:
    with serving(tmp_path, deadline_seconds=0.3) as served:
        hold(served, lambda: left(served))
        error = served.ask(max_tokens=900, expect=504)["error"]
        assert error["code"] == "deadline_exceeded"
        with served.client.stream("POST", CHAT, json={"messages": QUESTION, "stream": True}) as reply:
            lines = [line for line in reply.iter_lines() if line]
        assert json.loads(lines[-1].removeprefix("data: "))["error"]["code"] == "deadline_exceeded"
        served.quiet()
        assert not rows(served), "what drew nothing costs nothing"


def test_overload_is_refused_at_once_and_the_rest_is_served(tmp_path: Path) -> None:
    """Of 40 requests for half the batch each two run and four wait; the others hear so while nothing goes on."""
    with serving(tmp_path, queued_requests=4) as served:
        goes_on = threading.Event()
        hold(served, goes_on.is_set)

        def one(i: int) -> httpx.Response:
            return httpx.post(served.url + CHAT, json={"messages": QUESTION, "max_tokens": 40, "n": 8}, timeout=60)

        with ThreadPoolExecutor(40) as pool:
            asked = [pool.submit(one, i) for i in range(40)]
            eventually(lambda: sum(each.done() for each in asked) >= 34)
            refused = [each.result() for each in asked if each.done()]
            goes_on.set()
            replies = [each.result() for each in asked]
        assert [reply.status_code for reply in refused] == [429] * 34
        assert sorted(reply.status_code for reply in replies) == [200] * 6 + [429] * 34
        assert all(int(reply.headers["retry-after"]) >= 1 for reply in refused)
        served.quiet()
        text = served.client.get("/metrics").text
        assert 'raison:request_refused_total{code="queue_full",model_name="small",status="429"} 34.0' in text


def test_draining_lets_answers_end_and_takes_no_more(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        goes_on = threading.Event()
        hold(served, goes_on.is_set)
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(served.ask, max_tokens=50)
            eventually(lambda: bool(served.service.jobs))
            served.service.draining = True
            assert served.client.get("/health").status_code == 503
            refused = served.client.post(CHAT, json={"messages": QUESTION})
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "draining")
            assert not answer.done()
            goes_on.set()
            assert answer.result(PATIENCE_SECONDS)["choices"]


def test_health_never_waits_for_a_step(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        goes_on = threading.Event()
        hold(served, goes_on.is_set)
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(served.ask, max_tokens=2)
            for path in ("/health", "/metrics", "/v1/models"):
                assert served.client.get(path).status_code == 200
            assert not answer.done()
            goes_on.set()
            assert answer.result(PATIENCE_SECONDS)


def test_what_was_being_read_when_draining_began_is_told_to_come_again(tmp_path: Path) -> None:
    """It would be cut off as soon as the others have ended, for who drains waits for those that it knows of."""
    with serving(tmp_path) as served:
        service = served.service
        read = service.read

        async def reads(*asked: Any) -> Order:
            order = await read(*asked)
            service.draining = True
            return order

        service.read = reads  # type: ignore[method-assign, assignment]
        error = served.ask(max_tokens=4, expect=503)["error"]
        assert error["code"] == "draining"
        assert not service.jobs

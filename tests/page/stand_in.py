"""A server that speaks the API as the page needs it, with answers that are known beforehand.

What it says depends on the question alone: the tests read here what they may expect. Between two pieces it waits for
PACE seconds, and where a question asks it to hold, until a test says `app.state.go_on.set()` or the page hangs up. Runs
and plans are the real server's. Not covered: anything else that it does.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse

from raison.serve import page, plan, refused, runs

KEY = "rk-for-the-test"
PACE = 0.004
EFFORTS = {"none": 0, "low": 16, "medium": 64, "high": 256, "max": None}
THOUGHT = [f"{n} + {n + 1} = {2 * n + 1}\n" for n in range(40)]
FORMULAS = (
    "The roots are $x = \\frac{-b \\pm \\sqrt{b^2 - 4ac}}{2a}$, so that\n\n"
    "\\[ \\int_0^1 x^2 \\, dx = \\tfrac{1}{3} \\]\n\nand \\(a_1\\) costs $5 and $6. 3*7*25 = 525, `$x$` is code.\n\n"
    "$\\notacommand{$ <b>not bold</b> ![p](http://example.invalid/x.png)"
)
VOTED = (("7 * 3 + 25 = 46", (0, 1, 3)), ("25 + 7 + 3 = 35", (2,)))
WHY = "3 of 4 agree; more samples are not worth their price"


def app_for(run_root: Path, keyed: bool = False) -> FastAPI:
    app = FastAPI(openapi_url=None)
    app.state.asked = []
    app.state.hung_up = 0
    app.state.loading = False
    app.state.go_on = threading.Event()
    app.state.runs = runs.Runs(run_root)

    @app.middleware("http")
    async def guard(request: Request, go_on: Any) -> Any:
        good = request.headers.get("authorization") == f"Bearer {KEY}"
        if keyed and not good and not page.is_page(request.url.path):
            return JSONResponse({"error": {"message": "the key is missing or wrong"}}, 401)
        return await go_on(request)

    @app.get("/v1/models")
    def models() -> Mapping[str, Any]:
        about = {"context": 2048, "efforts": EFFORTS, "thinks": True, "examples": ["3 7 25 -> 46"], "task": "countdown"}
        known = {} if app.state.loading else {"raison": about}
        return {"object": "list", "data": [{"id": "countdown-r1", "object": "model", **known}]}

    @app.post("/v1/chat/completions")
    async def complete(request: Request) -> Any:
        asked = await request.json()
        app.state.asked.append(asked)
        if "overload" in asked["messages"][-1]["content"]:
            return JSONResponse({"error": {"message": "the queue is full"}}, 429, headers={"Retry-After": "7"})
        words = vote(asked, app) if "strategy" in asked else single(asked, app)
        return StreamingResponse(paced(app, words), media_type="text/event-stream")

    app.include_router(runs.router)
    app.include_router(plan.router)
    refused.install(app)
    page.mount(app)
    return app


async def paced(app: FastAPI, words: AsyncIterator[Any]) -> AsyncIterator[str]:
    try:
        async for word in words:
            await asyncio.sleep(PACE)
            yield f"data: {word if isinstance(word, str) else json.dumps(word)}\n\n"
    except asyncio.CancelledError:
        app.state.hung_up += 1
        raise


async def hold(question: str, app: FastAPI) -> None:
    while "hold" in question and not app.state.go_on.is_set():
        await asyncio.sleep(0.01)


def delta(finish: str | None = None, **said: str) -> Mapping[str, Any]:
    return {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": said, "finish_reason": finish}]}


def usage(completion: int, reasoning: int, **extra: Any) -> Mapping[str, Any]:
    details = {
        "completion_tokens_details": {"reasoning_tokens": reasoning},
        "prompt_tokens_details": {"cached_tokens": 4},
    }
    more = {"tokens_per_second": 1370.0, "cost": 0.0000021, **extra}
    return {"choices": [], "usage": {"prompt_tokens": 11, "completion_tokens": completion, **details, "raison": more}}


async def single(asked: Mapping[str, Any], app: FastAPI) -> AsyncIterator[Any]:
    question = asked["messages"][-1]["content"]
    budget = asked.get("thinking_token_budget", EFFORTS.get(asked.get("reasoning_effort", ""), 10_000))
    thought = THOUGHT[:budget]
    yield delta(role="assistant")
    for number, piece in enumerate(thought):
        if number == len(THOUGHT) // 2 and "halfway" in question:
            await hold(question, app)
        yield delta(reasoning_content=piece)
    await hold(question, app)
    if "break" in question:
        yield {"error": {"message": "the engine has stopped"}}
        return
    answer = FORMULAS if "formulas" in question else f"You asked: {question}"
    for at in range(0, len(answer), 8):
        yield delta(content=answer[at : at + 8])
    yield delta(finish="stop")
    yield usage(len(thought) + 9, len(thought))
    yield "[DONE]"


async def vote(asked: Mapping[str, Any], app: FastAPI) -> AsyncIterator[Any]:
    """Five branches; four end, the fifth is stopped because the vote is decided."""
    for piece in THOUGHT[:24]:
        for branch in range(5):
            yield word("branch", branch=branch, reasoning_content=piece)
    for ended in range(4):
        answer = next(text for text, branches in VOTED if ended in branches)
        yield word("branch", branch=ended, content=answer)
        yield word("ended", branch=ended, answer=answer, tokens=30, finish="stop")
        yield word("tally", **tally(ended))
        if ended == 2:
            await hold(asked["messages"][-1]["content"], app)
    yield word("ended", branch=4, tokens=24, finish="cancelled")
    yield word("tally", **{**tally(3), "why": WHY})
    yield delta(reasoning_content="".join(THOUGHT[:24]))
    yield delta(content=VOTED[0][0])
    yield delta(finish="stop")
    yield usage(144, 120, branches=[{"branch": n, "tokens": 30 if n < 4 else 24} for n in range(5)])
    yield "[DONE]"


def word(event: str, **said: Any) -> Mapping[str, Any]:
    return {"choices": [], "raison": {"event": event, **said}}


def tally(newest: int) -> Mapping[str, Any]:
    heard = [(answer, [b for b in branches if b <= newest]) for answer, branches in VOTED]
    classes = [{"answer": answer, "weight": float(len(b)), "branches": b} for answer, b in heard if b]
    return {"classes": classes, "leader": 0, "why": ""}

"""Requests with a strategy: the bare engine's outcome, every token billed, told to those who watch."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from raison.engine.sequence import SamplingParams
from raison.serve.asking import thinking_limit
from raison.serve.job import too_late
from raison.text.chat import prompt_ids
from raison.think.drive import drive
from raison.think.engine_sampler import EngineSampler
from raison.think.parse import VOTES as ALL_VOTES
from raison.think.parse import Context, parse_strategy
from tests.engine.small import TOKENIZER
from tests.serve.serving import (
    CHAT,
    PATIENCE_SECONDS,
    QUESTION,
    Served,
    eventually,
    joined,
    serving,
    small_reasoner,
)
from tests.serve.test_jobs import SOME, hang_up, hold, left, rows, sampled

VOTES = (
    {"vote": "self-consistency", "max_samples": 5},
    {"vote": "auto", "max_samples": 6},
    {"vote": "adaptive", "max_samples": 6},
    {"vote": "beam", "paths": 4, "fan": 2, "step_tokens": 8, "max_steps": 8},
)


@pytest.mark.parametrize("strategy", VOTES, ids=lambda strategy: str(strategy["vote"]))
def test_a_vote_over_http_is_the_vote_on_a_bare_engine(strategy: dict[str, object], served: Served) -> None:
    ids = prompt_ids(TOKENIZER, QUESTION[0]["content"])
    params = SamplingParams(max_tokens=40, answer_tokens=40, thinking_budget=thinking_limit(40, None), seed=11)
    engine = small_reasoner().engine
    want = asyncio.run(drive(parse_strategy(strategy, Context(max_tokens=40)), EngineSampler(engine, ids, params)))
    body = served.ask(seed=11, max_tokens=40, strategy=strategy)
    assert want.completion is not None
    assert body["choices"][0]["message"]["content"] == (want.completion.answer or None)
    assert body["choices"][0]["message"]["reasoning_content"] == want.completion.thinking
    usage = body["usage"]
    assert usage["completion_tokens"] == sum(branch["tokens"] for branch in usage["raison"]["branches"])
    if strategy["vote"] == "self-consistency":  # others may end between different events
        assert usage["completion_tokens"] == want.tokens


@pytest.mark.parametrize("name", ALL_VOTES)
def test_what_is_held_for_a_vote_covers_all_that_it_draws(
    name: str, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[int] = []
    access = served.service.access
    reserve = access.reserve
    monkeypatch.setattr(access, "reserve", lambda caller, tokens: held.append(tokens) or reserve(caller, tokens))
    wish = {"vote": name, **({"checker": "countdown"} if ALL_VOTES[name].judged else {})}
    usage = served.ask(seed=11, max_tokens=40, ignore_eos=True, strategy=wish)["usage"]
    assert usage["total_tokens"] <= held[0]
    if name in ("self-consistency", "best-of-n", "weighted", "beam", "dvts"):
        assert usage["total_tokens"] == held[0], "these draw all they may where nothing ends by itself"


def test_a_watcher_sees_branches_and_the_tally_and_then_the_answer(served: Served) -> None:
    strategy = {"vote": "self-consistency", "max_samples": 4}
    whole = served.ask(seed=11, max_tokens=40, strategy=strategy)
    events = served.events(seed=11, max_tokens=40, strategy=strategy, stream_options={"include_usage": True})
    told = [event["raison"] for event in events if "raison" in event]
    assert all(event["choices"] == [] for event in events if "raison" in event)
    ended = {one["branch"]: one for one in told if one["event"] == "ended"}
    assert set(ended) == {0, 1, 2, 3}
    for number, end in ended.items():
        said = [one for one in told if one["event"] == "branch" and one["branch"] == number]
        assert "".join(one["content"] for one in said) == end["answer"]
    tally = [one for one in told if one["event"] == "tally"][-1]
    assert sorted(branch for each in tally["classes"] for branch in each["branches"]) <= [0, 1, 2, 3]
    message = whole["choices"][0]["message"]
    assert joined(events, "content") == (message["content"] or "")
    assert joined(events, "reasoning_content") == message["reasoning_content"]
    usage = events[-1]["usage"]
    assert usage["completion_tokens"] == whole["usage"]["completion_tokens"]
    assert {one["branch"]: one["tokens"] for one in usage["raison"]["branches"]} == {
        number: end["tokens"] for number, end in ended.items()
    }


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"strategy": {"vote": "autto"}}, "strategy.vote"),
        ({"strategy": {"vote": "auto", "max_samples": 65}}, "max_samples"),
        ({"strategy": {"vote": "auto", "max_samples": "many"}}, "max_samples"),
        ({"strategy": {"vote": "best-of-n"}}, "checker"),
        ({"strategy": {"vote": "auto"}, "n": 2}, "strategy"),
        ({"strategy": {"vote": "auto", "surprise": 1}}, "surprise"),
    ],
)
def test_a_strategy_that_makes_no_sense_is_a_mistake(fields: dict[str, object], says: str, served: Served) -> None:
    assert says in served.ask(**fields, expect=400)["error"]["message"]


def test_hanging_up_on_a_vote_ends_all_its_branches(tmp_path: Path) -> None:
    strategy = {"vote": "self-consistency", "max_samples": 16}
    with serving(tmp_path) as served:
        start = 0
        hold(served, lambda: sampled(served) < start + SOME or left(served))
        for stream in (True, False):
            hang_up(served, 1500 if stream else 0, lambda: sampled(served) > start, stream=stream, strategy=strategy)  # noqa: B023
            served.quiet()
            start = sampled(served)
        assert start < 2 * 16 * 900
        assert sum(row.completion_tokens for row in rows(served)) == start
        assert [row.finish for row in rows(served)] == ["cancelled"] * 2


@pytest.mark.parametrize("stream", [True, False])
def test_what_stands_in_the_way_of_the_first_branch_is_told_before_anything_is_sent(
    stream: bool, served: Served
) -> None:
    pytest.importorskip("llguidance")
    form = {"type": "json_schema", "json_schema": {"schema": {"type": "nonsense"}}}
    error = served.ask(expect=400, stream=stream, strategy=VOTES[0], response_format=form)["error"]
    assert "nonsense" in error["message"]


def on_loop(served: Served, work: Coroutine[Any, Any, None]) -> None:
    """Run it where the server runs, to its end."""
    asyncio.run_coroutine_threadsafe(work, served.service.engine._loop).result(PATIENCE_SECONDS)


def test_a_vote_that_is_cancelled_twice_is_billed_for_all_that_it_drew(tmp_path: Path) -> None:
    """As when the deadline comes, and then the client goes, while a long step is under way."""
    with serving(tmp_path) as served:
        goes_on = threading.Event()
        hold(served, lambda: goes_on.is_set() or sampled(served) < SOME)

        async def cancel() -> None:
            (job,) = served.service.jobs.values()
            for _ in range(2):
                job.cancel()
                for _ in range(20):
                    await asyncio.sleep(0)
            assert served.service.jobs, "the ends of its branches were not heard yet"

        with ThreadPoolExecutor(1) as pool:
            pool.submit(served.client.post, CHAT, json={"messages": QUESTION, "strategy": VOTES[0]})
            eventually(lambda: sampled(served) >= SOME)
            try:
                on_loop(served, cancel())
            finally:
                goes_on.set()
        served.quiet()
        assert [row.completion_tokens for row in rows(served)] == [sampled(served)]


def test_a_deadline_that_comes_while_a_vote_is_booked_is_too_late(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle = served.service.access.settle

    async def cancel() -> None:
        (job,) = served.service.jobs.values()
        job.cancel(too_late(1))

    def late(*booked: Any) -> None:
        on_loop(served, cancel())
        settle(*booked)

    monkeypatch.setattr(served.service.access, "settle", late)
    assert served.ask(max_tokens=20, strategy=VOTES[0])["choices"]


def test_a_votes_log_probabilities_are_streamed_as_whole(served: Served) -> None:
    fields: dict[str, Any] = {"seed": 11, "max_tokens": 40, "logprobs": True, "strategy": VOTES[0]}
    whole = served.ask(**fields)["choices"][0]["logprobs"]
    told = [c["logprobs"] for e in served.events(**fields) for c in e["choices"] if c["logprobs"]]
    for name in ("content", "reasoning_content"):
        assert whole[name] and [one for each in told for one in each[name]] == whole[name]
    search = served.ask(seed=11, max_tokens=40, logprobs=True, strategy=VOTES[3])["choices"][0]
    assert search["message"]["reasoning_content"] and search["logprobs"] == {"content": [], "reasoning_content": []}

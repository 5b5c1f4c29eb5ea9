"""The whole measurement against a server of which all is known. Counts are exact; a time is never below the truth.

How near above it a time comes depends on the machine: `raison bench endpoint --self-test` measures that.
"""

from __future__ import annotations

import asyncio
import csv
import json
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest

from raison.bench.endpoint.client import Client
from raison.bench.endpoint.counting import load_counter
from raison.bench.endpoint.known_server import KnownServer, Script
from raison.bench.endpoint.load import Load, drive
from raison.bench.endpoint.page import write_page
from raison.bench.endpoint.prompts import Form, read_prompts, synthetic
from raison.bench.endpoint.run import Input, Plan, run
from raison.bench.endpoint.summary import Cell, summarise
from raison.bench.endpoint.table import HEADER, write_csv
from raison.bench.endpoint.truth import errors, truth
from raison.errors import UserError
from raison.tasks.catalog import load_task

COUNTER = load_counter("")
THINKER = Script(first=0.02, gap=0.001, thinking=6, answer=5, each=3)


Found = tuple[list[Cell], KnownServer, bool]


async def _cells(script: Script, timeout: float, stop_after: int | None, **more: Any) -> Found:
    given: dict[str, Any] = {"inputs": [Input("90 in", 90)], "loads": [Load(parallel=2)], "requests": 4, "warm_up": 0}
    found: list[Cell] = []
    async with KnownServer({"m": script}) as server, Client(server.url, "key", timeout) as client:
        plan = Plan(form=Form("m", 64), counter=COUNTER, seed=1, **{**given, **more})
        task = asyncio.create_task(run(client, plan, found.append))
        while stop_after is not None and len(server.asked) < stop_after:
            await asyncio.sleep(0.01)
        if stop_after is not None:
            task.cancel()
        whole = await task
    return found, server, whole


def cells(script: Script, timeout: float = 60, stop_after: int | None = None, **more: Any) -> Found:
    return asyncio.run(_cells(script, timeout, stop_after, **more))


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning", "tags"])
def test_what_is_known_is_found(field: Any) -> None:
    script = Script(first=0.02, gap=0.001, thinking=6, answer=5, each=3, field=field)
    (cell,), _, whole = cells(script)
    assert whole and len(cell.rows) == 4
    for row in cell.rows:
        assert (row.outcome, row.finish, row.events) == ("whole", "stop", 11)
        assert (row.thinking_tokens, row.answer_tokens, row.served.completion_tokens) == (18, 15, 33)
        assert row.served.reasoning_tokens == 18 and row.late == 0
        assert row.ttft is not None and row.ttfat is not None and row.output_speed is not None
        assert row.ttft >= 0.02 and row.ttfat >= 0.026 and row.end_to_end >= 0.03
        assert row.ttft <= row.ttfat <= row.end_to_end
    result = summarise(cell, {}, None)
    assert result["usage"]["tokens_of_common"] == 1.0 and result["failed"] == {}
    assert errors(result, script)["answer_tokens"] == 0 and truth(script)["itl"] == pytest.approx(0.001 / 3)


@pytest.mark.parametrize(
    ("script", "outcome"),
    [(Script(status=429), "HTTP 429"), (Script(status=500), "HTTP 500"), (Script(cut=3), "hung up"),
     (Script(silent=True), "timeout"), (Script(answer=0), "no text")],
)  # fmt: skip
def test_failures_are_rows_too(script: Script, outcome: str) -> None:
    (cell,), server, whole = cells(script, timeout=0.2 if script.silent else 60)
    assert whole and [row.outcome for row in cell.rows] == [outcome] * 4
    assert len(server.asked) == 4, "nothing is asked twice"
    assert summarise(cell, {}, None)["failed"][outcome]["count"] == 4
    assert all(row.events == (3 if script.cut else 0) for row in cell.rows)


def test_a_server_without_usage_is_counted_by_us() -> None:
    (cell,), _, _ = cells(Script(thinking=2, answer=3, usage="none"))
    result = summarise(cell, {}, None)
    assert result["usage"]["answers"] == 0 and result["throughput"]["served_tokens_per_second"] is None
    assert result["metrics"]["answer_tokens"]["p50"]["value"] == 3


def test_no_two_prompts_are_alike_and_each_has_its_size() -> None:
    found, server, _ = cells(Script(), inputs=[Input("90", 90), Input("300", 300)], warm_up=2, requests=5)
    texts = [body["messages"][0]["content"] for body in server.asked]
    assert len(texts) == len(set(texts)) == 2 * (2 + 5)
    assert len({text[:40] for text in texts}) == len(texts), "no common beginning to keep in a cache"
    for cell, size in zip(found, (90, 300), strict=True):
        assert all(size - 2 <= row.prompt_tokens <= size for row in cell.rows)
    assert server.asked[0]["max_tokens"] == 8 and server.asked[-1]["max_tokens"] == 64
    assert server.asked[-1]["stream_options"] == {"include_usage": True}
    with pytest.raises(UserError, match="too short"):
        synthetic(COUNTER, 20, Random(0))


def test_fields_can_be_added_and_taken_away() -> None:
    body = json.loads(
        Form("m", 9, 0.5, True, {"stream_options": None, "top_k": 3}).body([{"role": "user", "content": "x"}])
    )
    assert body == {
        "model": "m", "messages": [{"role": "user", "content": "x"}], "max_tokens": 9, "stream": True,
        "temperature": 0.5,
        "ignore_eos": True, "min_tokens": 9, "top_k": 3,
    }  # fmt: skip


def test_a_stop_keeps_what_was_measured() -> None:
    (cell,), _, whole = cells(Script(gap=3600.0, answer=3), stop_after=2, requests=8)
    assert not whole and {row.outcome for row in cell.rows} == {"stopped"} and len(cell.rows) == 2
    result = summarise(cell, {}, None)
    assert (result["requests"], result["stopped"], result["failed"]) == (0, 2, {})


def test_a_server_that_refuses_everything_is_a_mistake_and_one_that_is_busy_is_a_result() -> None:
    with pytest.raises(UserError, match=r"HTTP 404.*as the script says"):
        cells(Script(status=404), warm_up=1)
    found, _, _ = cells(Script(status=429), warm_up=1)
    assert len(found) == 1


def test_an_open_loop_waits_for_nobody_and_a_closed_one_for_each() -> None:
    async def most_at_once(load: Load, meet: int) -> int:
        """Each request ends when `meet` of them have been under way at once."""
        running, most, met = 0, 0, asyncio.Event()

        async def send(number: int, due: float | None) -> None:
            nonlocal running, most
            running += 1
            most = max(most, running)
            if most == meet:
                met.set()
            await met.wait()
            running -= 1

        await asyncio.wait_for(drive(load, 12, send, seed=0), timeout=60)
        return most

    assert asyncio.run(most_at_once(Load(rate=1000), meet=12)) == 12
    assert asyncio.run(most_at_once(Load(parallel=3), meet=3)) == 3


def test_an_open_loop_is_late_by_the_clock_and_not_by_the_answer() -> None:
    (cell,), _, _ = cells(Script(first=0.05), loads=[Load(rate=1000, arrivals="constant")], requests=5)
    due = [row.scheduled for row in cell.rows]
    assert [after - due[0] for after in due] == pytest.approx([0.0, 0.001, 0.002, 0.003, 0.004])
    assert all(row.late >= 0 and (row.ttft or 0) >= row.late + 0.05 for row in cell.rows)


def test_arrivals_follow_their_rate() -> None:
    assert Load(rate=4, arrivals="constant").times(3, 0) == [0.0, 0.25, 0.5]
    times = Load(rate=4).times(10_001, seed=3)
    assert times == Load(rate=4).times(10_001, seed=3) != Load(rate=4).times(10_001, seed=4) and times[0] == 0
    gaps = [after - before for before, after in pairwise(times)]
    mean = sum(gaps) / len(gaps)  # the numbers are fixed by the seed
    assert mean == pytest.approx(0.25, rel=0.03) and sum(g > mean for g in gaps) / len(gaps) == pytest.approx(
        0.368, abs=0.02
    )


def test_a_task_is_checked_and_a_file_is_asked_in_order(tmp_path: Path) -> None:
    task = load_task("countdown", held_out=True)
    (cell,), server, _ = cells(Script(), inputs=[Input("countdown", task=task, level=3)])
    assert [row.correct for row in cell.rows] == [False] * 4 and summarise(cell, {}, None)["accuracy"]["count"] == 4
    assert len({body["messages"][0]["content"] for body in server.asked}) == 4

    file = tmp_path / "prompts.jsonl"
    file.write_text(
        '{"prompt": "one"}\n\n{"messages": [{"role": "system", "content": "be"}, {"role": "user", "content": "two"}]}\n'
    )
    given = Input("file", conversations=read_prompts(file))
    (cell,), server, _ = cells(Script(), inputs=[given], loads=[Load(parallel=1)])
    assert [body["messages"][-1]["content"] for body in server.asked] == ["one", "two", "one", "two"]
    assert not cell.unique and [row.prompt_tokens for row in cell.rows] == [3, 5, 3, 5]
    file.write_text('{"question": 3}\n')
    with pytest.raises(UserError, match="line 1"):
        read_prompts(file)


def test_rows_and_page_are_written(tmp_path: Path) -> None:
    found, _, _ = cells(THINKER, loads=[Load(parallel=2), Load(rate=500)])
    write_csv(tmp_path / "rows.csv", found, None)
    header, *lines = csv.reader((tmp_path / "rows.csv").open())
    assert tuple(header) == HEADER and len(lines) == 8
    assert {line[header.index("answer_tokens")] for line in lines} == {"15"}
    result = {
        "model": "<script>m", "endpoint": "http://x/v1", "when": "now", "seed": 1, "tokenizer": {"name": "shipped"},
        "notes": [], "cells": [summarise(cell, {"ttft": 1.0}, None) for cell in found],
    }  # fmt: skip
    write_page(tmp_path / "page.html", result, found)
    page = (tmp_path / "page.html").read_text()
    assert "<script>m" not in page and page.count("<svg") == 2 and "http://x/v1" in page and "src=" not in page

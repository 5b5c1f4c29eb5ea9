"""What many requests say together: percentiles, intervals, goodput, money, and the server's word against ours."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from raison.bench.endpoint.figures import distribution, meets, token_gaps
from raison.bench.endpoint.load import Load
from raison.bench.endpoint.money import bill, blended
from raison.bench.endpoint.records import Measured, Served
from raison.bench.endpoint.server_side import checks, disagreements, samples
from raison.bench.endpoint.summary import Cell, summarise
from raison.bench.endpoint.watch import ClientLoad
from raison.bench.endpoint.words import cell_words
from raison.serve.prices import Price
from raison.think.measure import wilson

QUIET = ClientLoad(0.0005, 0.001, 0.002, 0.1)
USAGE = Served(100, 0, 10, 4)
PRICE = Price(prompt=1.0, completion=4.0)


def row(outcome: str = "whole", served: Served = USAGE, **more: Any) -> Measured:
    figures: dict[str, Any] = {
        "detail": "", "scheduled": 0.0, "late": 0.0, "prompt_tokens": 90, "thinking_tokens": 3, "answer_tokens": 5,
        "events": 8, "finish": "stop", "end_to_end": 1.0, "ttft": 0.25, "ttfat": 0.5, "output_speed": 10.0, "itl": 0.1,
    }  # fmt: skip
    return Measured(outcome=outcome, served=served, **{**figures, **more})


def cell(rows: list[Measured], **more: Any) -> dict[str, Any]:
    limits, price = more.pop("limits", {}), more.pop("price", None)
    given = {"before": {}, "after": {}, "unique": True, "client": QUIET, "seconds": 4.0, **more}
    return summarise(Cell("1,000 tokens in", Load(parallel=2), tuple(rows), **given), limits, price)


def test_percentiles_are_numpys_and_intervals_are_the_bootstraps() -> None:
    values = np.random.default_rng(1).normal(5.0, 2.0, 2000)
    found = distribution([*values, None])
    assert found is not None and found["count"] == 2000 and found["mean"] == pytest.approx(values.mean())
    for percentile in (5, 25, 50, 75, 95):
        one = found[f"p{percentile}"]
        assert (
            one["value"] == pytest.approx(np.percentile(values, percentile))
            and one["low"] <= one["value"] <= one["high"]
        )
    # The median of a normal sample has the standard error sigma * sqrt(pi / 2n); numbers are fixed, so nothing is left
    # to chance.
    width = 2 * 1.96 * 2.0 * math.sqrt(math.pi / 2 / 2000)
    assert found["p50"]["high"] - found["p50"]["low"] == pytest.approx(width, rel=0.2)
    assert distribution([None]) is None
    alone = distribution([3.0])
    assert alone is not None and alone["p95"] == {"value": 3.0, "low": 3.0, "high": 3.0}


def test_gaps_count_by_token() -> None:
    found = token_gaps([row(gaps=((1.0, 1), (3.0, 3))), row("timeout", gaps=((100.0, 1),)), row(gaps=((9.0, 1),))])
    assert (
        found is not None and found["p50"] == 1.0 and found["p99"] == pytest.approx(np.percentile([1, 1, 1, 1, 9], 99))
    )
    assert token_gaps([row()]) is None


def test_goodput_wants_every_limit_and_a_whole_answer() -> None:
    limits = {"ttft": 0.25, "itl": 0.1, "e2e": 1.0}
    assert meets(row(), limits) and not meets(row("timeout"), limits)
    assert not meets(row(ttft=0.26), limits) and not meets(row(end_to_end=1.01), limits)
    assert meets(row(itl=None), limits), "one piece has no time between tokens"
    assert not meets(row(ttfat=None), {"ttfat": 9.0}), "no answer is never in time"
    good = cell([row(), row(ttft=0.3), row("HTTP 429")], limits=limits)["goodput"]
    assert good["share"]["value"] == pytest.approx(1 / 3) and good["requests_per_second"] == 0.25


def test_the_bill_takes_the_servers_counts_and_else_ours() -> None:
    assert blended(PRICE) == 1.75
    rows = [row(correct=True), row(served=Served(), correct=False), row("HTTP 500", events=0, correct=False)]
    accuracy = wilson(1, 3)
    found = bill(rows, PRICE, accuracy)
    assert found["total"] == pytest.approx((100 + 4 * 10 + 90 + 4 * 8) * 1e-6)
    assert (found["counted_by_server"], found["counted_here"]) == (1, 1)
    assert found["per_correct"]["value"] == pytest.approx(found["total"])
    assert found["per_correct"]["low"] == pytest.approx(found["total"] / (3 * accuracy.high))
    none = bill(rows[1:], PRICE, wilson(0, 2))["per_correct"]
    assert none["value"] is None and none["high"] is None and none["low"] > 0


def test_failures_are_counted_by_name_and_what_was_stopped_is_neither() -> None:
    rows = [
        row(correct=True), row("HTTP 429", detail="slow down", correct=False),
        row("HTTP 429", detail="again", correct=False),
        row("timeout", correct=False), row("stopped"),
    ]  # fmt: skip
    found = cell(rows, price=PRICE)
    assert (found["requests"], found["whole"], found["stopped"]) == (4, 1, 1)
    assert (
        found["failed"]["HTTP 429"] == {"count": 2, "first": "slow down"} and found["failed"]["timeout"]["count"] == 1
    )
    assert found["accuracy"]["value"] == 0.25 and found["metrics"]["ttft"]["count"] == 1
    assert found["throughput"]["output_tokens_per_second"] == 2.0 and found["throughput"]["requests_per_second"] == 0.25
    said = "\n".join(cell_words(found))
    assert (
        "1 of 4 requests whole, 1 stopped" in said
        and "2 HTTP 429 (slow down)" in said
        and "3 of 4 requests failed" in said
    )


def exposition(name: str, count: int, seconds: float, tokens: int) -> str:
    first = f"{name}:time_to_first_token_seconds"
    return (
        f'# TYPE {first} histogram\n{first}_bucket{{le="+Inf"}} {count}\n'
        f"{first}_count {count}\n{first}_sum {seconds}\n"
        f'# TYPE {name}:generation_tokens counter\n{name}:generation_tokens_total{{model_name="m"}} {tokens}\n'
        f'{name}:generation_tokens_total{{model_name="n"}} 1\n'
    )


@pytest.mark.parametrize("name", ["vllm", "raison"])
def test_the_servers_counters_are_held_against_what_was_seen(name: str) -> None:
    before, after = samples(exposition(name, 5, 3.0, 100)), samples(exposition(name, 7, 3.5, 120))
    found = checks(before, after, [row(), row(ttft=0.35, late=0.1)])
    assert [(check.what, check.server, check.client, check.agrees) for check in found] == [
        ("tokens drawn", 20.0, 20.0, True), ("mean time to first token", 0.25, 0.25, True),
    ]  # fmt: skip
    found = checks(before, after, [row(ttft=0.5), row(ttft=0.5, served=Served(100, 0, 12, 4))])
    said = " ".join(disagreements(found, [], unique=True))
    assert "counts 20 tokens drawn, its usage 22" in said and "250.0 ms of the mean time to first token" in said
    assert checks(before, after, [row(), row("cut off"), row(served=Served()), row()]) == [], (
        "what is not known is not compared"
    )


def test_llama_cpps_names_are_known_and_other_texts_are_no_metrics() -> None:
    after = samples("# TYPE llamacpp:tokens_predicted_total counter\nllamacpp:tokens_predicted_total 10\n")
    assert [check.what for check in checks({}, after, [row()])] == ["tokens drawn"]
    assert samples("<html>no</html>") == {} and samples("") == {}


def test_usage_that_cannot_be_is_named() -> None:
    rows = [
        row(events=11), row(thinking_tokens=0), row(served=Served(100, 0, 10, 0)), row(served=Served(1000, 300, 10, 4)),
    ]  # fmt: skip
    said = disagreements([], rows, unique=True)
    assert len(said) == 4
    for part, words in zip(("fewer tokens", "out of sight", "counts none", "from a cache"), said, strict=True):
        assert part in words
    assert len(disagreements([], rows, unique=False)) == 3, "prompts that are alike may be cached"


def test_what_is_to_be_doubted_is_said() -> None:
    found = cell([row(), row(answer_tokens=0), row(output_speed=None)])["warnings"]
    for part, words in zip(("3 whole", "raise --output", "at one moment"), found, strict=True):
        assert part in words
    assert cell([row()] * 20)["warnings"] == []


def test_a_busy_client_is_named() -> None:
    assert QUIET.warnings() == []
    late, busy = ClientLoad(0.001, 0.02, 0.1, 0.9).warnings()
    assert "20.0 ms late" in late and "90%" in busy

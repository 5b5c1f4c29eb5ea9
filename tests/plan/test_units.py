"""Units of published serving figures: each spelling is the same figure."""

from __future__ import annotations

import pytest

from raison.plan import training_rows
from raison.plan.asked import asked_of
from raison.plan.rows import Row, row_of
from raison.plan.serving_rows import predict


def _row(metric: str, unit: str, **values: str) -> Row:
    known = {"model": "Llama-3.1-70B", "hardware": "H100", "chips": "8", "precision": "fp8", "value": "1",
             "workload": "vllm ISL/OSL 1024/1024 conc 64"}  # fmt: skip
    return row_of({**known, "metric": metric, "unit": unit, **values})


def _mid(metric: str, unit: str) -> float:
    found = predict(_row(metric, unit))
    assert found is not None
    return found.value.mid


@pytest.mark.parametrize(
    ("metric", "unit", "a_second"),
    [
        ("tpot", "", 1e3), ("tpot", "ms/token", 1e3), ("tpot", "msec", 1e3), ("tpot", "milliseconds", 1e3),
        ("tpot_ms", "", 1e3), ("tpot", "s", 1.0), ("tpot", "sec", 1.0), ("tpot_s", "", 1.0), ("tpot", "us", 1e6),
        ("tpot", "\N{MICRO SIGN}s", 1e6), ("tpot", "\N{GREEK SMALL LETTER MU}s", 1e6), ("latency_per_token", "ms", 1e3),
    ],
)  # fmt: skip
def test_a_time_is_in_its_own_unit(metric: str, unit: str, a_second: float) -> None:
    assert _mid(metric, unit) == pytest.approx(_mid("tpot", "seconds") * a_second)


@pytest.mark.parametrize(
    ("unit", "factor"),
    [("tokens/min", 60), ("tok/h", 3600), ("tok/day", 86400), ("ktok/s", 1e-3), ("M tokens per day", 0.0864),
     ("tok/s per node", 1), ("tok/s", 1), ("", 1)],
)  # fmt: skip
def test_a_rate_is_in_its_own_unit(unit: str, factor: float) -> None:
    assert _mid("throughput", unit) == pytest.approx(_mid("output_tok_s", "tok/s") * factor)


@pytest.mark.parametrize(
    ("metric", "unit", "asked"),
    [
        ("total_token_throughput", "tok/s", "total"), ("Output token throughput (tok/s)", "", "output"),
        ("throughput", "requests/s", "requests"), ("request_latency", "s", "request"),
        ("interactivity", "tok/s/user", "user"), ("cost per million output tokens", "USD", "cost_output"),
        ("cost_per_1m_tokens", "USD", "cost_total"),
    ],
)  # fmt: skip
def test_names_of_other_programs_are_known(metric: str, unit: str, asked: str) -> None:
    found = asked_of(_row(metric, unit))
    assert found is not None and found.metric == asked


@pytest.mark.parametrize("metric", ["cost_per_month", "cost_per_Mtok_in", "cost_per_million_input_tokens", "TPOT MAPE"])
def test_what_no_formula_speaks_of_is_out_of_scope(metric: str) -> None:
    assert asked_of(_row(metric, "")) is None


def test_the_name_of_a_row_decides_nothing() -> None:
    assert predict(_row("tpot_ms", "ms", id="k-1")) == predict(_row("tpot_ms", "ms", id="ix-1"))


@pytest.mark.parametrize("number", ["0", "-5", "1e999", "unknown"])
def test_a_number_that_cannot_be_is_none(number: str) -> None:
    row = _row("tpot_ms", "ms", value=number, chips=number, params_total=number)
    assert row.value is None and row.chips is None and row.params_total is None


def test_no_more_than_all_of_a_prompt_is_cached() -> None:
    assert _row("tpot_ms", "ms", workload="ISL/OSL 1k/1k, 150% cache hits").workload.hit_share == 1


@pytest.mark.parametrize(
    ("metric", "unit", "same", "factor"),
    [
        ("step_time", "milliseconds", ("step_time", "s"), 1e3), ("step_time_ms", "", ("step_time", ""), 1e3),
        ("train_flops", "zettaFLOPs", ("train_flops", "FLOP"), 1e-21),
        ("train_flops", "petaFLOP/s-days", ("train_flops", "PF-days"), 1),
        ("tok_s_per_gpu", "ktok/s/GPU", ("tok_s_per_gpu", "tok/s/GPU"), 1e-3),
        ("weights_size", "gigabytes", ("weights_size", "B"), 1e-9),
    ],
)  # fmt: skip
def test_training_is_in_its_own_unit(metric: str, unit: str, same: tuple[str, str], factor: float) -> None:
    def mid(metric: str, unit: str) -> float:
        found = training_rows.predict(_row(metric, unit, workload="pre-training seq8192 gbs 64 15T tokens"))
        assert found is not None
        return found.value.mid

    assert mid(metric, unit) == pytest.approx(mid(*same) * factor)


def test_guesses_of_which_none_is_accepted_gain_nothing() -> None:
    row = _row("tpot_ms", "ms", workload="vllm MTP 0% accepted ISL/OSL 1k/1k conc 8")
    found = predict(row)
    assert found is not None and "1 tokens a step by guessing ahead" in found.assumptions


def test_a_promise_that_nothing_keeps_is_said_to_be_one() -> None:
    found = predict(_row("output_tok_s_per_gpu", "tok/s/GPU", workload="ISL/OSL 1k/1k at 1e6 tok/s/user"))
    assert found is not None and any(said.startswith("one stream: no number") for said in found.assumptions)

"""A step's time against arithmetic done by hand, and what must hold whatever the constants are."""

from __future__ import annotations

from dataclasses import replace

import pytest

from raison.errors import UserError
from raison.plan.batching import Load, closed_loop
from raison.plan.chips import Chip, find_chip
from raison.plan.models import find_model
from raison.plan.precision import WIDTHS
from raison.plan.roofline import (
    ROWS,
    cache_bytes,
    prefill_time,
    riding_time,
    step_time,
    weight_bytes_read,
)
from raison.plan.serving import Case, figures, memory_of
from raison.plan.setup import Constants, Layout, Setup  # fmt: skip

IDEAL = Constants(memory=1, decode=1, prefill=1, layer_us=0, hop_us=0, link=1, first_ms=0, queue=0, spread=1)


def _setup(model: str, chip: str, layout: Layout, width: str = "bf16", constants: Constants = IDEAL) -> Setup:
    return Setup(find_model(model), find_chip(chip), WIDTHS[width], layout, constants)


def test_one_stream_of_a_dense_model_reads_every_weight_once() -> None:
    setup = _setup("llama-3.1-8b", "H100", Layout())
    step = step_time(setup, 1, 0)
    weights = 2 * (8_030_261_248 - 128_256 * 4096)  # all but the table that is looked up
    assert weight_bytes_read(setup, 1) == pytest.approx(weights)
    assert step.memory == pytest.approx(weights / 3350e9)
    assert step.bound == "memory"


def test_a_batch_touches_as_many_experts_as_independent_draws_do() -> None:
    shape = find_model("r1-671b")
    assert shape.touched(1) == pytest.approx(8 / 256)
    assert shape.touched(16) == pytest.approx(1 - (1 - 8 / 256) ** 16)
    assert 0.39 < shape.touched(16) < 0.41, "40 % at 16 (DeepSeek's 256 experts, 8 of them a token)"


def test_tensor_parallelism_shares_out_heads_and_not_a_latent() -> None:
    llama, r1 = (_setup(name, "H200", Layout(tp=8)) for name in ("llama-3.1-70b", "r1-671b"))
    alone = _setup("llama-3.1-70b", "H200", Layout())
    assert cache_bytes(llama, 1, 1000) == cache_bytes(alone, 1, 1000) / 8
    assert cache_bytes(r1, 1, 1000) == 1000 * 70_272
    ranks = replace(r1, layout=Layout(dp=8))
    assert cache_bytes(ranks, 8, 1000) == 1000 * 70_272, "each rank of attention has its own sequences"


def test_all_reduce_is_a_ring_of_the_hidden_state() -> None:
    setup = _setup("llama-3.1-70b", "H100", Layout(tp=8))
    sent = 80 * 2 * (2 * 7 / 8) * 4 * 8192 * 2
    assert step_time(setup, 4, 0).communication == pytest.approx(sent / 450e9)


def test_a_prompt_costs_two_flops_a_weight_and_causal_attention() -> None:
    setup = _setup("llama-3.1-8b", "H100", Layout())
    shape = setup.shape
    flops = 1000 * (2 * shape.active + 500 * 32 * 4 * 4096)
    assert prefill_time(setup, 1000).arithmetic == pytest.approx(flops / 989e12)
    assert prefill_time(setup, 1000, known=1.0).total == 0


@pytest.mark.parametrize("model", ["llama-3.1-70b", "r1-671b", "gpt-oss-120b"])
@pytest.mark.parametrize("layout", [Layout(tp=8), Layout(tp=4, pp=2), Layout(dp=8)])
def test_more_of_anything_is_never_faster(model: str, layout: Layout) -> None:
    setup = _setup(model, "H200", layout, "fp8", Constants())
    times = [step_time(setup, batch, 2000).total for batch in (1, 2, 8, 64, 256)]
    assert times == sorted(times)
    longer = [step_time(setup, 8, context).total for context in (0, 100, 10_000)]
    assert longer == sorted(longer)


def test_streams_beyond_the_cache_wait_and_say_so() -> None:
    setup = _setup("llama-3.1-8b", "H100", Layout())
    load = Load(1024, 1024, 32)
    roomy, tight = closed_loop(setup, load, 64), closed_loop(setup, load, 16)
    assert not roomy.waiting and tight.waiting
    assert tight.ttft > 10 * roomy.ttft and tight.batch == 16


def test_memory_counts_weights_cache_and_what_is_left() -> None:
    case = Case(find_model("llama-3.1-70b"), find_chip("H100"), WIDTHS["fp8"], Layout(tp=1), Load(1024, 1024, 1))
    assert memory_of(case).room < 1, "70 GB of weights leave no room on 80 GB"
    shared = memory_of(replace(case, layout=Layout(tp=2)))
    assert shared.room > 50
    assert shared.weights * 2 == pytest.approx(WIDTHS["fp8"].bytes_of(case.shape))


def test_disaggregation_adds_the_chips_that_prompts_need() -> None:
    case = Case(find_model("r1-671b"), find_chip("H200"), WIDTHS["fp8"], Layout(dp=16), Load(4096, 512, 512))
    together, apart = figures(case, Constants()), figures(replace(case, disaggregated=True), Constants())
    assert apart.chips > 16 and apart.speed.tpot < together.speed.tpot


def test_a_chip_without_peaks_still_gets_a_time() -> None:
    bare = Chip("bare", "cpu", (), {}, None, 50.0)
    setup = Setup(find_model("llama-3.1-8b"), bare, WIDTHS["q4_k_m"], Layout(), IDEAL)
    assert 0.05 < step_time(setup, 1, 0).total < 0.2


def test_what_passes_between_products_is_written_and_read_once() -> None:
    setup = _setup("llama-3.1-8b", "H100", Layout())
    a_layer = (4096 + 2 * 1024) + 4096 + 3 * 14336  # q, k, v and what o reads; gate, up and what down reads
    numbers = 32 * (a_layer + 4 * 4096)
    assert step_time(setup, 3, 0).activations == pytest.approx(3 * numbers * 2 * 2 / 3350e9)
    assert prefill_time(setup, 1000).activations == pytest.approx(1000 * numbers * 2 * 2 / 3350e9)
    assert step_time(_setup("llama-3.1-8b", "EPYC 9004", Layout()), 3, 0).activations == 0, "they stay in caches"


def test_each_expert_takes_a_copy_of_a_token_and_gives_a_row_back() -> None:
    small, dense = find_model("qwen3-30b-a3b"), find_model("qwen3-4b")
    assert small.passed_shared > 48 * 2 * 8 * 2048
    assert small.passed_shared / small.active > 2 * dense.passed_shared / dense.active
    alone, ranks = (_setup("qwen3-30b-a3b", "H200", layout) for layout in (Layout(), Layout(dp=8)))
    assert prefill_time(ranks, 1000).activations == pytest.approx(prefill_time(alone, 1000).activations / 8)


def test_the_host_works_for_each_sequence_of_a_rank() -> None:
    constants = replace(IDEAL, host_us=10.0)
    alone, ranks = (_setup("r1-671b", "H200", layout, constants=constants) for layout in (Layout(tp=8), Layout(dp=8)))
    assert step_time(alone, 64, 0).fixed == pytest.approx(64 * 10e-6)
    assert step_time(ranks, 64, 0).fixed == pytest.approx(8 * 10e-6), "ranks of attention schedule on their own"
    assert prefill_time(alone, 1000).fixed == 0


def test_layers_with_a_window_hold_and_compute_no_more_than_it() -> None:
    shape = find_model("llama-4-maverick")  # 12 of 48 layers see everything, 36 the last 8,192 tokens
    a_layer = 2 * 8 * 128
    assert shape.cache_of(8192) == 48 * a_layer * 8192
    assert shape.cache_of(100_000) == 12 * a_layer * 100_000 + 36 * a_layer * 8192
    assert shape.decode_attention(100) == 48 * 4 * 40 * 128 * 100
    within, beyond = shape.prompt_attention(8192, 0.0), shape.prompt_attention(32_768, 0.0)
    assert within == 48 * 4 * 40 * 128 * 8192 / 2
    seen = sum(min(place, 8192) for place in range(32_768)) / 32_768
    assert beyond == pytest.approx(4 * 40 * 128 * (12 * 32_768 / 2 + 36 * seen), rel=1e-3)


def test_prompts_that_ride_along_read_no_weight_again() -> None:
    dense, experts = (_setup(name, "H200", Layout(tp=8), "fp8") for name in ("llama-3.1-70b", "r1-671b"))
    assert riding_time(dense, 1000, 0.0, 0.5, 8).memory == 0
    assert riding_time(dense, 1000, 0.0, 0.5, 8).arithmetic == prefill_time(dense, 1000).arithmetic / 2
    ridden = riding_time(experts, 1000, 0.0, 1.0, 8).memory
    assert 0 < ridden < prefill_time(experts, 1000).memory
    assert ridden == pytest.approx(
        (weight_bytes_read(experts, 1008) - weight_bytes_read(experts, 8)) / experts.bandwidth
    )


def test_steps_of_many_rows_come_near_a_prompt_s_share_of_the_peak() -> None:
    constants = replace(IDEAL, decode=0.25, prefill=1.0)
    setup = _setup("llama-3.1-8b", "H100", Layout(), constants=constants)
    perfect = _setup("llama-3.1-8b", "H100", Layout())
    shares = [step_time(perfect, rows, 0).arithmetic / step_time(setup, rows, 0).arithmetic for rows in (1, ROWS, 1e6)]
    assert shares[0] == pytest.approx(0.25, abs=0.01) and shares[1] == pytest.approx(0.625) and shares[2] > 0.99


def test_narrow_products_gain_what_software_has_of_them() -> None:
    wide, narrow = ("bf16", "fp8")
    for power, gain in ((1.0, 1979 / 989), (0.0, 1.0), (0.5, (1979 / 989) ** 0.5)):
        setup = _setup("llama-3.1-8b", "H100", Layout(), constants=replace(IDEAL, narrow=power))
        assert setup.peak(narrow) / setup.peak(wide) == pytest.approx(gain)


def test_a_chip_without_a_bandwidth_is_refused() -> None:
    bare = Chip("bare", "gpu", (), {"bf16": 100.0}, 80.0, None)
    with pytest.raises(UserError, match="no bandwidth is known of bare"):
        step_time(Setup(find_model("llama-3.1-8b"), bare, WIDTHS["bf16"], Layout(), IDEAL), 1, 0)

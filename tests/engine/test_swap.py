"""What preempted sequences had computed: kept outside the cache, found again, and its room given back."""

from __future__ import annotations

from typing import Literal

import pytest

from raison.engine.engine import Engine
from raison.engine.line import CacheDtype
from raison.engine.swap import SwapRoom
from tests.engine.small import SPEC, ids, make_engine, params, prompt

LENGTHS = (4, 5, 9, 16, 17, 23, 31, 40)
TIGHT = {"cache_tokens": 128, "prefill_chunk": 16}


def room_of(engine: Engine) -> SwapRoom:
    return engine._scheduler.room


@pytest.mark.parametrize("kernels", ["auto", "torch"])
@pytest.mark.parametrize("room", [12, 40, 4096])
def test_swapping_changes_no_token_and_saves_work(kernels: str, room: int) -> None:
    prompts = [prompt(n, n) for n in LENGTHS]
    each = [params(i) for i in range(len(prompts))]
    swapping = make_engine(**TIGHT, swap_tokens=room, kernels=kernels)
    again, wide = make_engine(**TIGHT, kernels=kernels), make_engine(kernels=kernels)
    found = [ids(engine.generate(prompts, each, n=3)) for engine in (swapping, again, wide)]
    assert found[0] == found[1] == found[2]
    stats, without = swapping.stats, again.stats
    assert stats.preemptions > 3 and 0 < stats.tokens_restored <= stats.tokens_swapped
    assert without.tokens_swapped == without.tokens_restored == 0
    assert room_of(swapping).available == room_of(swapping).total == room // 4
    assert stats.pages_free == stats.pages_total


def test_with_room_for_all_a_sequence_alone_computes_nothing_twice() -> None:
    """Two sequences that do not fit together: the younger goes on where it was."""
    engine = make_engine(cache_tokens=64, swap_tokens=64)
    engine.generate([prompt(20, 1), prompt(20, 2)], params(0, max_tokens=40))
    assert engine.stats.preemptions > 0
    assert engine.stats.tokens_restored == engine.stats.tokens_swapped > 20


def test_a_shared_prompt_is_not_copied() -> None:
    """Its full pages stay with the samples that go on."""
    engine = make_engine(cache_tokens=96, swap_tokens=400)
    engine.generate([prompt(40, 1)], params(0, max_tokens=30), n=4)
    stats = engine.stats
    assert stats.preemptions > 0
    assert 0 < stats.tokens_swapped < stats.preemptions * 40


def test_who_is_cancelled_while_waiting_gives_the_room_back() -> None:
    engine = make_engine(cache_tokens=64, swap_tokens=64)
    first, second = (engine.submit(prompt(20, i), params(0, max_tokens=40))[0] for i in (1, 2))
    while not engine.stats.tokens_swapped:
        engine.step()
    assert room_of(engine).available < room_of(engine).total
    engine.cancel(second)
    assert room_of(engine).available == room_of(engine).total
    engine.cancel(first)
    assert engine.stats.pages_free == engine.stats.pages_total


@pytest.mark.parametrize(
    "width",
    [("fp32", "fp32", 4), ("q8", "auto", 2), ("fp32", "fp16", 2), ("bf16", "auto", 2), ("q8", "q8", 1 + 4 / 24)],
    ids=str,
)
def test_memory_is_what_was_planned(width: tuple[Literal["fp32", "q8", "bf16"], CacheDtype, float]) -> None:
    """Pages, one that nobody holds, and the swap room; a full cache takes no more."""
    dtype, cache, size = width
    engine = make_engine(cache_tokens=128, swap_tokens=80, dtype=dtype, cache_dtype=cache)
    planned = (128 + 4 + 80) * SPEC.cache_width * SPEC.num_hidden_layers * size
    held = engine._runner.cache
    numbers = held.latents_ZGPM.data_ptr(), held._swapped_ZGPM.data_ptr()
    assert engine.cache_bytes == planned
    engine.generate([prompt(n, n) for n in LENGTHS], params(1))
    assert engine.stats.preemptions > 0
    assert engine.cache_bytes == held.nbytes == planned
    assert numbers == (held.latents_ZGPM.data_ptr(), held._swapped_ZGPM.data_ptr())

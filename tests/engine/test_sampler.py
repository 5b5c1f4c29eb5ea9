"""The sampler: the right distribution, reproducible, filters against a plain reference."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from raison.engine.sampler import Places, filtered, look_up, sample, uniforms
from raison.engine.sequence import SamplingParams, Sequence, mix, sample_seed
from raison.engine.slots import Slots
from raison.errors import UserError


def seated(count: int, params: SamplingParams) -> Slots:
    slots = Slots(count, 8, 2, think_close=None, stops=[-2])
    for i in range(count):
        seed = sample_seed(params.seed, i)
        slots.load(i, Sequence(i, [1], params, seed, 0, False, False, None, False, 0.0))
    return slots


def sampled(logits: torch.Tensor, slots: Slots) -> tuple[np.ndarray, np.ndarray]:
    """Row i of the slots draws from row i of the logits."""
    rows = np.arange(len(logits))
    return sample(logits.contiguous(), rows, logits.shape[1], slots, Places(rows, np.zeros(len(rows), np.int64)))


def draws(logits: torch.Tensor, count: int, params: SamplingParams) -> np.ndarray:
    tokens, _ = sampled(logits.expand(count, -1), seated(count, params))
    return np.bincount(tokens, minlength=len(logits))


def chi_square(counts: np.ndarray, probs: np.ndarray) -> float:
    expected = probs * counts.sum()
    return float((((counts - expected) ** 2)[probs > 0] / expected[probs > 0]).sum())


@pytest.mark.parametrize("temperature", [1.0, 0.5, 2.0])
def test_distribution(temperature: float) -> None:
    """Chi-square, 19 degrees of freedom, 40,000 draws: beyond 50.8 with a chance of 1e-4 (the seeds are fixed)."""
    logits = torch.randn(20, generator=torch.Generator().manual_seed(1))
    counts = draws(logits, 40_000, SamplingParams(temperature=temperature, seed=5))
    assert chi_square(counts, (logits.double() / temperature).softmax(-1).numpy()) < 50.8


def test_one_seed_gives_even_noise_over_its_tokens() -> None:
    """Chi-square over 100 bins, 99 degrees of freedom: beyond 161 with a chance of 1e-4."""
    noise = uniforms(np.full(50_000, mix(3), np.uint64), np.arange(50_000))
    counts = np.bincount((noise * 100).astype(int), minlength=100)
    assert chi_square(counts, np.full(100, 0.01)) < 161
    assert abs(np.corrcoef(noise[:-1], noise[1:])[0, 1]) < 0.02  # 4.4 standard errors


def test_neighbouring_seeds_are_unrelated() -> None:
    """Correlation of 20,000 pairs: beyond 0.03 (4.2 standard errors) with a chance below 1e-4."""
    keys = np.array([mix(i) for i in range(20_001)], np.uint64)
    noise = uniforms(keys, np.zeros(20_001, np.int64))
    assert abs(np.corrcoef(noise[:-1], noise[1:])[0, 1]) < 0.03


def test_hash_is_splitmix64() -> None:
    """The first three outputs of the reference code (Vigna) from state 0."""
    known = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    noise = uniforms(np.zeros(3, np.uint64), np.arange(3))
    assert noise.tolist() == [(value >> 11) / 2**53 for value in known]


def reference(probs: list[float], top_k: int, top_p: float, min_p: float) -> list[float]:
    ranked = sorted(range(len(probs)), key=lambda i: -probs[i])
    kept = ranked[:top_k] if top_k else ranked
    if top_p < 1:
        total, mass, nucleus = math.fsum(probs[i] for i in kept), 0.0, []
        for i in kept:
            if nucleus and mass >= top_p * total:
                break
            nucleus.append(i)
            mass += probs[i]
        kept = nucleus
    kept = [i for i in kept if probs[i] >= min_p * probs[ranked[0]]]
    return [p if i in kept else 0.0 for i, p in enumerate(probs)]


def test_filters_match_a_plain_reference() -> None:
    numbers = np.random.default_rng(0)
    rows = [(int(k), float(p), float(m)) for k in (0, 1, 3, 50) for p in (1.0, 0.9, 0.3, 1e-9) for m in (0.0, 0.1, 1.0)]
    probs = torch.from_numpy(numbers.dirichlet(np.full(30, 0.4), len(rows)))
    probs[::3] = 1 / 30  # ties
    limits = (torch.tensor(column).unsqueeze(1) for column in zip(*rows, strict=True))
    ours = filtered(probs.log(), probs, *limits)
    for row, limit, kept in zip(probs.tolist(), rows, ours.tolist(), strict=True):
        if len(set(row)) > 1 or limit[1] == 1.0:  # where all are equal, rounding decides how many make up top_p
            assert kept == reference(row, *limit), limit


def test_filters_touch_only_rows_that_ask() -> None:
    slots = seated(2, SamplingParams())
    slots.limits["top_k"][1] = 1
    logits = torch.tensor([[0.0, 0.0, 0.1]]).expand(2, -1)
    seen = set()
    for t in range(200):
        slots.length[:2] = 2 + t
        tokens, logprobs = sampled(logits, slots)
        seen.add(int(tokens[0]))
        assert tokens[1] == 2
        assert logprobs[1] == pytest.approx(math.log(math.exp(0.1) / (2 + math.exp(0.1))), abs=1e-6)
    assert seen == {0, 1, 2}


def test_zero_temperature_is_greedy() -> None:
    logits = torch.randn(50, 100, generator=torch.Generator().manual_seed(0))
    tokens, logprobs = sampled(logits, seated(50, SamplingParams(temperature=0)))
    assert tokens.tolist() == logits.argmax(-1).tolist()
    assert torch.allclose(torch.from_numpy(logprobs), logits.log_softmax(-1).max(-1).values, atol=1e-6)


@pytest.mark.parametrize("weights", [[0.0, 1.0, 0.0], [0.0, 1e-30, 0.0], [0.0, 0.3, 0.0]])
@pytest.mark.parametrize("noise", [0.0, 0.5, 1 - 2**-53])
def test_extreme_noise_never_draws_what_cannot_be(weights: list[float], noise: float) -> None:
    assert look_up(torch.tensor([weights]), torch.tensor([noise], dtype=torch.float64)).tolist() == [1]


@pytest.mark.parametrize(
    ("field", "value"),
    [("temperature", -1.0), ("temperature", math.nan), ("top_k", -1), ("top_p", 0.0), ("min_p", 1.5), ("max_tokens", 0),
     ("thinking_budget", -1), ("answer_tokens", 0), ("stop", ("",)), ("stop", "END"), ("seed", -1), ("seed", 1 << 63)],
)  # fmt: skip
def test_bad_parameters_are_named(field: str, value: object) -> None:
    with pytest.raises(UserError, match=f"^{field} is "):
        SamplingParams(**{field: value})  # type: ignore[arg-type]

"""Filters in native code keep the tokens that the sorted twin keeps, and draw the same of them with the same noise."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from raison.engine.kernels import native
from raison.engine.sampler import look_up, scaled, weights_kept
from raison.engine.slots import LIMITS, Records

pytestmark = pytest.mark.usefixtures("variant")
NEAR = 1e-6
"""Relative: where limits or noise are as near to a boundary, rounding may decide."""
KINDS = ("normal", "steep", "ties", "forbidden", "equal", "one")


def logits_of(kind: str, vocabulary: int, rows: int) -> Tensor:
    numbers = torch.Generator().manual_seed(vocabulary)
    x = torch.randn(rows, vocabulary, generator=numbers) * (3 if kind != "steep" else 12)
    if kind == "ties":
        return x.round()
    if kind == "forbidden":
        x[torch.rand(x.shape, generator=numbers) < 0.7] = -torch.inf
        x[:, vocabulary // 2] = 1.0
    if kind == "one":
        x[:], x[:, vocabulary // 3] = -torch.inf, -5.0
    return x * 0 + 7 if kind == "equal" else x


def limits_of(vocabulary: int) -> Records:
    ks = (0, 1, 2, 40, vocabulary - 1, vocabulary, vocabulary + 9)
    every = np.array(list(itertools.product(ks, (1.0, 0.95, 0.5, 1e-9), (0.0, 0.02, 1.0))), LIMITS)
    return every if vocabulary < 10_000 else every[::5].copy()


def twin(logits: Tensor, heats: np.ndarray, limits: Records, noise: np.ndarray) -> np.ndarray:
    return look_up(weights_kept(logits, heats, limits), torch.from_numpy(noise)).numpy()


@pytest.mark.parametrize("vocabulary", [1, 17, 32, 1259, 50_000])
@pytest.mark.parametrize("kind", KINDS)
def test_tokens_are_the_twins(vocabulary: int, kind: str) -> None:
    """Where rounding may decide, which is rare, one of those that a step of 1e-6 to either side gives."""
    logits = logits_of(kind, vocabulary, 2)
    for temperature in (0.6, 1e6, 1e-30, 1.0, 1e-3, 3e38)[: 2 if vocabulary > 10_000 else 6]:
        limits = limits_of(vocabulary)
        count = len(limits)
        noise = np.random.default_rng(vocabulary).random(count)
        lines, heats = np.arange(count) % 2, np.full(count, temperature, np.float32)
        tokens, logprobs = native.draw(logits, vocabulary, native.Asks(lines, heats, noise, limits))
        every = logits[torch.from_numpy(lines)]
        told = scaled(every.double(), heats).log_softmax(-1).gather(1, torch.from_numpy(tokens)[:, None]).squeeze(1)
        assert np.allclose(logprobs, told, atol=1e-5, rtol=1e-6)
        near = []
        for p, m, u in itertools.product((-NEAR, NEAR), repeat=3):
            shifted = limits.copy()
            shifted["top_p"] = np.where(limits["top_p"] < 1, limits["top_p"] * (1 + p), 1)
            shifted["min_p"] = (limits["min_p"] * (1 + m)).clip(0, 1)
            near.append(twin(every, heats, shifted, (noise + u).clip(0, 1 - 1e-12)))
        sure = np.all(np.stack(near) == near[0], 0)
        assert (np.stack(near) == tokens).any(0).all()
        assert (tokens == twin(every, heats, limits, noise))[sure].all()
        assert sure.mean() > 0.9 or kind in ("equal", "ties") or temperature > 1e5


@pytest.mark.parametrize("vocabulary", [32, 4096])
def test_equal_tokens_stay_in_the_vocabularys_order(vocabulary: int) -> None:
    """Their weights are 1, so that sums are exact, and so must be what is kept: drawn here with noise for each."""
    logits, kept = torch.zeros(1, vocabulary), vocabulary // 4
    noise = (np.arange(kept) + 0.5) / kept
    lines, heats = np.zeros(kept, np.int64), np.ones(kept, np.float32)
    for limits in ((kept, 1.0, 0.0), (0, 0.25, 0.0), (2 * kept, 0.5, 1.0), (0, 0.25 - 1e-12, 1.0)):
        each = np.full(kept, np.array(limits, LIMITS))
        tokens, _ = native.draw(logits, vocabulary, native.Asks(lines, heats, noise, each))
        assert tokens.tolist() == list(range(kept)), limits
        assert twin(logits.expand(kept, -1), heats, each, noise).tolist() == list(range(kept)), limits


@pytest.mark.parametrize("limits", [(0, 0.95, 0.0), (20, 1.0, 0.0), (40, 0.9, 0.02)])
def test_what_is_drawn_is_the_filtered_distribution(limits: tuple[int, float, float]) -> None:
    """Chi-square of 60,000 draws against a plain sum over sorted float64, beyond its bound with a chance of 1e-5."""
    count, temperature, vocabulary = 60_000, 0.6, 300
    logits = torch.randn(1, vocabulary, generator=torch.Generator().manual_seed(3)) * 1.5
    probs = np.exp((logits[0].double().numpy() - float(logits.max())) / np.float32(temperature))
    order = np.argsort(-probs)
    ranked = probs[order] * (np.arange(vocabulary) < (limits[0] or vocabulary))
    ranked *= np.cumsum(ranked) - ranked < limits[1] * ranked.sum()
    ranked *= ranked >= limits[2] * ranked[0]
    expected = np.zeros(vocabulary)
    expected[order] = ranked / ranked.sum() * count
    lines, heats = np.zeros(count, np.int64), np.full(count, temperature, np.float32)
    noise = np.random.default_rng(11).random(count)
    tokens, _ = native.draw(
        logits, vocabulary, native.Asks(lines, heats, noise, np.full(count, np.array(limits, LIMITS)))
    )
    counts, among = np.bincount(tokens, minlength=vocabulary), expected > 0
    assert not counts[~among].any() and 5 < among.sum() < vocabulary
    statistic = ((counts - expected) ** 2)[among] @ (1 / expected[among])
    freedom = torch.tensor(among.sum() - 1.0)
    assert torch.special.gammaincc(freedom / 2, torch.tensor(statistic) / 2) > 1e-5


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_draw_does_not_depend_on_its_batch(threads: int) -> None:
    """Filters, biases and plain rows beside each other: the same bits as one by one."""
    logits, numbers = logits_of("normal", 3000, 40), np.random.default_rng(5)
    limits, heats = limits_of(3000)[:40], numbers.choice([0.0, 0.6, 1.0], 40).astype(np.float32)
    noise, lines = numbers.random(40), np.arange(40)
    asked = {
        i: {int(t): float(b) for t, b in zip(numbers.integers(0, 3000, 5), numbers.normal(0, 9, 5), strict=True)}
        for i in range(0, 40, 3)
    }
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        every = native.draw(logits, 3000, native.Asks(lines, heats, noise, limits, native.Biases.of(40, asked)))
    finally:
        torch.set_num_threads(before)
    for i in range(40):
        biases = native.Biases.of(1, {0: asked[i]} if i in asked else {})
        one = native.Asks(lines[i : i + 1], heats[i : i + 1], noise[i : i + 1], limits[i : i + 1], biases)
        token, logprob = native.draw(logits, 3000, one)
        assert (token[0], logprob[0]) == (every[0][i], every[1][i])


def test_biases_move_what_is_drawn_from_and_not_what_is_told() -> None:
    """Also before the filters: a bias decides who is among the likeliest."""
    logits = logits_of("normal", 500, 1)
    count = 400
    lines, heats, noise = (
        np.zeros(count, np.int64),
        np.full(count, 0.7, np.float32),
        np.random.default_rng(1).random(count),
    )
    limits = np.full(count, np.array((4, 1.0, 0.0), LIMITS))
    biases = {3: 30.0, 9: 29.5, int(logits.argmax()): -np.inf}
    tokens, logprobs = native.draw(
        logits,
        500,
        native.Asks(lines, heats, noise, limits, native.Biases.of(count, dict.fromkeys(range(count), biases))),
    )
    moved = logits.clone()
    moved[0, list(biases)] += torch.tensor(list(biases.values()))
    assert tokens.tolist() == twin(moved.expand(count, -1), heats, limits, noise).tolist()
    assert {3, 9} <= set(tokens.tolist()) and int(logits.argmax()) not in tokens
    assert np.allclose(logprobs, (logits[0] / 0.7).log_softmax(-1)[tokens], atol=1e-5)

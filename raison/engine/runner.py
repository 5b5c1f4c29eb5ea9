"""One step through the model: from a plan to logits.

All tokens of a step stand in one flat row; for attention they are grouped by (queries, length class). A sequence's
length class depends on its own length alone, and a step has at least MIN_ROWS_PER_THREAD rows for each thread,
because matrix kernels reduce in another order for a handful of rows: with both, a row's numbers do not depend on its
neighbours, but for the experts' products in fp32, where a share of fewer than a dozen tokens may differ in the last
bit. Not covered: devices other than the CPU.

Legend: N tokens of the step, S sequences of a group, Q query tokens of each, B pages of the longest, P page size, L =
B*P, W cache width, T = tokens of the cache.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from raison.engine.cache import LatentCache
from raison.engine.scheduler import Plan
from raison.engine.slots import Ints, Slots, as_rows
from raison.model.layers import Linear
from raison.model.mla import CacheGroup
from raison.model.moe import Experts
from raison.model.transformer import Transformer

MIN_ROWS_PER_THREAD = 8


@dataclass(frozen=True, slots=True)
class Run:
    """Sequences that attend together: `queries` tokens of each of `rows`, from `starts` on, over `pages` pages."""

    rows: Ints
    starts: Ints
    queries: int
    pages: int


@dataclass(frozen=True, slots=True)
class Reach:
    """What a run's queries may see, the same in every layer."""

    start: int
    stop: int
    sequences: int
    pages_SB: Tensor
    bias_SQL: Tensor


class PagedLayer:
    """One layer of the cache as the model sees it during one step (a model.mla.LayerCache)."""

    def __init__(self, cache: LatentCache, layer: int, writes_N: Tensor, reaches: list[Reach]) -> None:
        self._tokens_TW, self._pages = cache.layer_tokens(layer), cache.layer_pages(layer)
        self._writes_N, self._reaches = writes_N, reaches

    def write(self, latents_NW: Tensor) -> None:
        self._tokens_TW.index_copy_(0, self._writes_N, latents_NW)

    def groups(self) -> Iterator[CacheGroup]:
        for reach in self._reaches:
            keys = F.embedding(reach.pages_SB, self._pages)  # in bf16 40 times as fast as index_select
            keys_SLW = keys.view(reach.sequences, -1, self._tokens_TW.shape[1])
            yield CacheGroup(reach.start, reach.stop, reach.sequences, keys_SLW, reach.bias_SQL)


class Runner:
    def __init__(self, model: Transformer, slots: Slots, cache: LatentCache, dtype: torch.dtype) -> None:
        self.model, self.slots, self.cache, self.dtype = model, slots, cache, dtype
        self._class_of = length_classes(slots.blocks.shape[1])

    def run(self, plan: Plan) -> Tensor:
        """Compute the plan's tokens into the cache; logits [samples, vocabulary] in the order of `plan.samples`."""
        for source, target in plan.copies:
            self.cache.copy(source, target)
        runs = self._runs(plan)
        places = [run.starts[:, None] + np.arange(run.queries) for run in runs]
        rows = [np.broadcast_to(run.rows[:, None], at.shape) for run, at in zip(runs, places, strict=True)]
        flat_rows, flat_places = (np.concatenate([a.ravel() for a in arrays]) for arrays in (rows, places))
        layers = self._layers(runs, places, self._writes(flat_rows, flat_places))
        ids_N = torch.from_numpy(self.slots.tokens[flat_rows, flat_places])
        states_ND, _ = self.model.hidden(ids_N, torch.from_numpy(flat_places), layers, self.dtype)
        last = np.zeros(self.slots.capacity + 1, np.int64)
        last[flat_rows] = np.arange(len(flat_rows))  # a row's last token is written last
        return self.model.logits(states_ND[torch.from_numpy(last[plan.sources])])

    def _runs(self, plan: Plan) -> list[Run]:
        """Decoding rows by length class, then chunks of equal size and class together, then rows that only pad."""
        computed = self.slots.computed[plan.decode]
        runs = list(self._by_class(plan.decode, computed, 1))
        sizes = sorted({chunk.stop - chunk.start for chunk in plan.chunks})
        for size in sizes:
            chunks = [chunk for chunk in plan.chunks if chunk.stop - chunk.start == size]
            runs += self._by_class(as_rows([c.slot for c in chunks]), as_rows([c.start for c in chunks]), size)
        total = sum(len(run.rows) * run.queries for run in runs)
        lacking = MIN_ROWS_PER_THREAD * torch.get_num_threads() - total
        return _pad(runs, lacking, self.slots.padding) if lacking > 0 else runs

    def _by_class(self, rows: Ints, starts: Ints, queries: int) -> Iterable[Run]:
        classes = self._class_of[(starts + queries - 1) // self.cache.page_size + 1]
        for pages in np.unique(classes).tolist():
            chosen = classes == pages
            yield Run(rows[chosen], starts[chosen], queries, pages)

    def _writes(self, rows: Ints, places: Ints) -> Tensor:
        size = self.cache.page_size
        return torch.from_numpy(self.slots.blocks[rows, places // size] * size + places % size)

    def _layers(self, runs: list[Run], places: list[Ints], writes_N: Tensor) -> list[PagedLayer]:
        reaches, start = [], 0
        for run, at_SQ in zip(runs, places, strict=True):
            stop = start + at_SQ.size
            pages_SB = torch.from_numpy(self.slots.blocks[run.rows, : run.pages])
            reaches.append(Reach(start, stop, len(run.rows), pages_SB, self._bias(run, at_SQ)))
            start = stop
        layers = range(self.model.spec.num_hidden_layers)
        return [PagedLayer(self.cache, layer, writes_N, reaches) for layer in layers]

    def _bias(self, run: Run, at_SQ: Ints) -> Tensor:
        """Causal: 0 up to the query's own place, -inf beyond."""
        keys_L = torch.arange(run.pages * self.cache.page_size)
        beyond = keys_L > torch.from_numpy(at_SQ).unsqueeze(-1)
        return torch.zeros(beyond.shape).masked_fill_(beyond, -torch.inf)


def length_classes(longest: int) -> Ints:
    """Pages -> pages padded to: 1, 2, 3, 4, 6, 8, 12, 16, 24, ... (at most half again as many)."""
    steps, size = [1], 1
    while steps[-1] < longest:
        steps += [size + size // 2, 2 * size] if size > 1 else [2]
        size *= 2
    table = np.asarray(steps)[np.searchsorted(steps, np.arange(longest + 1))]
    padded: Ints = np.minimum(table, longest).astype(np.int64)
    return padded


def _pad(runs: list[Run], lacking: int, slot: int) -> list[Run]:
    """Add rows that nobody reads, to the first run of single queries if there is one: another run costs time."""
    rows, starts = np.full(lacking, slot, np.int64), np.zeros(lacking, np.int64)
    if runs and runs[0].queries == 1:
        first, *rest = runs
        joined = Run(np.concatenate((first.rows, rows)), np.concatenate((first.starts, starts)), 1, first.pages)
        return [joined, *rest]
    return [*runs, Run(rows, starts, 1, 1)]


@torch.no_grad()
def compute_copy(model: Transformer, dtype: torch.dtype) -> Transformer:
    """A twin whose products run in `dtype`; norms, routers, embedding and head are the model's own and stay exact."""
    memo: dict[int, object] = {}
    cast = {
        id(p) for module in model.layers.modules() if isinstance(module, Linear | Experts) for p in module.parameters()
    }
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            is_cast = id(parameter) in cast
            twin = torch.nn.Parameter(parameter.to(dtype), requires_grad=False) if is_cast else parameter
            memo[id(parameter)] = twin
        for buffer in module.buffers(recurse=False):
            memo[id(buffer)] = buffer
    return copy.deepcopy(model, memo)


@torch.no_grad()
def refresh_copy(model: Transformer, twin: Transformer) -> None:
    """Cast the model's weights into the twin again, in place."""
    for source, target in zip(model.parameters(), twin.parameters(), strict=True):
        if source is not target:
            target.copy_(source)

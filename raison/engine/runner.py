"""One step through the model: from a plan to logits.

All tokens of a step stand in one flat row; for attention they are grouped by (queries, length class). Shapes are chosen
so that a row's numbers do not depend on its neighbours, and so that few shapes occur:

* fp32: matrix kernels reduce in another order for a handful of rows and for other lengths. A sequence's length class
  depends on its own length alone, and a step has at least MIN_ROWS_PER_THREAD rows for each thread. What remains are
  the experts' products, where a share of fewer than a dozen tokens may differ in the last bit.
* bf16: no shape changes the numbers, but oneDNN compiles a kernel for each new one (1-4 ms). Rows and queries come in
  multiples of BF16_STEP; to that end rows may join the next longer class.

The host lays a step out as shapes and one row of integers, which go to the model's device together; all that follows
up to the logits reads nothing else. Not covered: shapes that recur (captured.py), guesses on other devices than the
CPU.

Legend: N tokens of the step, S sequences of a group, Q query tokens of each, B pages of the longest, P page size,
L = B*P, W cache width, M elements that a line is kept as, T = tokens of the cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from raison.engine.cache import LatentCache
from raison.engine.device import handed
from raison.engine.line import LineForm
from raison.engine.sampler import look_up, weights_kept
from raison.engine.scheduler import Plan
from raison.engine.slots import Ints, Slots, as_rows
from raison.engine.span import Span, Wanted
from raison.engine.twin import DTYPES, Dtype, compute_copy, refresh_copy
from raison.model.attention import CacheGroup
from raison.model.layers import RMSNorm
from raison.model.rope import rotation
from raison.model.transformer import Transformer

MIN_ROWS_PER_THREAD = 8
BF16_STEP = 16
GATHERED_BYTES = 2_000_000
"""About two level-2 caches; 20 to 25 % of a step's time was saved over gathering without a bound (256 rows of 400)."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Sequences that attend together, `queries` tokens each, over `pages` pages."""

    sequences: int
    queries: int
    pages: int

    @property
    def tokens(self) -> int:
        return self.sequences * self.queries


@dataclass(frozen=True, slots=True)
class Run:
    """Sequences that attend together: tokens [starts, stops) of `rows`, at most `queries` each, over `pages` pages."""

    rows: Ints
    starts: Ints
    stops: Ints
    queries: int
    pages: int

    @property
    def shape(self) -> Shape:
        return Shape(len(self.rows), self.queries, self.pages)

    def tokens(self, padding: int) -> tuple[Ints, Ints]:
        """Slot and place of every query, [S, Q] each; what is beyond a stop falls to the row that pads."""
        places_SQ = self.starts[:, None] + np.arange(self.queries)
        within_SQ = places_SQ < self.stops[:, None]
        return np.where(within_SQ, self.rows[:, None], padding), np.where(within_SQ, places_SQ, 0)


@dataclass(frozen=True, slots=True)
class Laid:
    """A step as the host lays it out. What the device does depends on `shapes`, with what numbers on the rest."""

    shapes: tuple[Shape, ...]
    slots_N: Ints
    places_N: Ints
    targets: Ints
    """Where in the cache each token is written, [N]; then the pages of every run's sequences."""

    def numbers(self, ids_N: Ints) -> Ints:
        return np.concatenate((ids_N, self.places_N, self.targets))


@dataclass(frozen=True, slots=True)
class Reach:
    """What a run's queries may see, the same in every layer."""

    start: int
    stop: int
    sequences: int
    pages_n: Tensor
    """Pages of all sequences, one after another: n = S*B."""
    bias_SQL: Tensor
    fused: bool


class PagedLayer:
    """One layer of the cache as the model sees it during one step (a model.attention.LayerCache)."""

    def __init__(
        self, form: LineForm, tokens_TM: Tensor, pages: Tensor, writes_N: Tensor, reaches: list[Reach], room: Tensor
    ) -> None:
        self._form, self._tokens_TM, self._pages = form, tokens_TM, pages
        self._writes_N, self._reaches, self._room = writes_N, reaches, room

    def write(self, latents_NW: Tensor) -> None:
        self._tokens_TM.index_copy_(0, self._writes_N, self._form.kept(latents_NW))

    def groups(self) -> Iterator[CacheGroup]:
        for reach in self._reaches:
            keys = self._room[: len(reach.pages_n)]
            torch.index_select(self._pages, 0, reach.pages_n, out=keys)
            keys_SLM = keys.view(reach.sequences, -1, self._form.elements)
            keys_SLW = self._form.read(keys_SLM, reach.bias_SQL.dtype)
            yield CacheGroup(reach.start, reach.stop, reach.sequences, keys_SLW, reach.bias_SQL, reach.fused)


@dataclass(frozen=True, slots=True)
class Logits:
    """What a step came to. Samples of one prompt read the same lines."""

    lines_LY: Tensor
    """fp32; may be padded beyond the vocabulary."""
    of_sample: Ints
    """For each of the plan's samples, its first line; those of its drafts follow."""
    span: Span | None = None
    states_ND: Tensor | None = None
    """Of the rows in `span`, normed; where an MTP module is to go on from them."""


def lines_of(plan: Plan, drafts: Ints) -> tuple[Ints, Ints, Ints]:
    """Slots whose logits a step must give, how many lines each has, and every sample's first line."""
    sources, of_sample = plan.sources, np.arange(len(plan.sources))
    if sources is not plan.samples:  # somebody follows another's prompt
        sources, of_sample = np.unique(sources, return_inverse=True)
    widths = 1 + drafts[sources]
    return sources, widths, (np.cumsum(widths) - widths)[of_sample]


class Runner:
    """Computes with the model itself in fp32, and with a cast or rounded copy of it otherwise."""

    gathered_bytes = GATHERED_BYTES
    fused = False
    """Whether attention is PyTorch's fused one."""

    def __init__(
        self, model: Transformer, slots: Slots, cache: LatentCache, dtype: Dtype, predicts: bool = False
    ) -> None:
        self.slots, self.cache, self.dtype, self._dtype = slots, cache, DTYPES[dtype], dtype
        self._predicts = predicts
        self._source = model
        self.device = cache.latents_ZGPM.device
        self.model = self._copy(model)
        self._step = BF16_STEP if dtype == "bf16" else 1
        self._class_of = length_classes(slots.blocks.shape[1])
        layers = range(len(cache.latents_ZGPM))
        self._tokens = [cache.layer_tokens(layer) for layer in layers]
        self._pages = [cache.layer_pages(layer) for layer in layers]
        self._room = torch.empty_like(self._pages[0][:0])

    def _copy(self, model: Transformer) -> Transformer:
        return model if self._dtype == "fp32" else compute_copy(model, self._dtype)

    def refresh(self) -> None:
        """Take over the model's changed weights."""
        if self.model is not self._source:
            refresh_copy(self._source, self.model, self._dtype)

    def run(self, plan: Plan) -> Logits:
        """Compute the plan's tokens into the cache, and logits for its samples."""
        for source, target in plan.copies:
            self.cache.copy(source, target)
        laid = self._laid(self._runs(plan))
        states_ND = self._states(plan, laid)
        sources, widths, of_sample = lines_of(plan, self.slots.drafts)
        wanted = _ends(laid.slots_N, sources, widths, self.slots.padding)
        logits = self.model.logits(states_ND[handed(wanted, self.device)])
        if not self._predicts:
            return Logits(logits, of_sample)
        order = _in_order(laid, self.slots.padding)
        normed_ND = self.model.norm(states_ND[torch.from_numpy(order)])
        return Logits(logits, of_sample, Span(laid.slots_N[order], laid.places_N[order]), normed_ND)

    def _states(self, plan: Plan, laid: Laid) -> Tensor:
        """What the plan's tokens come to in the last layer, [N, D]; their latents go into the cache."""
        numbers = laid.numbers(self.slots.tokens[laid.slots_N, laid.places_N])
        return self.compute(laid.shapes, handed(numbers, self.device))

    def compute(self, shapes: tuple[Shape, ...], numbers: Tensor) -> Tensor:
        """The same from what the host has laid out: nothing here asks the host, or depends on its arrays."""
        ids_N, places_N, layers = self._read(shapes, numbers)
        states_ND, _ = self.model.hidden(ids_N, places_N, layers, self.dtype)
        return states_ND

    def guess(self, span: Span, ids_N: Ints, before_ND: Tensor | None, wanted: Wanted) -> Ints:
        """Tokens [K, S] that would be said behind each stretch; those beyond `wanted.most_S` mean nothing.

        By the MTP module where `before_ND` is given, normed states of the rows, with `ids_N` the tokens that follow
        them: it goes on from the model's states, and then from its own. Else by the model itself, as a draft; it may
        be padded to fewer ids than the other, and reads what is beyond as its last.
        """
        tokens_KS = np.zeros(wanted.uniforms_KS.shape, np.int64)
        going = np.arange(len(wanted.most_S))
        for ahead, uniforms_S in enumerate(wanted.uniforms_KS):
            lasts = span.lasts()
            logits, after_ND = self._predict(span, ids_N, before_ND)
            weights = weights_kept(logits, wanted.temperatures_S[going], wanted.limits_S[going])
            drawn = look_up(weights, torch.from_numpy(uniforms_S[going])).clamp(max=logits.shape[1] - 1).numpy()
            tokens_KS[ahead, going] = np.where(wanted.temperatures_S[going] > 0, drawn, logits.argmax(-1).numpy())
            on = (wanted.most_S[going] > ahead + 1).nonzero()[0]
            if not len(on):
                break
            span = Span(span.slots_N[lasts[on]], span.places_N[lasts[on]] + 1)
            going, before_ND = going[on], None if before_ND is None else after_ND[lasts[on]]
            ids_N = tokens_KS[ahead, going]
        return tokens_KS

    def _predict(self, span: Span, ids_N: Ints, before_ND: Tensor | None) -> tuple[Tensor, Tensor]:
        """One pass: logits after the last row of each stretch, and the normed states of all rows."""
        lasts = span.lasts()
        stops = span.places_N[lasts] + 1
        firsts = np.concatenate((as_rows([0]), lasts[:-1] + 1))
        chunks = np.stack((span.slots_N[lasts], span.places_N[firsts], stops), 1)
        runs = self._filled(self._chunked(chunks))
        laid = self._laid(runs)
        order = _in_order(laid, self.slots.padding)
        order = order[np.argsort(np.lexsort((span.places_N, span.slots_N)))]  # that of the span
        laid_ids = np.zeros(len(laid.slots_N), np.int64)
        laid_ids[order] = np.minimum(ids_N, self.model.spec.vocab_size - 1)
        numbers, at = torch.from_numpy(laid.numbers(laid_ids)), torch.from_numpy(order)
        if before_ND is None:
            norm, after_MD = self.model.norm, self.compute(laid.shapes, numbers)
        else:
            norm, after_MD = self._module(laid.shapes, numbers, before_ND, at)
        picked_ND = after_MD[at]
        return self.model.logits(picked_ND[torch.from_numpy(lasts)], norm), norm(picked_ND)

    def _module(
        self, shapes: tuple[Shape, ...], numbers: Tensor, before_ND: Tensor, at: Tensor
    ) -> tuple[RMSNorm, Tensor]:
        """The MTP module's norm, and its states; the model's states of the rows stand `at` their places."""
        ids_M, places_M, (*_, layer) = self._read(shapes, numbers)
        states_MD = before_ND.new_zeros(len(ids_M), before_ND.shape[1])
        states_MD[at] = before_ND
        module, rot = next(self.model.predictors()), rotation(self.model.spec, places_M)
        after_MD, _ = module(states_MD, self.model.embed(ids_M, states_MD.dtype), rot, layer)
        return module.norm, after_MD

    def _runs(self, plan: Plan) -> list[Run]:
        """Decoding rows by length class, then chunks by size and class, and rows that only pad."""
        computed = self.slots.computed[plan.decode]
        runs = self._by_class(plan.decode, computed, computed + 1, 1)
        return self._filled([*runs, *self._chunked(plan.stretches())])

    def _chunked(self, chunks: Ints) -> list[Run]:
        """Runs of stretches [slot, start, stop] of equal size."""
        runs = []
        sizes = -(-(chunks[:, 2] - chunks[:, 1]) // self._step) * self._step
        for size in np.unique(sizes).tolist():
            rows, starts, stops = chunks[sizes == size].T
            runs += self._by_class(rows, starts, stops, size)
        return runs

    def _filled(self, runs: list[Run]) -> list[Run]:
        """With so many rows as the shapes want at least."""
        least = max(self._step, MIN_ROWS_PER_THREAD * torch.get_num_threads())
        lacking = least - sum(len(run.rows) * run.queries for run in runs)
        return pad(runs, lacking, self.slots.padding) if lacking > 0 else runs

    def _laid(self, runs: list[Run]) -> Laid:
        rows, places = zip(*(run.tokens(self.slots.padding) for run in runs), strict=True)
        slots_N, places_N = (np.concatenate([a.ravel() for a in arrays]) for arrays in (rows, places))
        size = self.cache.page_size
        writes_N = self.slots.blocks[slots_N, places_N // size] * size + places_N % size
        pages = [self.slots.blocks[run.rows, : run.pages].ravel() for run in runs]
        return Laid(tuple(run.shape for run in runs), slots_N, places_N, np.concatenate((writes_N, *pages)))

    def _by_class(self, rows: Ints, starts: Ints, stops: Ints, queries: int) -> list[Run]:
        """Runs of one length class. Single queries stand in whole steps: what is over joins the next longer class."""
        classes = self._class_of[-(-stops // self.cache.page_size)]
        order = np.argsort(classes, kind="stable")
        ends = np.searchsorted(classes[order], kinds := np.unique(classes), side="right")
        runs, first = [], 0
        for pages, end in zip(kinds.tolist(), ends.tolist(), strict=True):
            whole = end == len(order) or queries > 1
            last = end if whole else first + (end - first) // self._step * self._step
            for part in self._parts(order[first:last], pages):
                runs.append(Run(rows[part], starts[part], stops[part], queries, pages))
            first = last
        over = -len(rows) % self._step
        return pad(runs, over, self.slots.padding) if over and queries == 1 else runs

    def _parts(self, order: Ints, pages: int) -> list[Ints]:
        """Cut a run so that its gathered keys, written once and read twice, stay in the processor's cache."""
        one = pages * self._room.shape[1] * self._room.element_size()
        most = max(1, self.gathered_bytes // one // self._step) * self._step
        return [order[i : i + most] for i in range(0, len(order), most)]

    def _read(self, shapes: tuple[Shape, ...], numbers: Tensor) -> tuple[Tensor, Tensor, list[PagedLayer]]:
        """Token ids and places, [N] each, and the layers of the cache as the step sees them."""
        count = sum(shape.tokens for shape in shapes)
        pages = [shape.sequences * shape.pages for shape in shapes]
        ids_N, places_N, writes_N, *pages_n = numbers.split([count, count, count, *pages])
        reaches, start = [], 0
        for shape, of_run in zip(shapes, pages_n, strict=True):
            stop = start + shape.tokens
            bias_SQL = self._bias(shape, places_N[start:stop])
            reaches.append(Reach(start, stop, shape.sequences, of_run, bias_SQL, self.fused))
            start = stop
        room, views = self._make_room(max(pages)), zip(self._tokens, self._pages, strict=True)
        form = self.cache.form
        return ids_N, places_N, [PagedLayer(form, tokens, pages, writes_N, reaches, room) for tokens, pages in views]

    def _make_room(self, pages: int) -> Tensor:
        """A place to gather keys in, kept from step to step: fresh memory costs more than the gathering."""
        if len(self._room) < pages:
            self._room = self._room.new_empty(pages + pages // 4, self._room.shape[1])
        return self._room

    def _bias(self, shape: Shape, places_n: Tensor) -> Tensor:
        """Causal: 0 up to the query's own place, -inf beyond."""
        keys_L = torch.arange(shape.pages * self.cache.page_size, device=self.device)
        beyond_SQL = keys_L > places_n.view(shape.sequences, shape.queries, 1)
        return torch.zeros(beyond_SQL.shape, dtype=self.dtype, device=self.device).masked_fill_(beyond_SQL, -torch.inf)


def length_classes(longest: int) -> Ints:
    """Pages -> pages padded to: 1, 2, 3, 4, 6, 8, 12, 16, 24, ... (at most half again as many)."""
    steps, size = [1], 1
    while steps[-1] < longest:
        steps += [size + size // 2, 2 * size] if size > 1 else [2]
        size *= 2
    table = np.asarray(steps)[np.searchsorted(steps, np.arange(longest + 1))]
    padded: Ints = np.minimum(table, longest).astype(np.int64)
    return padded


def _ends(flat_rows: Ints, sources: Ints, widths: Ints, padding: int) -> Ints:
    """Where the last `widths` rows of each source stand, in order; a slot's rows stand in order."""
    if (widths == 1).all():
        last = np.zeros(padding + 1, np.int64)
        last[flat_rows] = np.arange(len(flat_rows))  # a row's last token is written last
        return last[sources]
    ends: Ints = np.concatenate([np.flatnonzero(flat_rows == s)[-w:] for s, w in zip(sources, widths, strict=True)])
    return ends


def _in_order(laid: Laid, padding: int) -> Ints:
    """Indices of the tokens that are no padding, by slot and place."""
    order = np.lexsort((laid.places_N, laid.slots_N))
    real: Ints = order[laid.slots_N[order] != padding]
    return real


def pad(runs: list[Run], lacking: int, slot: int) -> list[Run]:
    """Add rows that nobody reads, to the last run if it has single queries: another run costs time."""
    rows, zeros = np.full(lacking, slot, np.int64), np.zeros(lacking, np.int64)
    if not runs or runs[-1].queries > 1:
        return [*runs, Run(rows, zeros, zeros + 1, 1, 1)]
    *rest, last = runs
    starts, stops = np.concatenate((last.starts, zeros)), np.concatenate((last.stops, zeros + 1))
    return [*rest, Run(np.concatenate((last.rows, rows)), starts, stops, 1, last.pages)]

"""One step through the model: from a plan to logits.

All tokens of a step stand in one flat row; for attention they are grouped by (queries, length class). Shapes are chosen
so that a row's numbers do not depend on its neighbours, and so that few shapes occur:

* fp32: matrix kernels reduce in another order for a handful of rows and for other lengths. A sequence's length class
  depends on its own length alone, and a step has at least MIN_ROWS_PER_THREAD rows for each thread. What remains are
  the experts' products, where a share of fewer than a dozen tokens may differ in the last bit.
* bf16: no shape changes the numbers, but oneDNN compiles a kernel for each new one (1-4 ms). Rows and queries come in
  multiples of BF16_STEP; to that end rows may join the next longer class.

Not covered: devices other than the CPU.

Legend: N tokens of the step, S sequences of a group, Q query tokens of each, B pages of the longest, P page size,
L = B*P, W cache width, T = tokens of the cache.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from raison.engine.cache import LatentCache
from raison.engine.sampler import look_up, scaled
from raison.engine.scheduler import Plan
from raison.engine.slots import Ints, Slots, as_rows
from raison.engine.span import Span, Wanted
from raison.model.attention import CacheGroup
from raison.model.layers import Linear
from raison.model.mla import MultiHeadLatentAttention
from raison.model.moe import Experts
from raison.model.packed import packed_parts
from raison.model.rope import rotation
from raison.model.rounding import rounded
from raison.model.transformer import Transformer

MIN_ROWS_PER_THREAD = 8
BF16_STEP = 16
Dtype = Literal["fp32", "bf16", "q8", "q4"]
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "q8": torch.float32, "q4": torch.float32}
"""What activations and the cache are kept in; q8 and q4 are of weights (model/rounding.py)."""
ROUNDED = ("q8", "q4")
EXACT = torch.float32
"""What adapters are merged in before the sum is rounded once."""
GATHERED_BYTES = 2_000_000
"""About two level-2 caches; 20 to 25 % of a step's time was saved over gathering without a bound (256 rows of 400)."""


@dataclass(frozen=True, slots=True)
class Run:
    """Sequences that attend together: tokens [starts, stops) of `rows`, at most `queries` each, over `pages` pages."""

    rows: Ints
    starts: Ints
    stops: Ints
    queries: int
    pages: int

    def tokens(self, padding: int) -> tuple[Ints, Ints]:
        """Slot and place of every query, [S, Q] each; what is beyond a stop falls to the row that pads."""
        places_SQ = self.starts[:, None] + np.arange(self.queries)
        within_SQ = places_SQ < self.stops[:, None]
        return np.where(within_SQ, self.rows[:, None], padding), np.where(within_SQ, places_SQ, 0)


@dataclass(frozen=True, slots=True)
class Reach:
    """What a run's queries may see, the same in every layer."""

    start: int
    stop: int
    sequences: int
    pages_n: Tensor
    """Pages of all sequences, one after another: n = S*B."""
    bias_SQL: Tensor


class PagedLayer:
    """One layer of the cache as the model sees it during one step (a model.attention.LayerCache)."""

    def __init__(self, tokens_TW: Tensor, pages: Tensor, writes_N: Tensor, reaches: list[Reach], room: Tensor) -> None:
        self._tokens_TW, self._pages = tokens_TW, pages
        self._writes_N, self._reaches, self._room = writes_N, reaches, room

    def write(self, latents_NW: Tensor) -> None:
        self._tokens_TW.index_copy_(0, self._writes_N, latents_NW)

    def groups(self) -> Iterator[CacheGroup]:
        for reach in self._reaches:
            keys = self._room[: len(reach.pages_n)]
            torch.index_select(self._pages, 0, reach.pages_n, out=keys)
            keys_SLW = keys.view(reach.sequences, -1, self._tokens_TW.shape[1])
            yield CacheGroup(reach.start, reach.stop, reach.sequences, keys_SLW, reach.bias_SQL)


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

    def __init__(
        self, model: Transformer, slots: Slots, cache: LatentCache, dtype: Dtype, predicts: bool = False
    ) -> None:
        self.slots, self.cache, self.dtype, self._dtype = slots, cache, DTYPES[dtype], dtype
        self._predicts = predicts
        self._source = model
        self.model = model if dtype == "fp32" else compute_copy(model, dtype)
        self._step = BF16_STEP if dtype == "bf16" else 1
        self._class_of = length_classes(slots.blocks.shape[1])
        layers = range(len(cache.latents_ZGPW))
        self._tokens = [cache.layer_tokens(layer) for layer in layers]
        self._pages = [cache.layer_pages(layer) for layer in layers]
        self._room = torch.empty_like(self._pages[0][:0])

    def refresh(self) -> None:
        """Take over the model's changed weights."""
        if self.model is not self._source:
            refresh_copy(self._source, self.model, self._dtype)

    def run(self, plan: Plan) -> Logits:
        """Compute the plan's tokens into the cache, and logits for its samples."""
        for source, target in plan.copies:
            self.cache.copy(source, target)
        runs = self._runs(plan)
        places, flat_rows, flat_places = self._flat(runs)
        layers = self._layers(runs, places, self._writes(flat_rows, flat_places))
        ids_N = torch.from_numpy(self.slots.tokens[flat_rows, flat_places])
        states_ND, _ = self.model.hidden(ids_N, torch.from_numpy(flat_places), layers, self.dtype)
        sources, widths, of_sample = lines_of(plan, self.slots.drafts)
        wanted = _ends(flat_rows, sources, widths, self.slots.padding)
        logits = self.model.logits(states_ND[torch.from_numpy(wanted)])
        if not self._predicts:
            return Logits(logits, of_sample)
        order = _in_order(flat_rows, flat_places, self.slots.padding)
        normed_ND = self.model.norm(states_ND[torch.from_numpy(order)])
        return Logits(logits, of_sample, Span(flat_rows[order], flat_places[order]), normed_ND)

    def guess(self, span: Span, ids_N: Ints, before_ND: Tensor, wanted: Wanted) -> Ints:
        """Tokens [K, S] that the MTP module would say behind each stretch; those beyond `wanted.most_S` mean nothing.

        `before_ND` are normed states of the rows, `ids_N` the tokens that follow them. The module goes on from the
        model's states, and then from its own.
        """
        tokens_KS = np.zeros(wanted.uniforms_KS.shape, np.int64)
        going = np.arange(len(wanted.most_S))
        for ahead, uniforms_S in enumerate(wanted.uniforms_KS):
            lasts = span.lasts()
            logits, after_ND = self._predict(span, ids_N, before_ND)
            weights = scaled(logits, wanted.temperatures_S[going]).softmax(-1)
            drawn = look_up(weights, torch.from_numpy(uniforms_S[going])).clamp(max=logits.shape[1] - 1).numpy()
            tokens_KS[ahead, going] = np.where(wanted.temperatures_S[going] > 0, drawn, logits.argmax(-1).numpy())
            on = (wanted.most_S[going] > ahead + 1).nonzero()[0]
            if not len(on):
                break
            span = Span(span.slots_N[lasts[on]], span.places_N[lasts[on]] + 1)
            going, before_ND = going[on], after_ND[lasts[on]]
            ids_N = tokens_KS[ahead, going]
        return tokens_KS

    def _predict(self, span: Span, ids_N: Ints, before_ND: Tensor) -> tuple[Tensor, Tensor]:
        """One pass: logits after the last row of each stretch, and the normed states of all rows."""
        lasts = span.lasts()
        stops = span.places_N[lasts] + 1
        firsts = np.concatenate((as_rows([0]), lasts[:-1] + 1))
        chunks = np.stack((span.slots_N[lasts], span.places_N[firsts], stops), 1)
        runs = self._filled(self._chunked(chunks))
        places, flat_rows, flat_places = self._flat(runs)
        order = _in_order(flat_rows, flat_places, self.slots.padding)
        order = order[np.argsort(np.lexsort((span.places_N, span.slots_N)))]  # that of the span
        *_, layer = self._layers(runs, places, self._writes(flat_rows, flat_places))
        states_MD = before_ND.new_zeros(len(flat_rows), before_ND.shape[1])
        states_MD[torch.from_numpy(order)] = before_ND
        ids_M = np.zeros(len(flat_rows), np.int64)
        ids_M[order] = ids_N
        module = next(self.model.predictors())
        rot = rotation(self.model.spec, torch.from_numpy(flat_places))
        after_MD, _ = module(states_MD, self.model.embed(torch.from_numpy(ids_M), states_MD.dtype), rot, layer)
        picked_ND = after_MD[torch.from_numpy(order)]
        return self.model.logits(picked_ND[torch.from_numpy(lasts)], module.norm), module.norm(picked_ND)

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
        return _pad(runs, lacking, self.slots.padding) if lacking > 0 else runs

    def _flat(self, runs: list[Run]) -> tuple[Sequence[Ints], Ints, Ints]:
        """Places of each run's queries [S, Q], and slots and places of all of them one after another."""
        rows, places = zip(*(run.tokens(self.slots.padding) for run in runs), strict=True)
        flat_rows, flat_places = (np.concatenate([a.ravel() for a in arrays]) for arrays in (rows, places))
        return places, flat_rows, flat_places

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
        return _pad(runs, over, self.slots.padding) if over and queries == 1 else runs

    def _parts(self, order: Ints, pages: int) -> list[Ints]:
        """Cut a run so that its gathered keys, written once and read twice, stay in the processor's cache."""
        one = pages * self._room.shape[1] * self._room.element_size()
        most = max(1, GATHERED_BYTES // one // self._step) * self._step
        return [order[i : i + most] for i in range(0, len(order), most)]

    def _writes(self, rows: Ints, places: Ints) -> Tensor:
        size = self.cache.page_size
        return torch.from_numpy(self.slots.blocks[rows, places // size] * size + places % size)

    def _layers(self, runs: list[Run], places: Sequence[Ints], writes_N: Tensor) -> list[PagedLayer]:
        reaches, start = [], 0
        for run, at_SQ in zip(runs, places, strict=True):
            stop = start + at_SQ.size
            pages_n = torch.from_numpy(self.slots.blocks[run.rows, : run.pages].ravel())
            reaches.append(Reach(start, stop, len(run.rows), pages_n, self._bias(run, at_SQ)))
            start = stop
        room = self._make_room(max(len(reach.pages_n) for reach in reaches))
        views = zip(self._tokens, self._pages, strict=True)
        return [PagedLayer(tokens, pages, writes_N, reaches, room) for tokens, pages in views]

    def _make_room(self, pages: int) -> Tensor:
        """A place to gather keys in, kept from step to step: fresh memory costs more than the gathering."""
        if len(self._room) < pages:
            self._room = self._room.new_empty(pages + pages // 4, self._room.shape[1])
        return self._room

    def _bias(self, run: Run, at_SQ: Ints) -> Tensor:
        """Causal: 0 up to the query's own place, -inf beyond."""
        keys_L = torch.arange(run.pages * self.cache.page_size)
        beyond = keys_L > torch.from_numpy(at_SQ).unsqueeze(-1)
        return torch.zeros(beyond.shape, dtype=self.dtype).masked_fill_(beyond, -torch.inf)


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


def _in_order(flat_rows: Ints, flat_places: Ints, padding: int) -> Ints:
    """Indices of the rows that are no padding, by slot and place."""
    order = np.lexsort((flat_places, flat_rows))
    real: Ints = order[flat_rows[order] != padding]
    return real


def _pad(runs: list[Run], lacking: int, slot: int) -> list[Run]:
    """Add rows that nobody reads, to the last run if it has single queries: another run costs time."""
    rows, zeros = np.full(lacking, slot, np.int64), np.zeros(lacking, np.int64)
    if not runs or runs[-1].queries > 1:
        return [*runs, Run(rows, zeros, zeros + 1, 1, 1)]
    *rest, last = runs
    starts, stops = np.concatenate((last.starts, zeros)), np.concatenate((last.stops, zeros + 1))
    return [*rest, Run(np.concatenate((last.rows, rows)), starts, stops, 1, last.pages)]


@torch.no_grad()
def compute_copy(model: Transformer, dtype: Dtype) -> Transformer:
    """A twin whose products run in `dtype`, adapters merged; what is packed stays so where it has no adapter.

    In q8 and q4 everything is expanded and holds the rounded values; the head has 8 bits. Norms, routers and embedding
    are the model's own and stay exact.
    """
    memo: dict[int, object] = {id(x): x for x in (*model.parameters(), *model.buffers())}
    twin = copy.deepcopy(model, memo | packed_parts(model))
    if dtype in ROUNDED:
        twin.spec, twin.rounds = replace(model.spec, tie_word_embeddings=False), True
        twin.lm_head = _frozen(rounded(model.head, "q8"))
        twin.packed, twin.embed_tokens = None, _frozen(model.embedding)
    for source, target in _products(model, twin, dtype):
        if isinstance(source, Linear) and isinstance(target, Linear):
            target.weight, target.lora = _frozen(_cast(source.matrix(EXACT), dtype)), None
            target.packed, target.rounds = None, dtype in ROUNDED
            target.bias = None if source.bias is None else _frozen(source.bias.to(DTYPES[dtype]))
        elif isinstance(source, Experts) and isinstance(target, Experts):
            parts = (_frozen(_cast(part, dtype)) for part in source.matrices(EXACT))
            target.gate_up_proj, target.down_proj = parts
            target.lora, target.packed = nn.ModuleDict(), ()
    _round_by_heads(model, twin, dtype)
    return twin


@torch.no_grad()
def refresh_copy(model: Transformer, twin: Transformer, dtype: Dtype) -> None:
    """Cast or round the model's weights into the twin again, in place."""
    if dtype in ROUNDED:
        twin.head.copy_(rounded(model.head, "q8"))
    for source, target in _products(model, twin, dtype):
        if isinstance(source, Linear) and isinstance(target, Linear):
            target.weight.copy_(_cast(source.matrix(EXACT), dtype))
            if source.bias is not None and target.bias is not None:
                target.bias.copy_(source.bias)
        elif isinstance(source, Experts) and isinstance(target, Experts):
            gate_up, down = source.matrices(EXACT)
            target.gate_up_proj.copy_(_cast(gate_up, dtype))
            target.down_proj.copy_(_cast(down, dtype))
    _round_by_heads(model, twin, dtype)


def _round_by_heads(model: Transformer, twin: Transformer, dtype: Dtype) -> None:
    """kv_b is folded into queries and values head by head, in 8 bits: its key rows are summed over, not its columns."""
    if not model.spec.is_latent or dtype not in ROUNDED:
        return
    keys = model.spec.qk_nope_head_dim
    found = (m for m in (*model.layers.modules(), *twin.layers.modules()) if isinstance(m, MultiHeadLatentAttention))
    both = [attention.kv_b_proj for attention in found]
    for source, target in zip(both[: len(both) // 2], both[len(both) // 2 :], strict=True):
        of_heads_HEC = source.matrix(EXACT).unflatten(0, (model.spec.num_attention_heads, -1))
        key_HPC, value_HVC = of_heads_HEC[:, :keys], of_heads_HEC[:, keys:]
        key_HPC = rounded(key_HPC.transpose(1, 2), "q8").transpose(1, 2)
        target.weight.copy_(torch.cat((key_HPC, rounded(value_HVC, "q8")), 1).flatten(0, 1))
        target.rounds = False


def _cast(exact: Tensor, dtype: Dtype) -> Tensor:
    return rounded(exact, dtype) if dtype == "q8" or dtype == "q4" else exact.to(DTYPES[dtype])


def _frozen(value: Tensor) -> nn.Parameter:
    return nn.Parameter(value, requires_grad=False)


def _products(model: Transformer, twin: Transformer, dtype: Dtype) -> Iterator[tuple[nn.Module, nn.Module]]:
    """The projections of both that are computed in the twin's own dtype."""
    found = dict(twin.layers.named_modules())
    for name, source in model.layers.named_modules():
        if isinstance(source, Linear | Experts):
            stays = bool(source.packed) and not source.lora and dtype not in ROUNDED
            if not stays:
                yield source, found[name]

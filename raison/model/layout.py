"""How documents of different lengths share one flat batch: no padding for the linear maps, little for attention.

All tokens of a batch stand in one row of N; documents are sorted by length and attention runs once per bucket of
similar lengths, each document padded to the longest of its bucket and buckets to round sizes, since kernels are made
by shape. Positions restart with each document and none sees another. Not covered: documents longer than memory allows.

Legend: N tokens of the batch, D documents of a bucket, L its longest document, H heads, E width of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from raison.model.autograd import PickRows, SpreadRows, call

DOCUMENT_STEP, LENGTH_STEP = 8, 32


@dataclass(frozen=True, slots=True)
class Bucket:
    """A run of documents of similar length: tokens [start, stop) of the flat batch."""

    start: int
    stop: int
    documents: int
    longest: int
    places_n: Tensor | None
    """Each token's place among the D*L padded ones; None when there is one document."""

    def pad(self, x_NHE: Tensor) -> Tensor:
        """[N, H, E] -> [D, H, L, E], zeros after each document's end."""
        run = x_NHE[self.start : self.stop]
        if self.places_n is not None:
            run = call(SpreadRows, run, self.places_n, self.documents * self.longest)
        return run.view(self.documents, self.longest, *run.shape[1:]).transpose(1, 2)

    def unpad(self, x_DHLE: Tensor) -> Tensor:
        """[D, H, L, E] -> [n, H, E], the bucket's own tokens."""
        flat = x_DHLE.transpose(1, 2).flatten(0, 1)
        picked: Tensor = flat if self.places_n is None else call(PickRows, flat, self.places_n)
        return picked


@dataclass(frozen=True, slots=True)
class Layout:
    """Where each document of a flat batch stands. `lengths` are in the order of the flat batch."""

    lengths: tuple[int, ...]
    positions_N: Tensor
    buckets: tuple[Bucket, ...]
    padding: int = 0
    """Tokens at the end that belong to no document: they attend to nothing, and nobody reads them."""

    @classmethod
    def of(cls, lengths: Sequence[int], max_waste: float = 0.25, padding: int = 0) -> Layout:
        """Lay out documents that stand one after another; a bucket ends where padding exceeds `max_waste` of it."""
        positions = [torch.arange(n) for n in (*lengths, *[1] * padding)]
        return cls(tuple(lengths), torch.cat(positions), tuple(_buckets(lengths, max_waste)), padding)


def _buckets(lengths: Sequence[int], max_waste: float) -> list[Bucket]:
    """Runs that end before padding exceeds `max_waste` of them."""
    buckets, first, start, tokens, longest = [], 0, 0, 0, 0
    for place, length in enumerate(lengths):
        padded = (place - first + 1) * max(longest, length)
        if place > first and 1 - (tokens + length) / padded > max_waste:
            buckets.append(_bucket(start, lengths[first:place]))
            first, start, tokens, longest = place, start + tokens, 0, 0
        tokens, longest = tokens + length, max(longest, length)
    if lengths:
        buckets.append(_bucket(start, lengths[first:]))
    return buckets


def _bucket(start: int, run: Sequence[int]) -> Bucket:
    longest = max(run)
    stop = start + sum(run)
    if len(run) == 1:
        return Bucket(start, stop, 1, longest, None)
    documents, longest = _rounded(len(run), DOCUMENT_STEP), _rounded(longest, LENGTH_STEP)
    lengths_D1 = torch.tensor([*run, *[0] * (documents - len(run))]).unsqueeze(1)
    real_DL = torch.arange(longest).unsqueeze(0) < lengths_D1
    return Bucket(start, stop, documents, longest, real_DL.flatten().nonzero().squeeze(1))


def _rounded(count: int, step: int) -> int:
    return -(-count // step) * step

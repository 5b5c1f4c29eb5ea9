"""Tensors as GGUF stores them, expanded by torch: F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q4_K, Q6_K.

Values equal those of ggml's reference, `dequantize_row_*` in ggml-quants.c, bit for bit: the same products and sums in
fp32, in the same order. Not covered: the other quantisations (Q5_*, Q2_K, Q3_K, Q5_K, IQ*, TQ*, MXFP4) and big-endian
data.

Shapes: N blocks, B bytes of a block, E elements of a block.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

CHUNK = 1 << 18
"""Elements expanded at a time: their intermediate results stay in a core's cache."""


@dataclass(frozen=True, slots=True)
class BlockFormat:
    code: int
    """Its number in a GGUF file."""
    elements: int
    bytes: int


FORMATS = {
    "F32": BlockFormat(0, 1, 4),
    "F16": BlockFormat(1, 1, 2),
    "Q4_0": BlockFormat(2, 32, 18),
    "Q4_1": BlockFormat(3, 32, 20),
    "Q8_0": BlockFormat(8, 32, 34),
    "Q4_K": BlockFormat(12, 256, 144),
    "Q6_K": BlockFormat(14, 256, 210),
    "BF16": BlockFormat(30, 1, 2),
}
PLAIN = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


@dataclass(frozen=True, slots=True, eq=False)
class GgufBlocks:
    """A tensor of a GGUF file; satisfies `PackedMatrix`. It may lie in a read-only mapping: nothing here writes."""

    kind: str
    shape: tuple[int, ...]
    data: Tensor
    """uint8 [bytes], contiguous, from an even offset of its storage for F16, BF16 and quantised data, of 4 for F32."""

    def __post_init__(self) -> None:
        format = FORMATS[self.kind]
        assert self.data.dtype == torch.uint8 and self.data.dim() == 1 and self.data.is_contiguous()
        assert self.shape and self.shape[-1] % format.elements == 0, f"{self.shape} does not divide into {self.kind}"
        assert self.data.numel() * format.elements == prod(self.shape) * format.bytes

    @property
    def nbytes(self) -> int:
        return self.data.numel()

    def expand(self, dtype: torch.dtype = torch.float32) -> Tensor:
        return self.expand_into(torch.empty(self.shape, dtype=dtype))

    def expand_into(self, out: Tensor) -> Tensor:
        assert out.shape == self.shape and out.is_contiguous()
        if self.kind in PLAIN:
            return out.copy_(self.data.view(PLAIN[self.kind]).view(self.shape))
        format, unpack = FORMATS[self.kind], UNPACK[self.kind]
        raw_NB, out_NE = self.data.view(-1, format.bytes), out.view(-1, format.elements)
        step = CHUNK // format.elements
        buffer = None if out.dtype == torch.float32 else torch.empty(min(step, len(raw_NB)), format.elements)
        for raw, chunk in zip(raw_NB.split(step), out_NE.split(step), strict=True):
            if buffer is None:
                unpack(raw, chunk)
            else:
                unpack(raw, buffer[: len(raw)])
                chunk.copy_(buffer[: len(raw)])
        return out

    def rows(self, start: int, stop: int) -> GgufBlocks:
        assert 0 <= start <= stop <= self.shape[0]
        shape = (stop - start, *self.shape[1:])
        return GgufBlocks(self.kind, shape, self.data[self._bytes_before(start) : self._bytes_before(stop)])

    def _bytes_before(self, row: int) -> int:
        """A row of more than one dimension always ends with a block; a vector is cut between its blocks alone."""
        blocks, rest = divmod(row * prod(self.shape[1:]), FORMATS[self.kind].elements)
        assert rest == 0, f"{self.kind} is cut at a multiple of {FORMATS[self.kind].elements}, not at {row}"
        return blocks * FORMATS[self.kind].bytes


def _q4_0(raw_NB: Tensor, out_NE: Tensor) -> None:
    """d (q - 8)."""
    out_NE.copy_(_nibbles(raw_NB[:, 2:]).view(torch.int8).sub_(8))
    out_NE.mul_(_halves(raw_NB[:, :2]))


def _q4_1(raw_NB: Tensor, out_NE: Tensor) -> None:
    """d q + m."""
    out_NE.copy_(_nibbles(raw_NB[:, 4:]))
    out_NE.mul_(_halves(raw_NB[:, :2])).add_(_halves(raw_NB[:, 2:4]))


def _q8_0(raw_NB: Tensor, out_NE: Tensor) -> None:
    """d q."""
    out_NE.copy_(raw_NB[:, 2:].view(torch.int8))
    out_NE.mul_(_halves(raw_NB[:, :2]))


def _q4_k(raw_NB: Tensor, out_NE: Tensor) -> None:
    """d s q - m t, with a scale s and a minimum t of 6 bits for each of 8 groups of 32."""
    d, m = _halves(raw_NB[:, :2]), _halves(raw_NB[:, 2:4])
    scale, minimum, high = raw_NB[:, 4:8], raw_NB[:, 8:12], raw_NB[:, 12:16]
    scale_N8 = torch.cat((scale & 63, (high & 15) | ((scale >> 2) & 48)), 1)
    minimum_N8 = torch.cat((minimum & 63, (high >> 4) | ((minimum >> 2) & 48)), 1)
    out_NE.copy_(_nibbles(raw_NB[:, 16:].unflatten(1, (4, 32))).flatten(1))
    groups = out_NE.unflatten(1, (8, 32))
    groups.mul_((d * scale_N8).unsqueeze(2)).sub_((m * minimum_N8).unsqueeze(2))


def _q6_k(raw_NB: Tensor, out_NE: Tensor) -> None:
    """d s (q - 32), with a scale s of 8 bits for each of 16 groups of 16."""
    low = _nibbles(raw_NB[:, :128].unflatten(1, (2, 64)))
    bits = raw_NB[:, 128:192].unflatten(1, (2, 32))
    high = torch.cat((bits << 4, bits << 2, bits, bits >> 2), 2).bitwise_and_(48)
    out_NE.copy_(low.add_(high).view(torch.int8).sub_(32).flatten(1))
    scale_N16 = _halves(raw_NB[:, 208:]) * raw_NB[:, 192:208].view(torch.int8)
    out_NE.unflatten(1, (16, 16)).mul_(scale_N16.unsqueeze(2))


def _nibbles(packed: Tensor) -> Tensor:
    """uint8 [..., b] -> uint8 [..., 2b] of 0 to 15: all lower halves, then all upper ones."""
    return torch.cat((packed, packed >> 4), -1).bitwise_and_(15)


def _halves(raw: Tensor) -> Tensor:
    """[N, 2] bytes of an fp16 number -> fp32 [N, 1]."""
    return raw.view(torch.float16).float()


UNPACK: dict[str, Callable[[Tensor, Tensor], None]] = {
    "Q4_0": _q4_0,
    "Q4_1": _q4_1,
    "Q8_0": _q8_0,
    "Q4_K": _q4_k,
    "Q6_K": _q6_k,
}

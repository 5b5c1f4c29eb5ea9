"""Weights in FP8 with a scale for each block of 128 x 128, as DeepSeek-V3 and R1 are published.

The value is weight * weight_scale_inv: it is multiplied, whatever "inv" says (DeepSeek-V3, README_WEIGHTS.md and
`weight_dequant` in inference/kernel.py). Scales that are powers of two (V3.1's ue8m0) come as fp32 as well.
Not covered: packing, activations in FP8, e5m2, scales per tensor or per channel.

Shapes: F rows, D columns; f and d count their blocks, the last of which may be partial.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from raison.errors import CheckpointError
from raison.weights.families import BLOCK

CHUNK = 1 << 18
"""Elements expanded at a time: their intermediate results stay in a core's cache."""


@dataclass(frozen=True, slots=True, eq=False)
class Fp8Blocks:
    """A matrix in FP8; satisfies `PackedMatrix`. Raises CheckpointError when weight and scales do not fit together."""

    weight_FD: Tensor
    """float8_e4m3fn"""
    scale_fd: Tensor
    """fp32 [ceil((F + before) / 128), ceil(D / 128)]"""
    before: int = 0
    """Rows of the first block that a cut by `rows` has left out."""

    def __post_init__(self) -> None:
        weight, scale = self.weight_FD, self.scale_fd
        assert 0 <= self.before < BLOCK
        if weight.dtype != torch.float8_e4m3fn or weight.dim() != 2:
            raise CheckpointError(f"FP8 weights are matrices of float8_e4m3fn, not {weight.dtype} {list(weight.shape)}")
        blocks = (_blocks(weight.shape[0] + self.before), _blocks(weight.shape[1]))
        if scale.dtype != torch.float32 or scale.shape != blocks:
            raise CheckpointError(
                f"an FP8 weight of {list(weight.shape)} needs fp32 scales of {list(blocks)} in weight_scale_inv, "
                f"it has {scale.dtype} {list(scale.shape)}"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.weight_FD.shape)

    @property
    def nbytes(self) -> int:
        return self.weight_FD.nbytes + self.scale_fd.nbytes

    def expand(self, dtype: torch.dtype = torch.float32) -> Tensor:
        return self.expand_into(torch.empty(self.shape, dtype=dtype))

    def expand_into(self, out: Tensor) -> Tensor:
        assert out.shape == self.shape and out.is_contiguous()
        if not out.numel():
            return out
        rows, columns = self.shape
        step = min(BLOCK, max(1, CHUNK // columns))
        buffer = None if out.dtype == torch.float32 else torch.empty(step, columns)
        for block, scale_d in enumerate(self.scale_fd):
            begin, end = max(0, block * BLOCK - self.before), min(rows, (block + 1) * BLOCK - self.before)
            for weight, chunk in zip(self.weight_FD[begin:end].split(step), out[begin:end].split(step), strict=True):
                if buffer is None:
                    _scaled(weight, scale_d, chunk)
                else:
                    chunk.copy_(_scaled(weight, scale_d, buffer[: len(chunk)]))
        return out

    def rows(self, start: int, stop: int) -> Fp8Blocks:
        assert 0 <= start <= stop <= self.shape[0]
        first, before = divmod(self.before + start, BLOCK)
        last = first + _blocks(before + stop - start)
        return Fp8Blocks(self.weight_FD[start:stop], self.scale_fd[first:last], before)


def _scaled(weight_RD: Tensor, scale_d: Tensor, out_RD: Tensor) -> Tensor:
    """Up to 128 rows of one row of blocks into fp32."""
    _widen(weight_RD, out_RD)
    whole = weight_RD.shape[1] // BLOCK
    out_RD[:, : whole * BLOCK].unflatten(1, (whole, BLOCK)).mul_(scale_d[:whole, None])
    if whole < len(scale_d):
        out_RD[:, whole * BLOCK :].mul_(scale_d[whole])
    return out_RD


def _widen(weight: Tensor, out: Tensor) -> None:
    """e4m3 -> fp32, several times as fast as torch's own conversion.

    The bits S EEEE MMM moved into fp16 as S 0EEEE MMM0000000 are the same number over 2^8, since the exponents' biases
    are 7 and 15; only NaN, which is S 1111 111, would come out as 480.
    """
    bits = weight.view(torch.int8)
    out.copy_((bits.short() << 8 >> 1).bitwise_and_(~(1 << 14)).view(torch.float16)).mul_(256.0)
    magnitude = bits & 127
    if magnitude.amax() == 127:
        out.masked_fill_(magnitude == 127, torch.nan)


def _blocks(length: int) -> int:
    return -(-length // BLOCK)

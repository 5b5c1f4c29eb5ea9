"""A line of the cache: what one token keeps of one layer, in 32, 16 or 8 bits a number.

In 8 bits each part of a line (a head's key or value, or a whole latent) is rounded by itself: groups of up to 128
numbers x = s q, q from -127 to 127 and s = max |x| / 127 in fp32, rounded to the nearest, to even in the middle: 8.25
to 8.5 bits a number. Here a line's scales stand behind its numbers; native code has an order of its own within a page
(kernels/cache.hpp), and the same values. Not covered: whose lines they are (cache.py).

Legend: W numbers of a line before rounding, E of a part, U groups of a part, M elements that are kept of a line.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from raison.model.spec import ModelSpec

CacheDtype = Literal["auto", "fp32", "fp16", "q8"]
NUMBERS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16, "q8": torch.int8}
GROUP = 128
SCALE_BYTES = 4


def numbers_of(asked: CacheDtype, weights: str) -> torch.dtype:
    """What the cache is kept in: auto is half beside weights of 8 or 4 bits, and else as wide as the weights.

    A trainer's log-probabilities are to be the engine's, so that fp32 stays fp32. Half and not bfloat16, for its 11
    bits of precision instead of 8: what is cached comes from normed rows and lies far within its range.
    """
    return NUMBERS[asked if asked != "auto" else "fp16" if weights in ("q8", "q4") else weights]


@dataclass(frozen=True, slots=True)
class LineForm:
    """How a model's lines are kept: `parts` of `part` numbers each."""

    parts: int
    part: int
    dtype: torch.dtype

    @classmethod
    def of(cls, spec: ModelSpec, dtype: torch.dtype) -> LineForm:
        part = spec.cache_width if spec.is_latent else spec.qk_head_dim
        return cls(spec.cache_width // part, part, dtype)

    @property
    def width(self) -> int:
        return self.parts * self.part

    @property
    def groups(self) -> int:
        """With a scale, of a part; none but in 8 bits."""
        return -(-self.part // GROUP) if self.dtype == torch.int8 else 0

    @property
    def elements(self) -> int:
        """Of `dtype`, that a line is kept as."""
        return self.width + self.parts * self.groups * SCALE_BYTES

    @property
    def nbytes(self) -> int:
        return self.elements * self.dtype.itemsize

    def kept(self, x_NW: Tensor) -> Tensor:
        """As the cache keeps it, [N, M]; what is beyond half's range becomes the end of it."""
        if self.dtype == torch.int8:
            return self._rounded(x_NW.float())
        most = torch.finfo(self.dtype).max
        return x_NW if x_NW.dtype == self.dtype else x_NW.clamp(-most, most).to(self.dtype)

    def read(self, lines: Tensor, dtype: torch.dtype) -> Tensor:
        """[..., M] as it was kept -> [..., W]."""
        if self.dtype != torch.int8:
            return lines.to(dtype)
        numbers, scales = lines.split((self.width, self.elements - self.width), dim=-1)
        scales_U = scales.contiguous().view(torch.float32).unflatten(-1, (self.parts, self.groups))
        scales_E = scales_U.repeat_interleave(GROUP, -1)[..., : self.part]
        values: Tensor = (numbers * scales_E.flatten(-2)).to(dtype)
        return values

    def _rounded(self, x_NW: Tensor) -> Tensor:
        x_NPE = x_NW.unflatten(-1, (self.parts, self.part))
        groups_NPUg = F.pad(x_NPE, (0, -self.part % GROUP)).unflatten(-1, (-1, GROUP))
        top_NPU1 = groups_NPUg.abs().amax(-1, keepdim=True)
        inverse_NPU1 = torch.where(top_NPU1 > 0, 127 / top_NPU1, 0.0)
        bytes_NPE = (groups_NPUg * inverse_NPU1).round().to(torch.int8).flatten(-2)[..., : self.part]
        scales_NU = (top_NPU1 / 127).flatten(1)
        return torch.cat((bytes_NPE.flatten(1), scales_NU.view(torch.int8)), dim=1)

"""Newton-Schulz iterations that make matrices nearly orthogonal: the heart of Muon (optim.py). Pure functions.

Jordan et al. 2024 (kellerjordan.github.io/posts/muon): five steps of an odd quintic on the matrix divided by its
Frobenius norm. Differs from that text: matrices of one shape, transposed ones included, go through in batches that
fit a core's cache, since for small models the calls and the fresh memory would cost more than the products. Not
covered: distributed matrices, other polynomials.

Legend: K matrices in a batch, R rows <= C columns.
"""

from __future__ import annotations

from collections import defaultdict

import torch
from torch import Tensor

QUINTIC = (3.4445, -4.7750, 2.0315)
"""Jordan's a x + b x^3 + c x^5: steepest at 0; singular values end in about [0.7, 1.2]."""
NORM_FLOOR = 1e-7
BATCH_ELEMENTS = 1 << 18
"""Of one batch; fastest of the powers of two for 128 x 128 matrices in bf16, 1.6 times faster than one batch of all."""


def products_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where this machine multiplies it faster than float32, else float32. By instruction set, not by a
    timing, so that the same machine always takes the same."""
    if device.type == "cuda":
        return torch.bfloat16
    able = torch.cpu.get_capabilities()
    return torch.bfloat16 if any(able.get(name) for name in ("avx512_bf16", "amx_bf16")) else torch.float32


def orthogonalise_(matrices: list[Tensor], dtype: torch.dtype = torch.float32) -> None:
    """Bring the singular values of each matrix [R, C], or of each in a stack [E, R, C], near 1, in place."""
    by_shape: dict[tuple[int, int], list[Tensor]] = defaultdict(list)
    for matrix in matrices:
        wide = matrix.mT if matrix.shape[-2] > matrix.shape[-1] else matrix
        by_shape[wide.shape[-2], wide.shape[-1]].extend(wide.unbind() if wide.ndim == 3 else [wide])
    for (rows, columns), views in by_shape.items():
        size = max(1, BATCH_ELEMENTS // (rows * columns))
        for start in range(0, len(views), size):
            batch = views[start : start + size]
            torch._foreach_copy_(batch, list(newton_schulz(torch.stack(batch), dtype).unbind()))


def newton_schulz(x_KRC: Tensor, dtype: torch.dtype = torch.float32, steps: int = 5) -> Tensor:
    """[K, R, C] with R <= C -> nearly orthogonal rows, in `dtype`. A zero matrix stays zero."""
    a, b, c = QUINTIC
    norm_K11 = torch.linalg.vector_norm(x_KRC, dim=(-2, -1), keepdim=True)
    x_KRC = (x_KRC / (norm_K11 + NORM_FLOOR)).to(dtype)
    for _ in range(steps):
        gram_KRR = x_KRC @ x_KRC.mT
        poly_KRR = torch.baddbmm(gram_KRR, gram_KRR, gram_KRR, beta=b, alpha=c)
        x_KRC = torch.baddbmm(x_KRC, poly_KRR, x_KRC, beta=a)
    return x_KRC

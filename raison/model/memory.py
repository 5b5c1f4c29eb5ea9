"""Room for numbers: zeroed memory that is taken where it is touched, in huge pages where they help.

Fresh pages are what loading a model mostly costs: 4 KB at a time, 512 MB take 0.2 s here, and 0.03 s in pages of 2 MB
(1 s either way where a virtual machine's host has to find the memory first).
Where there is no such mapping (Windows) it is ordinary memory. Not covered: weights that stay in their file
(weights/mapped_file.py), what a training step needs in passing (hardware.steady_memory).
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

ALIGNMENT = 64
"""A cache line, and the widest vector."""


def lazy_zeros(shape: Sequence[int], dtype: torch.dtype, huge: bool = False) -> Tensor:
    """Zeros that cost nothing before they are written or read; `huge` for what will be filled from end to end."""
    count = math.prod(shape)
    if count == 0 or not hasattr(mmap, "MAP_ANONYMOUS"):
        return torch.zeros(tuple(shape), dtype=dtype)
    pages = mmap.mmap(-1, count * dtype.itemsize, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if huge and hasattr(mmap, "MADV_HUGEPAGE"):
        pages.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(pages, dtype=dtype).view(tuple(shape))


def materialise(model: nn.Module) -> None:
    """Give the parameters and buffers of a model that has no memory one room together; they are zero."""
    holders: list[tuple[Any, str]] = [
        (table, name) for m in model.modules() for table in (m._parameters, m._buffers) for name in table
    ]
    held = {id(x): x for table, name in holders if (x := table[name]) is not None}
    starts, size = {}, 0
    for key, x in held.items():
        starts[key] = size
        size += -(-x.nbytes // ALIGNMENT) * ALIGNMENT
    room = lazy_zeros([size], torch.uint8, huge=True)
    placed = {key: _placed(x, room[starts[key] : starts[key] + x.nbytes]) for key, x in held.items()}
    for table, name in holders:
        if (x := table[name]) is not None:
            table[name] = placed[id(x)]  # a tied matrix stays one


def _placed(like: Tensor, raw: Tensor) -> Tensor:
    value = raw.view(like.dtype).view(like.shape)
    return nn.Parameter(value, requires_grad=like.requires_grad) if isinstance(like, nn.Parameter) else value

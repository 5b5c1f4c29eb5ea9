"""Where tensors stand, how arrays of the host get there, and how a step is recorded: all that is particular to CUDA.

A recorded step costs one call instead of hundreds, and reads and writes the same memory each time (CUDA graphs). On the
CPU the same step is called instead, on the same memory. No GPU was at hand when this was written: what names torch.cuda
has never been run. Not covered: several GPUs, other makers' devices.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Protocol

import torch
from numpy.typing import NDArray
from torch import Tensor

from raison.errors import UserError

Device = Literal["cpu", "cuda"]
CPU = torch.device("cpu")
Step = Callable[[], Tensor]


def device_of(name: Device) -> torch.device:
    """Raises UserError for a device that is not there, or not known."""
    if name not in ("cpu", "cuda"):
        raise UserError(f'device is "{name}"; it must be "cpu" or "cuda"')
    if name == "cpu":
        return CPU
    if not torch.cuda.is_available():
        raise UserError(
            'device is "cuda", but PyTorch finds no GPU; use "cpu", or install the CUDA build of torch and the driver'
        )
    return torch.device("cuda", torch.cuda.current_device())


def pinned(array: NDArray[Any], device: torch.device) -> Tensor:
    """Where the device can fetch it while the host goes on; PyTorch keeps that memory until it has."""
    host = torch.from_numpy(array)
    return host if device == CPU else host.pin_memory()


def handed(array: NDArray[Any], device: torch.device) -> Tensor:
    """The array on the device."""
    return pinned(array, device).to(device, non_blocking=True)


class Capture(Protocol):
    def record(self, step: Step) -> Step:
        """What does `step` again and gives its result, at one place that the next call overwrites."""


class Eager:
    """Calls the step each time."""

    def record(self, step: Step) -> Step:
        out = step()
        return lambda: out.copy_(step())


class Graph:
    """Records the step's kernels and plays them again. Every graph takes its memory from one pool.

    That is sound because one step ends before the next begins, and its result is read before that.
    """

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()

    def record(self, step: Step) -> Step:
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            step()  # libraries make what they need on first use, which cannot be recorded
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            out = step()

        def play() -> Tensor:
            graph.replay()
            return out

        return play


def asks_host_for_groups(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether torch's grouped product needs its groups' sizes on the host, which cannot be recorded.

    PyTorch's does but for bf16 on compute capability 9.x and 10.x (its aten/src/ATen/native/cuda/GroupedBlas.cpp).
    """
    return dtype != torch.bfloat16 or torch.cuda.get_device_capability(device)[0] not in (9, 10)


def free_bytes(device: torch.device) -> int:
    """Memory of a GPU that nobody has taken."""
    return torch.cuda.mem_get_info(device)[0]

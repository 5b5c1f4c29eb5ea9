"""Who computes an engine's steps: native code, PyTorch, or PyTorch in steps of few shapes, which CUDA records.

Not covered: what they compute (native_runner.py, runner.py, captured.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from raison.engine.cache import LatentCache
from raison.engine.captured import CapturedRunner
from raison.engine.device import device_of
from raison.engine.kernels.native import why_not
from raison.engine.kernels.weights import Precision
from raison.engine.native_runner import NativeRunner
from raison.engine.runner import Runner
from raison.engine.slots import Slots
from raison.engine.twin import ROUNDED
from raison.errors import UserError
from raison.model.transformer import Transformer

if TYPE_CHECKING:
    from raison.engine.engine import EngineSettings


def captures(settings: EngineSettings) -> bool:
    """Whether decode steps have few shapes."""
    return settings.device != "cpu" or settings.kernels == "captured"


def check(settings: EngineSettings) -> None:
    """Raises UserError for a device that is not there, and for what captured steps cannot do."""
    device_of(settings.device)
    if not captures(settings):
        return
    if settings.dtype in ROUNDED:
        raise UserError(f'dtype is "{settings.dtype}", which native code computes in on the CPU; here use bf16 or fp32')
    if settings.speculation == "mtp":
        raise UserError('speculation is "mtp", which only the CPU computes; use "lookup", "auto" or "none"')


def native_width(model: Transformer, settings: EngineSettings) -> Precision | None:
    """The width in which native code runs the model; None where PyTorch must."""
    width = settings.dtype
    if settings.kernels != "auto" or captures(settings) or width == "bf16" or why_not(model, width) is not None:
        return None
    return width


def runner_of(
    model: Transformer, slots: Slots, cache: LatentCache, settings: EngineSettings, predicts: bool
) -> Runner | NativeRunner:
    native = native_width(model, settings)
    if native is not None:
        return NativeRunner(model, slots, cache, native, predicts)
    if captures(settings):
        record = settings.device != "cpu" and settings.kernels != "torch"
        return CapturedRunner(model, slots, cache, settings.dtype, record)
    return Runner(model, slots, cache, settings.dtype, predicts)

"""Who computes an engine's steps: native code, PyTorch, or PyTorch in steps of few shapes, which CUDA records.

Not covered: what they compute (native_runner.py, runner.py, captured.py).
"""

from __future__ import annotations

from raison.engine.cache import LatentCache
from raison.engine.captured import CapturedRunner
from raison.engine.kernels.native import why_not
from raison.engine.kernels.weights import Precision
from raison.engine.native_runner import NativeRunner
from raison.engine.runner import Runner
from raison.engine.settings import EngineSettings
from raison.engine.slots import Slots
from raison.model.transformer import Transformer


def native_width(model: Transformer, settings: EngineSettings) -> Precision | None:
    """The width in which native code runs the model; None where PyTorch must."""
    width = settings.dtype
    if settings.kernels != "auto" or settings.captures or width == "bf16" or why_not(model, width) is not None:
        return None
    return width


def runner_of(
    model: Transformer, slots: Slots, cache: LatentCache, settings: EngineSettings, predicts: bool
) -> Runner | NativeRunner:
    native = native_width(model, settings)
    if native is not None:
        return NativeRunner(model, slots, cache, native, predicts)
    if settings.captures:
        record = settings.device != "cpu" and settings.kernels != "torch"
        return CapturedRunner(model, slots, cache, settings.dtype, record)
    return Runner(model, slots, cache, settings.dtype, predicts)

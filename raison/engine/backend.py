"""Who computes an engine's steps: native code, PyTorch, or PyTorch in steps of few shapes, which CUDA records.

With it goes where guesses come from, and so what a token takes of the cache: all that can be said before an engine is
made. Not covered: what runners compute (native_runner.py, runner.py, captured.py).
"""

from __future__ import annotations

from typing import Literal

from raison.engine.cache import LatentCache, numbers_of
from raison.engine.captured import CapturedRunner
from raison.engine.kernels.native import why_not
from raison.engine.kernels.weights import Precision
from raison.engine.native_runner import NativeRunner
from raison.engine.runner import Runner
from raison.engine.settings import EngineSettings
from raison.engine.slots import Slots
from raison.errors import UserError
from raison.model.transformer import Transformer

Guessing = Literal["none", "mtp", "lookup"]


def native_width(model: Transformer, settings: EngineSettings) -> Precision | None:
    """The width in which native code runs the model; None where PyTorch must."""
    width = settings.dtype
    if settings.kernels != "auto" or settings.captures or width == "bf16" or why_not(model, width) is not None:
        return None
    return width


def guessing_of(model: Transformer, settings: EngineSettings) -> Guessing:
    """Where guesses come from. Raises UserError where the model lacks what the settings ask for."""
    asked, predicts = settings.speculation, model.spec.num_nextn_predict_layers > 0
    if asked == "mtp" and not predicts:
        raise UserError('speculation is "mtp", but this model has no MTP module; use "lookup" or "auto"')
    if asked != "auto":
        return asked
    if native_width(model, settings) is None:
        return "none"
    return "mtp" if predicts else "lookup"


def cached_layers(model: Transformer, settings: EngineSettings) -> int:
    """Layers of the cache; an MTP module has one for itself."""
    return model.spec.num_hidden_layers + (guessing_of(model, settings) == "mtp")


def token_bytes(model: Transformer, settings: EngineSettings) -> int:
    """Bytes that a token takes in the cache."""
    numbers = numbers_of(settings.cache_dtype, settings.dtype)
    return cached_layers(model, settings) * model.spec.cache_width * numbers.itemsize


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

"""Who computes an engine's steps: native code, PyTorch, or PyTorch in steps of few shapes, which CUDA records.

With it goes where guesses come from, and so what a token takes of the cache: all that can be said before an engine is
made. Not covered: what runners compute (native_runner.py, runner.py, captured.py).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from raison.engine.cache import LatentCache
from raison.engine.captured import CapturedRunner
from raison.engine.device import device_of
from raison.engine.kernels.native import why_not
from raison.engine.kernels.weights import Precision
from raison.engine.line import LineForm, numbers_of
from raison.engine.native_runner import NativeRunner
from raison.engine.runner import Runner
from raison.engine.settings import Draft, EngineSettings
from raison.engine.slots import Slots
from raison.errors import UserError
from raison.model.transformer import Transformer

Guessing = Literal["none", "mtp", "lookup", "draft"]


def native_width(model: Transformer, settings: EngineSettings) -> Precision | None:
    """The width in which native code runs the model; None where PyTorch must."""
    width = settings.dtype
    if settings.kernels != "auto" or settings.captures or width == "bf16" or why_not(model, width) is not None:
        return None
    return width


def guessing_of(model: Transformer, settings: EngineSettings, draft: Draft | None = None) -> Guessing:
    """Where guesses come from. Raises UserError where what the settings ask for is not there, or not asked for."""
    asked, predicts = settings.speculation, model.spec.num_nextn_predict_layers > 0
    if asked == "draft" and draft is None:
        raise UserError('speculation is "draft", but there is no draft model; give one, or use "auto"')
    if draft is not None and asked not in ("draft", "auto"):
        raise UserError(f'a draft model is given, but speculation is "{asked}"; use "draft" or "auto", or leave it out')
    if asked == "mtp" and not predicts:
        raise UserError('speculation is "mtp", but this model has no MTP module; use "lookup" or "auto"')
    if asked != "auto":
        return asked
    if native_width(model, settings) is None:
        return "none"
    return "draft" if draft is not None else "mtp" if predicts else "lookup"


def cache_of(model: Transformer, settings: EngineSettings, guessing: Guessing) -> LatentCache:
    """The cache that the settings plan; an MTP module has a layer for itself."""
    size = settings.page_size
    return LatentCache(
        cached_layers(model, guessing), settings.cache_tokens // size, size, line_of(model, settings),
        device_of(settings.device), settings.swap_tokens // size,
    )  # fmt: skip


def line_of(model: Transformer, settings: EngineSettings) -> LineForm:
    return LineForm.of(model.spec, numbers_of(settings.cache_dtype, settings.dtype))


def cached_layers(model: Transformer, guessing: Guessing) -> int:
    return model.spec.num_hidden_layers + (guessing == "mtp")


def token_bytes(model: Transformer, settings: EngineSettings, draft: Draft | None = None) -> int:
    """Bytes that a token takes in the cache, and in that of the draft model if it is used."""
    guessing = guessing_of(model, settings, draft)
    own = cached_layers(model, guessing) * line_of(model, settings).nbytes
    if draft is None or guessing != "draft":
        return own
    return own + token_bytes(draft.model, drafting(settings, draft))


def drafting(settings: EngineSettings, draft: Draft) -> EngineSettings:
    """What the draft model computes by. Nothing of it is swapped: it reads again."""
    return replace(settings, dtype=draft.dtype, speculation="none", swap_tokens=0)


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


def draft_runner(draft: Draft, slots: Slots, cache: LatentCache, settings: EngineSettings) -> Runner | NativeRunner:
    """Who computes the draft model, in a cache of its own beside the model's."""
    settings = drafting(settings, draft)
    cache.beside = cache_of(draft.model, settings, "none")
    return runner_of(draft.model, slots, cache.beside, settings, predicts=False)

"""The seam to the native step: find the library, hand over shapes, weights and one step's arrays.

The package's build compiles step.cpp twice, for AVX-512 and for AVX2; which one runs is decided here, at run time, from
the processor's own flags. Where no compiler was there at installation, or the processor has neither, `why_not` says so
and the engine runs on PyTorch: slower, the same numbers. Weights are packed once, and again by `refresh`: in fp32, or
rounded to 8 or 4 bits in groups of 32 (matrix.hpp), where blocks of a GGUF file that have that form already go over as
they are. Not covered: bf16 (see step.cpp).

Legend: N rows of the step, S sequences, n rows that are drawn, Y vocabulary.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raison import hardware
from raison.engine.kernels.weights import FP32, KINDS, Precision, Source, predictor_weights, weights_of
from raison.engine.slots import Ints, Records
from raison.engine.span import Wanted
from raison.model.layers import Linear
from raison.model.moe import Experts
from raison.model.packed import PackedMatrix
from raison.model.rope import rotation
from raison.model.spec import ModelSpec
from raison.model.transformer import Transformer
from raison.weights.gguf_blocks import GgufBlocks

VARIANTS = {"avx512": ("avx512f", "avx512dq", "avx512bw", "avx512vl", "avx512_vnni"), "avx2": ("avx2", "fma", "f16c")}
"""Library suffix -> the instruction sets it needs, the better first."""
FORMATS = {"fp32": 0, "q8": 8, "q4": 4}
MOST_CHOSEN = 64
PACKED_BYTES = 2 * 2**30
"""Packing copies the weights; a model larger than this runs on PyTorch, from its own."""
WARM = 1.07
"""Packed blocks take up to 36 bytes where a file has 34."""
POINTER = ctypes.c_void_p
LANES = 16
"""Rows of logits end at a whole vector of the widest variant."""


def fields(kind: type, names: str) -> list[tuple[str, type]]:
    return [(name, kind) for name in names.split()]


class _Shape(ctypes.Structure):
    _fields_ = (
        *fields(ctypes.c_int32, "vocabulary hidden layers heads q_rank kv_rank nope rope value inner experts chosen"),
        *fields(ctypes.c_int32, "expert_inner shared_inner groups kept_groups first_dense normalise"),
        *fields(ctypes.c_int32, "key_heads head qkv_bias out_bias qk_norm neighbours group_best sigmoid"),
        *fields(ctypes.c_int32, "format head_format joins"),
        *fields(ctypes.c_float, "routed_scale epsilon softmax_scale"),
        *fields(POINTER, "cosines sines"),
    )


class _Weight(ctypes.Structure):
    _fields_ = ("data", POINTER), *fields(ctypes.c_int32, "kind outputs inputs unused")


class StepArguments(ctypes.Structure):
    _fields_ = (
        *fields(ctypes.c_int32, "rows segments threads page_size"),
        *fields(POINTER, "ids positions starts slots blocks"),
        *fields(ctypes.c_int64, "blocks_stride"),
        *fields(POINTER, "cache"),
        *fields(ctypes.c_int64, "layer_stride"),
        *fields(POINTER, "outputs logits"),
        *fields(ctypes.c_int64, "logits_stride"),
        *fields(POINTER, "before states"),
        *fields(ctypes.c_int64, "cache_bits"),
    )

    @classmethod
    def of(cls, blocks: Ints, cache_ZGPM: Tensor) -> StepArguments:
        """Where the cache and its pages are; no rows yet."""
        return cls(
            page_size=cache_ZGPM.shape[2], blocks=address(blocks), blocks_stride=blocks.shape[1],
            cache=cache_ZGPM.data_ptr(), layer_stride=cache_ZGPM.stride(0),
            cache_bits=8 * cache_ZGPM.element_size(),
        )  # fmt: skip


class _Guess(ctypes.Structure):
    _fields_ = (
        ("first", StepArguments),
        *fields(ctypes.c_int64, "width"),
        *fields(POINTER, "most temperatures limits uniforms tokens"),
    )


class _Draw(ctypes.Structure):
    _fields_ = (
        *fields(ctypes.c_int32, "rows vocabulary threads unused"),
        *fields(POINTER, "logits"),
        *fields(ctypes.c_int64, "stride"),
        *fields(POINTER, "lines temperatures uniforms limits bias_starts bias_ids bias_values tokens logprobs"),
    )


@dataclass(frozen=True, slots=True)
class Library:
    """The variant in use; or None, and why there is none."""

    name: str | None
    handle: ctypes.CDLL | None
    why: str


@cache
def library() -> Library:
    """The best compiled variant that this processor can run."""
    able = runnable()
    if not able:
        return Library(None, None, "this processor has neither AVX-512 nor AVX2")
    compiled = [name for name in able if _built(name) is not None]
    if not compiled:
        return Library(None, None, "not compiled at installation; install a C++20 compiler and then Raison again")
    return opened(compiled[0])


def runnable() -> list[str]:
    """Variants that this processor has the instructions for, the best first."""
    flags = hardware.processor_flags()
    return [name for name, needs in VARIANTS.items() if flags.issuperset(needs)]


@cache
def opened(name: str) -> Library:
    """The compiled variant `name`."""
    path = _built(name)
    if path is None:
        return Library(None, None, f"{name} was not compiled at installation")
    try:
        return Library(name, _declared(ctypes.CDLL(str(path))), f"steps run on {name} code")
    except OSError as error:
        return Library(None, None, f"{path.name} cannot be loaded: {error}")


def _built(name: str) -> Path | None:
    return next(iter(sorted(Path(__file__).parent.glob(f"_step_{name}.*"))), None)


def _declared(handle: ctypes.CDLL) -> ctypes.CDLL:
    handle.raison_model.argtypes, handle.raison_model.restype = [ctypes.POINTER(_Shape)], POINTER
    handle.raison_pack.argtypes, handle.raison_pack.restype = [POINTER, POINTER, ctypes.c_int], None
    handle.raison_warm.argtypes, handle.raison_warm.restype = [ctypes.c_int64], None
    handle.raison_free.argtypes, handle.raison_free.restype = [POINTER], None
    handle.raison_step.argtypes, handle.raison_step.restype = [POINTER, ctypes.POINTER(StepArguments)], None
    handle.raison_guess.argtypes, handle.raison_guess.restype = [POINTER, ctypes.POINTER(_Guess)], None
    handle.raison_turns.argtypes, handle.raison_turns.restype = [POINTER, POINTER, POINTER], ctypes.c_int
    handle.raison_draw.argtypes, handle.raison_draw.restype = [ctypes.POINTER(_Draw)], None
    return handle


def why_not(model: Transformer, precision: Precision = "fp32") -> str | None:
    """Why this model cannot run on the native step, or None when it can."""
    if library().handle is None:
        return library().why
    if model.spec.num_experts_per_tok > MOST_CHOSEN:
        return f"native code sends a token to {MOST_CHOSEN} experts at most"
    if precision == "fp32" and any(isinstance(m, Linear | Experts) and m.packed for m in model.modules()):
        return "packed weights are expanded one at a time"
    if any(p.dtype != FP32 or p.device.type != "cpu" for p in model.parameters()):
        return "the weights are not all fp32 on the CPU"
    size = sum(p.numel() * 4 for p in model.parameters())
    if precision == "fp32" and size > PACKED_BYTES:
        return f"{size / 2**30:.1f} GiB of weights are too many to pack"
    return None


def warm(tensors: Mapping[str, PackedMatrix]) -> None:
    """Have the system find memory for these matrices' packed form, which takes longer than packing, in a thread.

    The next model that is packed gets it. Nothing is done where it would be more than half of what is left.
    """
    handle = library().handle
    size = int(WARM * sum(tensor.nbytes for tensor in tensors.values() if len(tensor.shape) == 2))
    if handle is not None and size <= hardware.available_memory() // 2:
        handle.raison_warm(size)


def _handed(source: Source) -> _Weight:
    outputs, inputs = source.shape if len(source.shape) == 2 else (1, source.shape[0])
    if isinstance(source, GgufBlocks):
        return _Weight(source.data.data_ptr(), KINDS[source.kind], outputs, inputs, 0)
    return _Weight(source.data_ptr(), 0, outputs, inputs, 0)


def _shape(spec: ModelSpec, precision: Precision, joins: bool, cosines: Tensor, sines: Tensor) -> _Shape:
    format, biased = FORMATS[precision], spec.topk_method == "noaux_tc"
    return _Shape(
        spec.vocab_size, spec.hidden_size, spec.num_hidden_layers, spec.num_attention_heads, spec.q_lora_rank or 0,
        spec.kv_lora_rank or 0, spec.qk_nope_head_dim, spec.qk_rope_head_dim, spec.v_head_dim, spec.intermediate_size,
        spec.n_routed_experts, spec.num_experts_per_tok, spec.moe_intermediate_size,
        spec.n_shared_experts * spec.moe_intermediate_size, spec.n_group,
        spec.n_group if spec.topk_method == "greedy" else spec.topk_group, spec.first_k_dense_replace,
        spec.norm_topk_prob, 0 if spec.is_latent else spec.key_value_heads, spec.qk_head_dim, spec.qkv_bias,
        spec.o_bias, spec.qk_norm, spec.is_latent or spec.rope_interleave, 2 if biased else 1, biased,
        format, 8 if format else 0, joins,
        spec.routed_scaling_factor, spec.rms_norm_eps, spec.softmax_scale, cosines.data_ptr(), sines.data_ptr(),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Rows:
    """One step's rows: whole sequences one after another, each in order."""

    ids_N: Ints
    places_N: Ints
    starts_S1: Ints
    """First row of each sequence, and the number of rows."""
    slots_S: Ints
    outputs_N: Ints
    """Line of the logits that a row is wanted for, or -1."""


class NativeStep:
    """A model's weights, packed. Not copied: the embedding, norms and biases."""

    def __init__(self, model: Transformer, longest: int, precision: Precision = "fp32") -> None:
        self._open(model, model.spec, longest, precision, joins=False)

    def _open(self, model: Transformer, spec: ModelSpec, longest: int, precision: Precision, joins: bool) -> None:
        handle = library().handle
        assert handle is not None, library().why
        self.library, self._model, self._raw = handle, model, precision != "fp32"
        angles = rotation(model.spec, torch.arange(longest)).squeeze(1)
        self._tables = angles.real.contiguous(), angles.imag.contiguous()
        self.handle = handle.raison_model(ctypes.byref(_shape(spec, precision, joins, *self._tables)))
        self._kept: list[Source] = []
        self.width = spec.hidden_size
        self.refresh()

    def __del__(self) -> None:
        if hasattr(self, "handle"):
            self.library.raison_free(self.handle)

    def _weights(self) -> Iterator[Source]:
        return weights_of(self._model, self._raw)

    @torch.no_grad()
    def refresh(self) -> None:
        """Take over the model's weights as they are now."""
        sources = [x.detach().contiguous() if isinstance(x, Tensor) else x for x in self._weights()]
        handed = (_Weight * len(sources))(*map(_handed, sources))
        self.library.raison_pack(self.handle, handed, torch.get_num_threads())
        embedding, *rest = sources
        self._kept = [embedding, *(x for x in rest if len(x.shape) == 1)]

    def run(self, rows: Rows, blocks: Ints, cache_ZGPM: Tensor, lines: int, states_ND: Tensor | None = None) -> Tensor:
        """Compute the rows into the cache; logits [lines, Y and padding to whole vectors].

        Normed states of all rows go to `states_ND` where it is given.
        """
        logits = self._room(lines)
        step = self._step(rows, blocks, cache_ZGPM, logits, None, states_ND)
        self.library.raison_step(self.handle, ctypes.byref(step))
        return logits

    def guess(self, rows: Rows, blocks: Ints, cache_ZGPM: Tensor, before_ND: Tensor | None, wanted: Wanted) -> Ints:
        """Tokens [K, S] behind the rows' stretches, of which the first `most_S` of each are meant.

        Args:
            rows: the last row of each stretch has an output; for an MTP module ids are those of the tokens after them.
            cache_ZGPM: its own layers.
            before_ND: for an MTP module, the model's normed states of the rows.
        """
        depth, stretches = wanted.uniforms_KS.shape
        logits = self._room(stretches)
        before_ND = None if before_ND is None else before_ND.contiguous()
        states_ND = None if before_ND is None else torch.empty_like(before_ND)
        tokens_KS = np.zeros((depth, stretches), np.int64)
        first = self._step(rows, blocks, cache_ZGPM, logits, before_ND, states_ND)
        order = _Guess(
            first, 0 if before_ND is None else before_ND.shape[1], address(wanted.most_S),
            address(wanted.temperatures_S), address(wanted.limits_S), address(wanted.uniforms_KS), address(tokens_KS),
        )  # fmt: skip
        self.library.raison_guess(self.handle, ctypes.byref(order))
        return tokens_KS

    def _room(self, lines: int) -> Tensor:
        return torch.empty(lines, -(-self._model.spec.vocab_size // LANES) * LANES)

    def _step(
        self,
        rows: Rows,
        blocks: Ints,
        cache_ZGPM: Tensor,
        logits: Tensor,
        before_ND: Tensor | None,
        states_ND: Tensor | None,
    ) -> StepArguments:
        return StepArguments(
            len(rows.ids_N), len(rows.slots_S), torch.get_num_threads(), cache_ZGPM.shape[2],
            address(rows.ids_N), address(rows.places_N), address(rows.starts_S1), address(rows.slots_S),
            address(blocks), blocks.shape[1], cache_ZGPM.data_ptr(), cache_ZGPM.stride(0), address(rows.outputs_N),
            logits.data_ptr(), logits.stride(0),
            *(None if x is None else x.data_ptr() for x in (before_ND, states_ND)), 8 * cache_ZGPM.element_size(),
        )  # fmt: skip


class NativePredictor(NativeStep):
    """The first MTP module, always in 8 bits: a guess need not be exact."""

    def __init__(self, model: Transformer, longest: int) -> None:
        first = model.spec.num_hidden_layers
        dense = 0 if model.spec.is_moe_layer(first) else 1
        spec = replace(model.spec, num_hidden_layers=1, first_k_dense_replace=dense)
        self._open(model, spec, longest, "q8", joins=True)

    def _weights(self) -> Iterator[Source]:
        return predictor_weights(self._model, self._raw)


@dataclass(frozen=True, slots=True)
class Biases:
    """What is added to which logits of n rows."""

    starts_n1: Ints
    ids_b: Ints
    values_b: NDArray[np.float32]

    @classmethod
    def of(cls, rows: int, asked: Mapping[int, Mapping[int, float]]) -> Biases | None:
        """Of those rows that ask for some, by id; None where none does."""
        if not asked:
            return None
        each = [asked.get(row, {}) for row in range(rows)]
        starts_n1 = np.cumsum([0, *map(len, each)])
        ids_b = np.asarray([token for biases in each for token in biases], np.int64)
        return cls(starts_n1, ids_b, np.asarray([bias for biases in each for bias in biases.values()], np.float32))


@dataclass(frozen=True, slots=True)
class Asks:
    """How each of n rows is drawn."""

    lines_n: Ints
    """From which line of the logits."""
    temperatures_n: NDArray[np.float32]
    uniforms_n: NDArray[np.float64]
    limits_n: Records
    """Filters, as Slots.limits."""
    biases: Biases | None = None


def draw(logits: Tensor, vocabulary: int, asks: Asks) -> tuple[Ints, NDArray[np.float32]]:
    """Tokens [n] and their log-probabilities [n], NaN where logits are not finite."""
    handle = library().handle
    assert handle is not None, library().why
    count = len(asks.lines_n)
    tokens_n, logprobs_n, biases = np.zeros(count, np.int64), np.full(count, np.nan, np.float32), asks.biases
    starts_ids_values = (biases.starts_n1, biases.ids_b, biases.values_b) if biases else (None,) * 3
    order = _Draw(
        count, vocabulary, torch.get_num_threads(), 0, logits.data_ptr(), logits.stride(0), address(asks.lines_n),
        address(asks.temperatures_n), address(asks.uniforms_n), address(asks.limits_n),
        *(None if part is None else address(part) for part in starts_ids_values),
        address(tokens_n), address(logprobs_n),
    )  # fmt: skip
    handle.raison_draw(ctypes.byref(order))
    return tokens_n, logprobs_n


def address(array: NDArray[Any]) -> int:
    """Where the numbers stand; a quarter of what `array.ctypes.data` costs, a dozen times a step."""
    assert array.flags.c_contiguous
    buffer: Any = array  # which the stubs do not know it is
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer)) if array.size else 0

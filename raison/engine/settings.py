"""What an engine is made with: sizes, numbers, where it computes, and how it guesses. Checked here, used in engine.py.

Not covered: what a request asks (sequence.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from raison.engine.device import Device, device_of
from raison.engine.line import CacheDtype
from raison.engine.twin import DTYPES, ROUNDED, Dtype
from raison.errors import UserError
from raison.model.transformer import Transformer
from raison.text.tokenizer import Tokenizer

Speculation = Literal["none", "auto", "mtp", "lookup", "draft"]


@dataclass(frozen=True, slots=True)
class Draft:
    """A smaller model of the same vocabulary, whose guesses the engine's own model checks (drafter.py)."""

    model: Transformer
    tokenizer: Tokenizer
    dtype: Dtype = "q8"
    """What it computes in: guesses need not be exact."""

    def check(self, model: Transformer, tokenizer: Tokenizer) -> None:
        """Raises UserError where it could not guess the model's tokens."""
        own, other = tokenizer.backend.get_vocab(), self.tokenizer.backend.get_vocab()
        if own != other:
            token, number = min(own.items() ^ other.items(), key=lambda pair: pair[1])
            whose = "the model" if own.get(token) == number else "the draft model"
            raise UserError(
                f"the draft model has another vocabulary ({len(other)} tokens against {len(own)}; only {whose} has "
                f"{token!r} as {number}); give a smaller model of the same family"
            )
        if self.model.spec.vocab_size > model.spec.vocab_size:
            raise UserError(
                f"the draft model has {self.model.spec.vocab_size} ids and the model {model.spec.vocab_size}; it would "
                "guess ids that the model has not"
            )


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """Sizes of an engine; every count is of tokens or sequences."""

    page_size: int = 16
    cache_tokens: int = 65536
    swap_tokens: int = 0
    """Room in ordinary memory for what preempted sequences have computed, which else they compute again. On a CPU the
    same memory serves better as cache; it pays where the cache is in a device's own memory.
    """
    max_batch: int = 256
    prefill_chunk: int = 512
    """Prompt tokens computed in one step, beside the decoding sequences."""
    dtype: Dtype = "fp32"
    """fp32, bf16, or weights of 8 or 4 bits (q8, q4: groups of 32, activations rounded to 8 bits)."""
    cache_dtype: CacheDtype = "auto"
    """fp32, fp16 in half the room, or q8 in little more than a quarter. auto: fp16 beside rounded weights, else the
    weights' own.
    """
    kernels: Literal["auto", "torch", "captured"] = "auto"
    """auto: native code where it serves (kernels/native.py says where), else PyTorch; on CUDA captured steps.
    captured: decode steps of few shapes, which CUDA records and the CPU just calls (captured.py). torch: PyTorch, with
    nothing recorded.
    """
    device: Device = "cpu"
    speculation: Speculation = "none"
    """Where guesses of the next tokens come from. auto: the draft model where one is given, else the MTP module where
    there is one, else what stood before; only while it pays, and only in native code: there tokens are the same in all
    five, to the last bit. PyTorch rounds differently for other shapes.
    """
    draft_tokens: int = 3
    """Guesses a sequence and step at most."""
    turns: int = 64
    """Steps of decoding that native code takes in a row at most, where nothing else is to be done; they are told of
    together. 2 ms end the row as well.
    """

    def __post_init__(self) -> None:
        for name in ("page_size", "max_batch", "prefill_chunk", "draft_tokens", "turns"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.cache_tokens < self.page_size:
            raise UserError(f"cache_tokens is {self.cache_tokens}; one page already holds {self.page_size}")
        if self.swap_tokens < 0:
            raise UserError(f"swap_tokens is {self.swap_tokens}; it must be 0 or more")
        if self.dtype not in DTYPES:
            raise UserError(f'dtype is "{self.dtype}"; it must be one of: {", ".join(DTYPES)}')
        if self.cache_dtype not in get_args(CacheDtype):
            known = ", ".join(get_args(CacheDtype))
            raise UserError(f'cache_dtype is "{self.cache_dtype}"; it must be one of: {known}')
        if self.kernels not in ("auto", "torch", "captured"):
            raise UserError(f'kernels is "{self.kernels}"; it must be "auto", "torch" or "captured"')
        if self.speculation not in get_args(Speculation):
            known = ", ".join(get_args(Speculation))
            raise UserError(f'speculation is "{self.speculation}"; it must be one of: {known}')
        device_of(self.device)
        if self.captures:
            self._check_captured()

    @property
    def captures(self) -> bool:
        """Whether decode steps have few shapes."""
        return self.device != "cpu" or self.kernels == "captured"

    def _check_captured(self) -> None:
        if self.dtype in ROUNDED:
            raise UserError(f'dtype is "{self.dtype}", which native code computes in on the CPU; here use bf16 or fp32')
        if self.speculation in ("mtp", "draft"):
            raise UserError(
                f'speculation is "{self.speculation}", which only the CPU computes; use "lookup", "auto" or "none"'
            )

"""A model's files opened: everything known of them, and no weight read yet. Loading and `raison inspect` start here.

Not covered: which files they are (folder.py, gguf_model.py, source.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from raison.errors import CheckpointError
from raison.hardware import available_memory
from raison.model import cost
from raison.model.packed import PackedMatrix
from raison.model.spec import ModelSpec
from raison.model.transformer import Transformer
from raison.text.tokenizer import Tokenizer
from raison.weights.huggingface import import_tensors

Progress = Callable[[int, int], None]
"""Told of bytes of weights that are ready, and of all."""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    model: Transformer
    """On the CPU, in fp32."""
    tokenizer: Tokenizer
    provenance: dict[str, Any]
    """As the saver gave it; empty for a folder that other software wrote."""
    notes: tuple[str, ...] = ()
    """What a user should know about what was left out."""


@dataclass(frozen=True, slots=True)
class Opened:
    path: Path
    form: str
    """What the files are, in words."""
    bytes: int
    spec: ModelSpec
    tokenizer: Tokenizer
    tensors: Mapping[str, PackedMatrix]
    """By their names in Hugging Face's checkpoints."""
    provenance: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def load(self, packed: bool | None = None, progress: Progress | None = None) -> LoadedModel:
        """The model with its weights; CheckpointError that names the file where they do not fit the shape.

        `packed` keeps the matrices as they are in the files, mapped, and expands one at a time; None does so where the
        model would not fit into half of the memory that is left.
        """
        keep = too_large(self.spec) if packed is None else packed
        try:
            model = import_tensors(self.spec, self.tensors, packed=keep, progress=progress)
        except CheckpointError as error:
            raise CheckpointError(f"{self.path}: {error}") from error
        return LoadedModel(model, self.tokenizer, self.provenance, self.notes)


def too_large(spec: ModelSpec) -> bool:
    """Whether the model in fp32 would take more than half of the memory that is left."""
    return cost.weight_bytes(spec, "fp32") > available_memory() / 2

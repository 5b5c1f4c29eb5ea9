"""What a model's files hold, read from headers and configs alone: the weights stay on disk.

Everything that loading would refuse is refused here too, except damage inside the tensors. Not covered: loading.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from raison.errors import CheckpointError, UserError
from raison.model.packed import Mapped, PackedMatrix
from raison.model.spec import ModelSpec
from raison.text.tokenizer import Tokenizer
from raison.weights.families import family_of
from raison.weights.gguf_blocks import GgufBlocks
from raison.weights.gguf_model import halved
from raison.weights.huggingface import check_tensors
from raison.weights.opened import Opened, too_large
from raison.weights.source import open_model


@dataclass(frozen=True, slots=True)
class Survey:
    opened: Opened
    family: str
    packed: bool
    """Whether loading would keep the matrices packed."""
    stored: Mapping[str, int]
    """How many tensors in each kind."""
    template: str | None
    thinks: bool


def survey(source: str | Path) -> Survey:
    """Raises CheckpointError, as loading would."""
    found = open_model(source)
    try:
        check_tensors(found.spec, found.tensors)
    except CheckpointError as error:
        raise CheckpointError(f"{found.path}: {error}") from error
    kinds = Counter(_kind(found.tensors[name]) for name in found.tensors)
    thinks = found.tokenizer.think_close is not None
    return Survey(found, _family(found.spec), too_large(found.spec), kinds, _template(found.tokenizer), thinks)


def _family(spec: ModelSpec) -> str:
    try:
        return family_of(halved(spec)).architecture
    except UserError:
        return "no published architecture"


def _kind(matrix: PackedMatrix) -> str:
    if isinstance(matrix, GgufBlocks):
        return matrix.kind
    return str(matrix.tensor.dtype).removeprefix("torch.") if isinstance(matrix, Mapped) else "FP8 128x128"


def _template(tokenizer: Tokenizer) -> str | None:
    if tokenizer.template is not None:
        return "its own"
    return "DeepSeek-R1's form, as models born here" if tokenizer.think_close is not None else None

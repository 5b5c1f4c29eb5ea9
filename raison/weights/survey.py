"""What a model's files hold, read from headers and configs alone: the weights stay on disk.

Everything that loading would refuse is refused here too, except damage inside the tensors. Not covered: loading.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from raison.errors import UserError
from raison.model.packed import Mapped, PackedMatrix
from raison.model.spec import ModelSpec
from raison.text.tokenizer import Tokenizer
from raison.weights.families import family_of, spec_from_config
from raison.weights.folder import CONFIG, too_large
from raison.weights.gguf_blocks import GgufBlocks
from raison.weights.gguf_file import open_gguf
from raison.weights.gguf_model import GgufTensors, halved, spec_of
from raison.weights.huggingface import check_tensors, without_absent_predictors
from raison.weights.shards import open_tensors
from raison.weights.source import gguf_tokenizer, locate
from raison.weights.vocabulary_files import load_tokenizer, read_json


@dataclass(frozen=True, slots=True)
class Survey:
    path: Path
    format: str
    family: str
    bytes: int
    spec: ModelSpec
    packed: bool
    """Whether loading would keep the matrices packed."""
    stored: Mapping[str, int]
    """How many tensors in each kind."""
    tokens: int
    template: str | None
    thinks: bool
    notes: tuple[str, ...]


def survey(source: str | Path) -> Survey:
    """Raises CheckpointError, as loading would."""
    path = locate(source)
    if path.is_file():
        file = open_gguf(path)
        spec, tokenizer = spec_of(file), gguf_tokenizer(file.metadata)
        tensors: Mapping[str, PackedMatrix] = GgufTensors(file, spec)
        notes: tuple[str, ...] = ()
        size, form = path.stat().st_size, f"GGUF version {file.version}"
    else:
        config = read_json(path / CONFIG)
        tensors, tokenizer = open_tensors(path), load_tokenizer(path, config)
        spec, notes = without_absent_predictors(spec_from_config(config), tensors)
        size, form = sum(f.stat().st_size for f in path.glob("*.safetensors")), "Hugging Face folder"
    check_tensors(spec, tensors)
    kinds = Counter(_kind(tensors[name]) for name in tensors)
    return Survey(
        path, form, _family(spec), size, spec, too_large(spec), kinds, tokenizer.size, _template(tokenizer),
        tokenizer.think_close is not None, notes,
    )  # fmt: skip


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

"""Where a model comes from: a folder of ours or of Hugging Face's, a GGUF file, or `smollm2`.

Not covered: what a word means (place.py), what a folder holds (folder.py), what a GGUF file holds (gguf_model.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from raison.errors import CheckpointError, UserError
from raison.model.packed import PackedMatrix
from raison.text.chat import is_ours
from raison.text.template import ChatTemplate
from raison.text.tokenizer import Tokenizer
from raison.text.vocabulary import backend_from_gguf
from raison.weights import folder
from raison.weights.gguf_file import GgufFile, open_gguf
from raison.weights.gguf_model import GgufTensors, spec_of
from raison.weights.opened import LoadedModel, Opened, Progress
from raison.weights.place import locate

Early = Callable[[Mapping[str, PackedMatrix]], None]


def load(source: str | Path, *, packed: bool | None = None, progress: Progress | None = None) -> LoadedModel:
    """The model at a path, `smollm2`, or a name of the hub; `packed` and `progress` as in Opened.load.

    Raises CheckpointError that names the file and what is wrong with it.
    """
    return open_model(source).load(packed, progress)


def open_model(source: str | Path, early: Early | None = None) -> Opened:
    """All of a model but its weights. Raises CheckpointError as `load` does.

    `early` is told of the tensors of a GGUF file before its vocabulary is built, which takes a while.
    """
    path = locate(source)
    return open_gguf_model(path, early) if path.is_file() else folder.open_folder(path)


def open_gguf_model(path: Path, early: Early | None = None) -> Opened:
    """A GGUF file, with the vocabulary and the template of its metadata."""
    file = open_gguf(path)
    if file.metadata.get("split.count", 1) != 1:
        raise CheckpointError(f"{path} is one of several parts; join them with llama-gguf-split --merge first")
    spec = spec_of(file)
    try:
        tensors = GgufTensors(file, spec)
        if early is not None:
            early(tensors)
        tokenizer = gguf_tokenizer(file.metadata)
        if tokenizer.size > spec.vocab_size:
            raise CheckpointError(f"it has {tokenizer.size} tokens, but embeddings for {spec.vocab_size} only")
    except UserError as error:
        raise CheckpointError(f"{path}: {error}") from error
    form, size = f"GGUF version {file.version}", path.stat().st_size
    return Opened(path, form, size, spec, tokenizer, tensors, _about(file))


def gguf_tokenizer(metadata: dict[str, Any]) -> Tokenizer:
    """The vocabulary and template of a GGUF file's metadata."""
    backend = backend_from_gguf(metadata)
    source = metadata.get("tokenizer.chat_template")
    if is_ours(backend, source):
        return Tokenizer.of(backend)
    bos, eos, turn = (_special(metadata, name) for name in ("bos", "eos", "eot"))
    texts = ("" if i is None else backend.id_to_token(i) or "" for i in (bos, eos))
    template = ChatTemplate(source, *texts) if isinstance(source, str) else None
    return Tokenizer.foreign(backend, template, bos, [i for i in dict.fromkeys((eos, turn)) if i is not None])


def _special(metadata: dict[str, Any], name: str) -> int | None:
    value = metadata.get(f"tokenizer.ggml.{name}_token_id")
    if value is not None and type(value) is not int:
        raise CheckpointError(f"`tokenizer.ggml.{name}_token_id` is {value!r:.40}; it must be a number")
    return value


def _about(file: GgufFile) -> dict[str, Any]:
    """Provenance as far as the metadata tells it."""
    named = {key: file.metadata.get(f"general.{key}") for key in ("name", "license", "url")}
    return {"source": file.path.name, **{key: value for key, value in named.items() if isinstance(value, str)}}

"""A model folder: what `raison` saves at the end of a stage, and what other people's software loads unchanged.

    config.json             DeepSeek-V3's fields                     (huggingface.py)
    generation_config.json  ids of begin and end, sampling as trained
    model.safetensors       the weights under DeepSeek-V3's names    (huggingface.py)
    tokenizer.json          the vocabulary; with tokenizer_config.json and chat_template.jinja, which transformers needs
    raison.json             provenance: whatever the caller tells of how the model was made, and the weights' SHA-256

A save replaces the folder as a whole (files.py). Files in a replaced folder that are not listed above are carried over.
Nothing is ever unpickled. Not covered: writing weights into several files.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import safetensors.torch
import torch

from raison.errors import CheckpointError, UserError
from raison.files import finish_interrupted, replace_folder, write_atomic
from raison.model.spec import ModelSpec
from raison.model.transformer import Transformer
from raison.text.chat import TEMPLATE
from raison.text.tokenizer import Tokenizer
from raison.weights.families import config_from_spec, spec_from_config
from raison.weights.huggingface import export_tensors, without_absent_predictors
from raison.weights.opened import LoadedModel, Opened
from raison.weights.place import standing_folder
from raison.weights.shards import open_tensors
from raison.weights.vocabulary_files import CHAT, GENERATION, TOKENIZER_CONFIG, VOCABULARY, load_tokenizer, read_json

CONFIG, WEIGHTS, PROVENANCE = "config.json", "model.safetensors", "raison.json"
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
FORMAT = 1


def save(
    folder: Path,
    model: Transformer,
    tokenizer: Tokenizer,
    provenance: Mapping[str, Any],
    dtype: Literal["fp32", "fp16", "bf16"] | None = None,
) -> None:
    """Write a model folder, or replace one.

    `provenance` is anything JSON can hold; `dtype` None stores the weights in their own.

    Raises UserError when `folder` holds something else than a model, or cannot be written, as on a full disk: what was
    there before is then untouched and nothing half-written stays.
    """
    folder = folder.resolve()
    try:
        finish_interrupted(folder)
        _refuse_strangers(folder)
        replace_folder(folder, _contents(model, tokenizer, provenance, dtype))
    except OSError as error:
        raise UserError(
            f"the model could not be saved in {folder}: {error.strerror or error}. What was there before is intact; "
            "make room or choose another folder"
        ) from error


def load(folder: Path, *, packed: bool | None = None) -> LoadedModel:
    """Read a model folder, ours or one of a known family that other software wrote; `packed` as in Opened.load.

    Raises CheckpointError that names the file, what is wrong with it and, where there is one, the remedy.
    """
    return open_folder(folder).load(packed)


def open_folder(folder: Path) -> Opened:
    """All of a model folder but the weights. Raises CheckpointError as `load` does."""
    source = _readable(folder.resolve())
    config = read_json(source / CONFIG)
    about = read_json(source / PROVENANCE) if (source / PROVENANCE).is_file() else {}
    try:
        spec = spec_from_config(config)
    except CheckpointError as error:
        raise CheckpointError(f"{source}: {error}") from error
    tokenizer = load_tokenizer(source, config)
    if tokenizer.size > spec.vocab_size:
        raise CheckpointError(f"{source / VOCABULARY} has {tokenizer.size} tokens, {CONFIG} only {spec.vocab_size}")
    if "weights" in about:
        _compare(source / WEIGHTS, about["weights"])
    try:
        tensors = open_tensors(source)
        spec, notes = without_absent_predictors(spec, tensors)
    except CheckpointError as error:
        raise CheckpointError(f"{source}: {error}") from error
    size = sum(file.stat().st_size for file in source.glob("*.safetensors"))
    return Opened(source, "Hugging Face folder", size, spec, tokenizer, tensors, about.get("provenance", {}), notes)


def annotate(folder: Path, more: Mapping[str, Any]) -> None:
    """Add to a model folder's provenance, in one step. Raises UserError where nothing can be written there."""
    path = _readable(folder.resolve()) / PROVENANCE
    about: dict[str, Any] = read_json(path) if path.is_file() else {"format": FORMAT}
    about["provenance"] = {**about.get("provenance", {}), **more}
    try:
        write_atomic(path, (json.dumps(about, indent=2, ensure_ascii=False) + "\n").encode())
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror or error}; copy the model folder first") from error


def _contents(
    model: Transformer, tokenizer: Tokenizer, provenance: Mapping[str, Any], dtype: str | None
) -> dict[str, bytes]:
    stored = model.embed_tokens.dtype if dtype is None else DTYPES[dtype]
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in export_tensors(model, stored).items()}
    weights = safetensors.torch.save(tensors, metadata={"format": "pt"})
    about = {"bytes": len(weights), "sha256": hashlib.sha256(weights).hexdigest()}
    ids = {"bos_token_id": tokenizer.bos, "eos_token_id": _one_or_more(tokenizer)}
    kind = str(stored).removeprefix("torch.")
    texts: dict[str, Any] = {
        CONFIG: config_from_spec(model.spec, kind) | ids,
        GENERATION: {"do_sample": True, "temperature": 1.0, "top_p": 1.0, **ids, "pad_token_id": tokenizer.eos},
        TOKENIZER_CONFIG: _tokenizer_config(model.spec, tokenizer),
        PROVENANCE: {"format": FORMAT, "weights": about, "provenance": dict(provenance)},
    }
    coded = {name: (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode() for name, value in texts.items()}
    return {**coded, WEIGHTS: weights, VOCABULARY: tokenizer.to_json().encode(), CHAT: _chat(tokenizer).encode()}


def _one_or_more(tokenizer: Tokenizer) -> int | list[int]:
    others = sorted(tokenizer.stops - {tokenizer.eos})
    return [tokenizer.eos, *others] if others else tokenizer.eos


def _chat(tokenizer: Tokenizer) -> str:
    return TEMPLATE if tokenizer.template is None else tokenizer.template.source


def _tokenizer_config(spec: ModelSpec, tokenizer: Tokenizer) -> dict[str, Any]:
    """As R1 has it, padding by end of sentence included; but no BOS of its own, since the template writes it."""
    bos, eos = (None if i is None else tokenizer.backend.id_to_token(i) for i in (tokenizer.bos, tokenizer.eos))
    return {
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": bos, "eos_token": eos, "pad_token": eos,
        "add_bos_token": False, "add_eos_token": False, "clean_up_tokenization_spaces": False,
        "model_max_length": spec.max_position_embeddings, "chat_template": _chat(tokenizer),
    }  # fmt: skip


def _refuse_strangers(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; a model is saved as a folder, choose another name")
    if folder.is_dir() and not (folder / PROVENANCE).is_file() and any(folder.iterdir()):
        raise UserError(f"{folder} holds something else than a model saved here; choose another folder or empty it")


def _readable(folder: Path) -> Path:
    found = standing_folder(folder)
    if (found / CONFIG).is_file():
        return found
    if (found / "model" / CONFIG).is_file():
        raise CheckpointError(f"{folder} is a run's folder; its model is {folder / 'model'}")
    raise CheckpointError(f"{folder} holds no model: a model's folder has a {CONFIG}; a .gguf file is named itself")


def _compare(path: Path, about: Mapping[str, Any]) -> None:
    if not path.is_file():
        raise CheckpointError(f"{path} is missing")
    size = path.stat().st_size
    if size != about.get("bytes"):
        said = about.get("bytes")
        raise CheckpointError(f"{path} is cut off or replaced: it has {size} bytes, {PROVENANCE} says {said}")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != about.get("sha256"):
        raise CheckpointError(f"{path} is damaged or replaced: it is not the file that {PROVENANCE} describes")

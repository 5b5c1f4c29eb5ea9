"""Writing a GGUF file, through the `gguf` package (extra `gguf`): F32, F16, Q8_0, Q4_0.

Tensors are expanded, rounded and written one at a time. The file is written under a hidden name beside its own, forced
to disk and renamed, so that a reader sees the old file or the new one. Not covered: the K-quants, which the package
cannot make (llama-quantize can, from F16), several files for one model, big-endian.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import torch
from torch import Tensor

from raison.errors import UserError
from raison.model.packed import PackedMatrix
from raison.weights.gguf_blocks import FORMATS

Kind = Literal["F32", "F16", "Q8_0", "Q4_0"]
FieldType = Literal["u8", "i8", "u16", "i16", "u32", "i32", "u64", "i64", "f32", "f64", "bool", "str"]
ARCHITECTURE, ALIGNMENT = "general.architecture", "general.alignment"
# F16 itself, or what an F16 scale can reach.
LARGEST = {"F32": math.inf, "F16": 65504.0, "Q8_0": 65504.0 * 127, "Q4_0": 65504.0 * 8}
TYPES = {
    "u8": "UINT8", "i8": "INT8", "u16": "UINT16", "i16": "INT16", "u32": "UINT32", "i32": "INT32", "u64": "UINT64",
    "i64": "INT64", "f32": "FLOAT32", "f64": "FLOAT64", "bool": "BOOL", "str": "STRING",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Field:
    """A metadata value with the type it has in the file, which readers check; a list becomes an array of that type."""

    value: int | float | bool | str | list[int] | list[float] | list[bool] | list[str]
    type: FieldType


def write_gguf(
    path: Path,
    metadata: Mapping[str, Field],
    tensors: Mapping[str, Tensor | PackedMatrix],
    kind_of: Callable[[str, tuple[int, ...]], Kind],
) -> None:
    """Write `tensors` under their names, each in the kind that `kind_of(name, shape)` answers.

    `metadata` must have general.architecture; the alignment is GGUF's usual 32. Arrays may not be empty.

    Raises UserError when the `gguf` package is missing, when a tensor cannot be stored in its kind, and when the file
    cannot be written, as on a full disk: what was there before is then untouched and nothing half-written stays.
    """
    gguf = _package()
    temporary = path.with_name(f".{path.name}.{os.getpid()}.saving")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(gguf, temporary, metadata, tensors, kind_of)
        _sync(temporary)
        temporary.replace(path)
    except OSError as error:
        raise UserError(
            f"{path} could not be written: {error.strerror or error}. What was there before is intact; "
            "make room or choose another folder"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def _package() -> ModuleType:
    try:
        module = import_module("gguf")  # optional: only those who export need it
        import_module("gguf.quants")
    except ImportError as error:
        raise UserError(f"writing GGUF needs the gguf package: pip install 'raison[gguf]' ({error})") from error
    return module


def _write(
    gguf: ModuleType,
    path: Path,
    metadata: Mapping[str, Field],
    tensors: Mapping[str, Tensor | PackedMatrix],
    kind_of: Callable[[str, tuple[int, ...]], Kind],
) -> None:
    kinds = {name: kind_of(name, tuple(tensor.shape)) for name, tensor in tensors.items()}
    writer = gguf.GGUFWriter(path, metadata[ARCHITECTURE].value)
    _add_metadata(gguf, writer, metadata)
    try:
        for name, kind in kinds.items():
            _announce(gguf, writer, name, tuple(tensors[name].shape), kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for name, kind in kinds.items():
            writer.write_tensor_data(_stored(gguf, name, tensors[name], kind))
        writer.flush()
    finally:
        # Closing tries to write what a full disk refused; that error has been raised already.
        with contextlib.suppress(OSError):
            writer.close()


def _add_metadata(gguf: ModuleType, writer: Any, metadata: Mapping[str, Field]) -> None:
    assert ALIGNMENT not in metadata, "the writer does not follow another alignment"
    types = gguf.GGUFValueType
    for key, field in metadata.items():
        if key == ARCHITECTURE:
            continue  # the writer has put it first
        stored = types[TYPES[field.type]]
        if isinstance(field.value, list):
            assert field.value, f"{key}: GGUF arrays here are not empty"
            writer.add_key_value(key, field.value, types.ARRAY, sub_type=stored)
        else:
            writer.add_key_value(key, field.value, stored)


def _announce(gguf: ModuleType, writer: Any, name: str, shape: tuple[int, ...], kind: Kind) -> None:
    format = FORMATS[kind]
    if shape[-1] % format.elements:
        raise UserError(
            f"{name} of shape {list(shape)} cannot be stored as {kind}, which takes rows of a multiple of "
            f"{format.elements}; store it as F16"
        )
    nbytes = math.prod(shape) // format.elements * format.bytes
    writer.add_tensor_info(name, shape, "float32", nbytes, raw_dtype=gguf.GGMLQuantizationType[kind])


def _stored(gguf: ModuleType, name: str, tensor: Tensor | PackedMatrix, kind: Kind) -> Any:
    """The numpy array that is written, bytes for the quantised kinds."""
    plain = tensor.detach().cpu().float() if isinstance(tensor, Tensor) else tensor.expand()
    if not torch.isfinite(plain).all():
        raise UserError(f"{name} holds NaN or infinity: this model is broken, export an earlier checkpoint")
    if plain.abs().max() > LARGEST[kind]:
        raise UserError(f"{name} holds values beyond {LARGEST[kind]:g}, the largest that {kind} can hold; choose F32")
    return gguf.quants.quantize(plain.contiguous().numpy(), gguf.GGMLQuantizationType[kind])


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())

"""Reading a safetensors file in place: its header checked to the last byte, its tensors as views of a read-only map.

The safetensors package, which writes our files, maps them privately when it reads: that counts as memory, and a model
larger than memory does not open. The rules are the format's own (github.com/huggingface/safetensors, README, "Format"):
offsets lie within the file, in order, without holes, and agree with dtype and shape. Not covered: writing, sub-byte
dtypes.
"""

from __future__ import annotations

import json
import struct
from math import prod
from pathlib import Path
from typing import Any, NoReturn, TypeGuard

import torch
from torch import Tensor

from raison.errors import CheckpointError
from raison.weights.mapped_file import as_bytes, map_file

MAX_HEADER = 100_000_000
"""Bytes; the format's own limit."""
DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "I64": torch.int64, "I32": torch.int32,
    "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip


def open_safetensors(path: Path) -> dict[str, Tensor]:
    """Every tensor, in the header's order, on the file's map. Raises CheckpointError that says what is wrong."""
    mapped = map_file(path)
    header, start = _header(path, mapped[:8], mapped)
    data = as_bytes(mapped)[start:]
    tensors, ends = {}, []
    for name, entry in header.items():
        if name != "__metadata__":
            tensors[name], span = _tensor(path, name, entry, data)
            ends.append(span)
    _check_cover(path, ends, len(data))
    return tensors


def _header(path: Path, length: bytes, mapped: Any) -> tuple[dict[str, Any], int]:
    if len(length) < 8:
        _damaged(path, f"it has {len(length)} bytes")
    (size,) = struct.unpack("<Q", length)
    if size > min(MAX_HEADER, len(mapped) - 8):
        _damaged(path, f"its header should have {size} bytes, the file has {len(mapped)}")
    try:
        header = json.loads(mapped[8 : 8 + size].decode("utf-8"))
    except (ValueError, RecursionError) as error:
        _damaged(path, f"its header is not JSON: {str(error)[:80]}")
    if not isinstance(header, dict):
        _damaged(path, "its header is no JSON object")
    return header, 8 + size


def _tensor(path: Path, name: str, entry: Any, data: Tensor) -> tuple[Tensor, tuple[int, int]]:
    what = f"the tensor {name[:80]!r}"
    if not isinstance(entry, dict) or entry.get("dtype") not in DTYPES:
        kind = entry.get("dtype") if isinstance(entry, dict) else entry
        _damaged(path, f"{what} is of the unknown type {str(kind)[:40]!r}")
    shape, span = entry.get("shape"), entry.get("data_offsets")
    if not _counts(shape) or not _counts(span) or len(span) != 2:
        _damaged(path, f"{what} has no shape and offsets of whole numbers")
    dtype, begin, end = DTYPES[str(entry["dtype"])], span[0], span[1]
    if not begin <= end <= len(data) or end - begin != prod(shape) * dtype.itemsize:
        _damaged(path, f"{what} of shape {str(shape)[:80]} does not fill bytes {begin} to {end} of {len(data)}")
    raw = data[begin:end]
    aligned = raw if raw.data_ptr() % dtype.itemsize == 0 else raw.clone()
    return aligned.view(dtype).view(shape), (begin, end)


def _counts(values: Any) -> TypeGuard[list[int]]:
    return isinstance(values, list) and all(type(value) is int and 0 <= value < 1 << 63 for value in values)


def _check_cover(path: Path, spans: list[tuple[int, int]], size: int) -> None:
    """One tensor after the other, from the first byte to the last."""
    at = 0
    for begin, end in sorted(spans):
        if begin != at:
            _damaged(path, f"byte {min(at, begin)} belongs to {'two tensors' if begin < at else 'none'}")
        at = end
    if at != size:
        _damaged(path, f"it has {size} bytes of data, its header tells of {at}")


def _damaged(path: Path, what: str) -> NoReturn:
    raise CheckpointError(f"{path} is cut off or damaged: {what}; fetch it again")

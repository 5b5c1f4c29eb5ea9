"""Reading a GGUF file, as strictly as a file from anywhere asks for.

The data stay on disk in a read-only mapping. The header is parsed here, with gguf_values.py, since the `gguf` package
trusts a file and takes seconds over a vocabulary; every count, length and offset is held against the file's size.
Source: the GGUF specification (ggml, docs/gguf.md), versions 2 and 3.

Not covered: big-endian files, version 1, joining a model split over several files, tensors of other kinds than those of
gguf_blocks.py.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, NoReturn

from raison.errors import CheckpointError
from raison.weights.gguf_blocks import FORMATS, GgufBlocks
from raison.weights.gguf_values import Cursor, shown
from raison.weights.mapped_file import as_bytes, map_file

MAGIC, VERSIONS = b"GGUF", (2, 3)
DEFAULT_ALIGNMENT, MAX_ALIGNMENT = 32, 1 << 16
MAX_NAME, MAX_DIMENSIONS = 65535, 4
KIND_OF_CODE = {format.code: kind for kind, format in FORMATS.items()}
UNREAD = {
    6: "Q5_0", 7: "Q5_1", 9: "Q8_1", 10: "Q2_K", 11: "Q3_K", 13: "Q5_K", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS",
    18: "IQ3_XXS", 19: "IQ1_S", 20: "IQ4_NL", 21: "IQ3_S", 22: "IQ2_S", 23: "IQ4_XS", 24: "I8", 25: "I16", 26: "I32",
    27: "I64", 28: "F64", 29: "IQ1_M", 34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4", 40: "NVFP4", 41: "Q1_0",
}  # fmt: skip
# What the smallest entries take in the file, and roughly in Python's memory.
FIELD_BYTES, TENSOR_BYTES = 13, 32
FIELD_COST, TENSOR_COST = 200, 1000


@dataclass(frozen=True, slots=True)
class GgufFile:
    path: Path
    version: int
    metadata: dict[str, Any]
    """Integers, floats, booleans, strings and lists of these, by key."""
    tensors: dict[str, GgufBlocks]
    """In the file's order, on its mapping, which lasts as long as any of them. Shapes are in torch's order."""


def open_gguf(path: Path) -> GgufFile:
    """Map a GGUF file and parse its header.

    Raises CheckpointError that names the file, what is wrong with it and, where there is one, the remedy.
    """
    mapped = map_file(path)
    cursor = Cursor(path, mapped)
    version = _version(cursor)
    tensor_count = cursor.count("tensors", TENSOR_BYTES, TENSOR_COST)
    field_count = cursor.count("metadata fields", FIELD_BYTES, FIELD_COST)
    metadata = _metadata(cursor, field_count)
    alignment = _alignment(path, metadata)
    entries = [_entry(cursor, alignment) for _ in range(tensor_count)]
    start = -(-cursor.position // alignment) * alignment
    _check_layout(path, entries, len(mapped) - start)
    return GgufFile(path, version, metadata, _tensors(mapped, entries, start))


@dataclass(frozen=True, slots=True)
class _Entry:
    name: str
    kind: str
    shape: tuple[int, ...]
    offset: int
    """From the start of the data."""

    @property
    def nbytes(self) -> int:
        return prod(self.shape) // FORMATS[self.kind].elements * FORMATS[self.kind].bytes


def _version(cursor: Cursor) -> int:
    if cursor.data[:4] != MAGIC:
        raise CheckpointError(f"{cursor.path} is not a GGUF file: it does not begin with GGUF")
    cursor.take(4, "the magic number")
    version: int = cursor.number("I", "the version")
    if version in VERSIONS:
        return version
    if version and not version & 0xFFFF:
        raise CheckpointError(f"{cursor.path} is big-endian; convert it with gguf's gguf-convert-endian")
    raise CheckpointError(
        f"{cursor.path} is GGUF version {version}, versions 2 and 3 can be read; convert the model again with llama.cpp"
    )


def _metadata(cursor: Cursor, count: int) -> dict[str, Any]:
    metadata: dict[str, Any] = {}
    for _ in range(count):
        key = cursor.text("a metadata key", MAX_NAME)
        if key in metadata:
            cursor.damaged(f"the metadata key {shown(key)} is there twice")
        code = cursor.number("I", f"the type of {shown(key)}")
        metadata[key] = cursor.value(code, shown(key))
    return metadata


def _alignment(path: Path, metadata: dict[str, Any]) -> int:
    alignment: Any = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
    sensible = type(alignment) is int and 8 <= alignment <= MAX_ALIGNMENT and alignment & (alignment - 1) == 0
    if not sensible:
        raise CheckpointError(
            f"{path} is damaged: general.alignment is {alignment!r:.40}, not a power of two from 8 to {MAX_ALIGNMENT}"
        )
    return int(alignment)


def _entry(cursor: Cursor, alignment: int) -> _Entry:
    name = cursor.text("a tensor's name", MAX_NAME)
    what = f"tensor {shown(name)}"
    dimensions = cursor.number("I", f"the rank of {what}")
    if not 1 <= dimensions <= MAX_DIMENSIONS:
        cursor.damaged(f"{what} has {dimensions} dimensions, 1 to {MAX_DIMENSIONS} are possible")
    shape = tuple(cursor.number("Q", f"the shape of {what}") for _ in range(dimensions))[::-1]
    code = cursor.number("I", f"the type of {what}")
    if code not in KIND_OF_CODE:
        _refuse(cursor, what, code)
    kind = KIND_OF_CODE[code]
    if not all(shape) or shape[-1] % FORMATS[kind].elements:
        cursor.damaged(f"{what} of shape {list(shape)} does not divide into {kind} blocks")
    offset = cursor.number("Q", f"the offset of {what}")
    if offset % alignment:
        cursor.damaged(f"{what} lies at offset {offset}, which is not a multiple of {alignment}")
    return _Entry(name, kind, shape, offset)


def _refuse(cursor: Cursor, what: str, code: int) -> NoReturn:
    if code in UNREAD:
        raise CheckpointError(
            f"{cursor.path}: {what} is stored as {UNREAD[code]}, which is not read; there is: {', '.join(FORMATS)}. "
            "Choose another file of this model, or convert it with llama-quantize --allow-requantize"
        )
    cursor.damaged(f"{what} is of type {code}, which does not exist")


def _check_layout(path: Path, entries: list[_Entry], room: int) -> None:
    """Names occur once; every tensor lies within the file and after the one before it."""
    end, before, seen = 0, "", set[str]()
    for entry in sorted(entries, key=lambda entry: entry.offset):
        if entry.name in seen:
            raise CheckpointError(f"{path} is damaged: the tensor {shown(entry.name)} is there twice")
        if entry.offset < end:
            raise CheckpointError(f"{path} is damaged: the tensors {shown(before)} and {shown(entry.name)} overlap")
        seen.add(entry.name)
        end, before = entry.offset + entry.nbytes, entry.name
        if end > room:
            raise CheckpointError(
                f"{path} is cut off or damaged: the tensor {shown(entry.name)} of shape {list(entry.shape)} ends "
                f"{end - room} bytes past the end of the file; fetch it again"
            )


def _tensors(mapped: mmap.mmap, entries: list[_Entry], start: int) -> dict[str, GgufBlocks]:
    bytes_ = as_bytes(mapped)
    begins = {entry.name: start + entry.offset for entry in entries}
    return {
        entry.name: GgufBlocks(entry.kind, entry.shape, bytes_[begins[entry.name] :][: entry.nbytes])
        for entry in entries
    }

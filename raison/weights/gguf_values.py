"""The values in a GGUF file's header: numbers, strings, arrays of these, read from front to back and never on trust.

Every count and length is held against what is left of the file before anything is allocated, and an account is kept of
the memory that Python's objects take: no more than twice the file and 64 MiB, nor than 512 MiB.
Source: the GGUF specification (ggml, docs/gguf.md), `gguf_metadata_value_t`.

Not covered: big-endian files, and the 32-bit counts of version 1.
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from raison.errors import CheckpointError

MAX_NESTING = 4
NUMBERS = {0: "u1", 1: "i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", 10: "<u8", 11: "<i8", 12: "<f8"}
BOOL, STRING, ARRAY = 7, 8, 9
# What the smallest entries take in the file, and roughly in Python's memory.
STRING_BYTES, ARRAY_BYTES = 8, 12
STRING_COST, ARRAY_COST, NUMBER_COST, BYTE_COST = 72, 72, 40, 8
FREE_COST, MAX_COST = 64 << 20, 512 << 20


class Cursor:
    """Reads the header from front to back, and keeps account of what it costs in memory."""

    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self.path, self.data = path, data
        self.position, self.size = 0, len(data)
        self.budget = min(2 * self.size + FREE_COST, MAX_COST)

    def damaged(self, what: str) -> NoReturn:
        raise CheckpointError(f"{self.path} is cut off or damaged: {what} (near byte {self.position}); fetch it again")

    def spend(self, cost: int) -> None:
        self.budget -= cost
        if self.budget < 0:
            raise CheckpointError(
                f"{self.path}: the metadata would take more memory than twice the file's {self.size} bytes and "
                f"{FREE_COST >> 20} MiB, or than {MAX_COST >> 20} MiB; it is damaged, or not made to be loaded"
            )

    def take(self, length: int, what: str) -> int:
        """Step over `length` bytes and return where they begin."""
        begin = self.position
        if length > self.size - begin:
            self.damaged(f"{what} of {length} bytes does not fit in what is left of the file")
        self.position = begin + length
        return begin

    def number(self, form: str, what: str) -> Any:
        """One value of a `struct` format, little-endian."""
        return struct.unpack_from(f"<{form}", self.data, self.take(struct.calcsize(f"<{form}"), what))[0]

    def count(self, what: str, least_bytes: int, cost: int) -> int:
        """How many entries follow; the rest of the file must have room for them."""
        count: int = self.number("Q", f"the number of {what}")
        if count > (self.size - self.position) // least_bytes:
            self.damaged(f"{count} {what} cannot be in a file of {self.size} bytes")
        self.spend(count * cost)
        return count

    def text(self, what: str, longest: int | None = None) -> str:
        length: int = self.number("Q", f"the length of {what}")
        if longest is not None and length > longest:
            self.damaged(f"{what} of {length} bytes is too long, {longest} are allowed")
        begin = self.take(length, what)
        self.spend(STRING_COST + 4 * length)
        try:
            return self.data[begin : self.position].decode()
        except UnicodeDecodeError:
            self.damaged(f"{what} is not UTF-8")

    def texts(self, what: str, count: int) -> list[str]:
        """`text`, `count` times, in the one loop that a vocabulary makes long."""
        data, unpack, size = self.data, struct.Struct("<Q").unpack_from, self.size
        texts: list[str] = []
        end, budget = self.position, self.budget
        for _ in range(count):
            begin = end + 8
            if begin > size or (end := begin + unpack(data, end)[0]) > size:
                self.damaged(f"{what} reaches past the end of the file")
            if (budget := budget - 4 * (end - begin)) < 0:
                self.spend(self.budget - budget)
            try:
                texts.append(data[begin:end].decode())
            except UnicodeDecodeError:
                self.damaged(f"entry {len(texts)} of {what} is not UTF-8")
        self.position, self.budget = end, budget
        return texts

    def value(self, code: int, what: str) -> Any:
        if code == STRING:
            return self.text(what)
        if code == ARRAY:
            return self.array(what, MAX_NESTING)
        return self.numbers(code, what, 1)[0]

    def array(self, what: str, depth: int) -> list[Any]:
        code = self.number("I", f"the type of {what}")
        if code == STRING:
            return self.texts(what, self.count(f"strings of {what}", STRING_BYTES, STRING_COST))
        if code == ARRAY:
            if depth == 1:
                self.damaged(f"{what} is nested deeper than {MAX_NESTING} levels")
            count = self.count(f"arrays of {what}", ARRAY_BYTES, ARRAY_COST)
            return [self.array(what, depth - 1) for _ in range(count)]
        return self.numbers(code, what, self.count(f"numbers of {what}", 1, 0))

    def numbers(self, code: int, what: str, count: int) -> list[Any]:
        if code != BOOL and code not in NUMBERS:
            self.damaged(f"{what} is of type {code}, which does not exist")
        form = np.dtype(NUMBERS.get(code, "u1"))
        begin = self.take(count * form.itemsize, what)
        self.spend(count * (BYTE_COST if form.itemsize == 1 else NUMBER_COST))
        numbers = np.frombuffer(self.data, form, count, begin)
        if code == BOOL:
            if count and numbers.max() > 1:
                self.damaged(f"{what} is neither true nor false")
            numbers = numbers.astype(bool)
        values: list[Any] = numbers.tolist()
        return values


def shown(name: str) -> str:
    """A name from a file, fit for a message of one line."""
    return repr(name) if len(name) <= 80 else f"{name[:80]!r}..."

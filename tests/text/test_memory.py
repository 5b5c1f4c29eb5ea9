"""What a vocabulary keeps of the texts it has read: nothing of ours."""

from __future__ import annotations

import ctypes

import pytest

from raison.text.tokenizer import Tokenizer

COUNTERS = 10
"""Fields of glibc's struct mallinfo2; the eighth is bytes in use."""


def test_texts_that_were_read_are_not_remembered() -> None:
    """1,000 texts that the backend remembers are some 4 MB."""
    mallinfo = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if mallinfo is None:
        pytest.skip("this C library does not count")
    fields = [(f"n{i}", ctypes.c_size_t) for i in range(COUNTERS)]
    mallinfo.restype = type("Counted", (ctypes.Structure,), {"_fields_": fields})
    tokenizer = Tokenizer.build()

    def read(texts: range) -> int:
        for i in texts:
            tokenizer.encode("a word of somebody's " * 8 + chr(0x4E00 + i))
            tokenizer.encode_user("a word of somebody's " * 8 + chr(0x4E00 + i))
        return int(mallinfo().n7)

    before = read(range(100))
    assert read(range(100, 1100)) - before < 500_000

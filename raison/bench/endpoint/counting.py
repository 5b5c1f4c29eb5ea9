"""The one tokenizer in which every endpoint's tokens are counted, so that figures of different models compare.

The shipped vocabulary is at hand without a download; on prose it counts about a token a letter, so that figures that
should compare with other people's want a vocabulary of the usual kind. Not covered: tiktoken's files; a tokenizer.json
of the same vocabulary counts the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer as Backend

from raison.reasoner import SHIPPED
from raison.text.tokenizer import load_backend
from raison.weights.source import open_model

FILE = "tokenizer.json"


class Counter:
    """Counts tokens of plain text; special tokens are never added."""

    def __init__(self, backend: Backend, name: str, shipped: bool = False) -> None:
        self.name, self.shipped = name, shipped
        self._backend = Backend.from_str(backend.to_str())  # an own one, whose settings may change
        self._backend.no_truncation()
        self._backend.no_padding()

    def count(self, text: str) -> int:
        return len(self._backend.encode(text, add_special_tokens=False).ids) if text else 0

    def parts(self, texts: Sequence[str]) -> list[int]:
        """Tokens of the joined text, each counted with the part that brought its last letter. They sum to its count."""
        if not any(texts):
            return [0] * len(texts)
        encoding = self._backend.encode("".join(texts), add_special_tokens=False)
        ends = np.cumsum([len(text) for text in texts])
        owners = np.searchsorted(ends, [end for _, end in encoding.offsets], side="left")
        return [int(count) for count in np.bincount(np.minimum(owners, len(texts) - 1), minlength=len(texts))]


def load_counter(source: str) -> Counter:
    """`source`: a tokenizer.json, a folder with one, whatever --model takes, or "" for the shipped vocabulary.

    Raises CheckpointError that names the file.
    """
    if not source:
        return Counter(load_backend(SHIPPED / FILE), "shipped", shipped=True)
    path = Path(source)
    if path.suffix == ".json" or (path / FILE).is_file():
        file = path if path.is_file() else path / FILE
        return Counter(load_backend(file), str(file))
    return Counter(open_model(source).tokenizer.backend, source)

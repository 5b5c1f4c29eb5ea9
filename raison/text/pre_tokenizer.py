"""Which of llama.cpp's splits of text a tokenizer makes, found by what it does and not by how it is written.

The same split is written in many ways in tokenizer.json; so a text with everything that splits differ in is split by
the tokenizer and by each of them. Not covered: splits that llama.cpp does not know.
"""

from __future__ import annotations

from tokenizers import Tokenizer

from raison.errors import CheckpointError
from raison.text.vocabulary import SPLITS, splitter

OUR_NAME = "deepseek-v3"
PROBE = (
    "Hello  world's WE'RE it'LL\t x= 3.14159,  1000000 10 000 a1b22c333 \n\n  \r\n end.  \n... ??!! (x)[y]{z} "
    "foo_bar FooBAR don't I'm ~/.path/to--file:// 你好，世界 123年 こんにちは ｶﾀｶﾅ 한국어 Привет мир Ünïcödé é e\u0301 "
    "\U0001f600\U0001f3fd ٣٤٥ ½ ² Ⅷ £5 €10 $3 a\u00a0b \u3000 tail   "
)


def pre_of(backend: Tokenizer) -> str:
    """The name for `tokenizer.ggml.pre`. Raises CheckpointError where llama.cpp has no such split."""
    own = backend.pre_tokenizer
    if own is not None:
        pieces = own.pre_tokenize_str(PROBE)
        for name in SPLITS:
            if splitter(name).pre_tokenize_str(PROBE) == pieces:
                return name
        if _splits_numbers_only(pieces):
            return OUR_NAME  # our merges join digits and two words alone, which that split leaves whole or names
    raise CheckpointError("llama.cpp knows no such split of text; the model can be exported to hf, not to gguf")


def _splits_numbers_only(pieces: list[tuple[str, tuple[int, int]]]) -> bool:
    """Whether every boundary between pieces has a digit or another numeral beside it: the split of models born here."""
    ends = [end for _, (_, end) in pieces[:-1]]
    return bool(ends) and all(PROBE[end - 1].isnumeric() or PROBE[end].isnumeric() for end in ends)

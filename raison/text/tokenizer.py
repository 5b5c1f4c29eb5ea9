"""Text <-> token ids: a byte-level BPE with numbers in groups of up to three digits, as DeepSeek-V3 splits them.

`build` makes the small vocabulary that models born here use: 256 bytes, every number 0-999 as one token, a few words
and the special tokens under DeepSeek's names. Nothing is lost: any text decodes to itself. Built on the `tokenizers`
package and saved as its tokenizer.json, which other people's software reads. Not covered: training a vocabulary on a
corpus.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Regex, decoders, pre_tokenizers
from tokenizers import Tokenizer as Backend
from tokenizers.models import BPE

from raison.errors import CheckpointError

BOS, EOS = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"
USER, ASSISTANT = "<｜User｜>", "<｜Assistant｜>"
THINK_OPEN, THINK_CLOSE = "<think>", "</think>"
SPECIAL = (BOS, EOS, "<｜▁pad▁｜>", USER, ASSISTANT, THINK_OPEN, THINK_CLOSE)
WORDS = ("Wait", " -> ")


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """A vocabulary and the ids that give a conversation its shape."""

    backend: Backend
    bos: int
    eos: int
    user: int
    assistant: int
    think_open: int
    think_close: int

    @classmethod
    def of(cls, backend: Backend) -> Tokenizer:
        """Raises CheckpointError that names the token when the vocabulary lacks one the chat format needs."""

        def number(token: str) -> int:
            found = backend.token_to_id(token)
            if found is None:
                raise CheckpointError(f"the vocabulary has no token {token}; a reasoner's tokenizer.json needs it")
            return int(found)

        return cls(backend, *map(number, (BOS, EOS, USER, ASSISTANT, THINK_OPEN, THINK_CLOSE)))

    @classmethod
    def build(cls) -> Tokenizer:
        """The vocabulary of models born here; the same ids every time."""
        merges = [*_number_merges(), *(pair for word in WORDS for pair in _word_merges(word))]
        tokens = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet()), *(a + b for a, b in merges)]
        backend = Backend(BPE({token: i for i, token in enumerate(dict.fromkeys(tokens))}, merges))
        split = pre_tokenizers.Split(Regex(r"\p{N}{1,3}"), behavior="isolated")
        byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        backend.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
        backend.decoder = decoders.ByteLevel()
        backend.add_special_tokens(list(SPECIAL))
        return cls.of(backend)

    @classmethod
    def load(cls, path: Path) -> Tokenizer:
        """Read a tokenizer.json; raises CheckpointError when it is missing or damaged."""
        if not path.is_file():
            raise CheckpointError(f"{path} is missing; a model folder needs its tokenizer.json")
        try:
            return cls.of(Backend.from_str(path.read_text(encoding="utf-8")))
        except CheckpointError:
            raise
        except Exception as error:  # the backend raises bare Exception for every kind of damage
            raise CheckpointError(f"{path} is not a tokenizer.json: {error}") from error

    def to_json(self) -> str:
        return str(self.backend.to_str(pretty=False))

    @property
    def size(self) -> int:
        return int(self.backend.get_vocab_size())

    def encode(self, text: str) -> list[int]:
        """Ids of plain text; the names of special tokens in it become those tokens. No BOS is added."""
        return list(self.backend.encode(text, add_special_tokens=False).ids)

    def encode_user(self, text: str) -> list[int]:
        """Ids of text from outside, in which the names of special tokens stay plain text and can forge nothing."""
        ids: list[int] = []
        for piece, _ in self.backend.pre_tokenizer.pre_tokenize_str(text):
            ids += (token.id for token in self.backend.model.tokenize(piece))
        return ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return [list(e.ids) for e in self.backend.encode_batch_fast(list(texts), add_special_tokens=False)]

    def decode(self, ids: Iterable[int]) -> str:
        """Text of the ids, special tokens written out by name."""
        return str(self.backend.decode(list(ids), skip_special_tokens=False))


def _word_merges(word: str) -> list[tuple[str, str]]:
    spelt = word.replace(" ", "Ġ")
    return [(spelt[:i], spelt[i]) for i in range(1, len(spelt))]


def _number_merges() -> list[tuple[str, str]]:
    """Digit pairs 10-99, then 100-999; numbers with leading zeros stay single digits."""
    return [(str(n // 10), str(n % 10)) for n in range(10, 1000)]

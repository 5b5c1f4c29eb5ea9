"""Text <-> token ids: a byte-level BPE with numbers in groups of up to three digits, as DeepSeek-V3 splits them.

`build` makes the small vocabulary that models born here use: 256 bytes, every number 0-999 as one token, a few words
and the special tokens under DeepSeek's names. Nothing is lost: any text decodes to itself. `foreign` takes a vocabulary
that other people made, with the chat template that belongs to it. Built on the `tokenizers` package and saved as its
tokenizer.json, which other people's software reads. Not covered: training a vocabulary on a corpus.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Regex, decoders, pre_tokenizers
from tokenizers import Tokenizer as Backend
from tokenizers.models import BPE

from raison.errors import CheckpointError
from raison.text.template import ChatTemplate

BOS, EOS = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"
USER, ASSISTANT = "<｜User｜>", "<｜Assistant｜>"
THINK_OPEN, THINK_CLOSE = "<think>", "</think>"
SPECIAL = (BOS, EOS, "<｜▁pad▁｜>", USER, ASSISTANT, THINK_OPEN, THINK_CLOSE)
FORMAT = (BOS, EOS, USER, ASSISTANT, THINK_OPEN, THINK_CLOSE)
WORDS = ("Wait", " -> ")


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """A vocabulary and the ids that give a conversation its shape."""

    backend: Backend
    bos: int | None
    eos: int
    """What ends a document."""
    stops: frozenset[int]
    """What ends an answer: `eos`, and whatever else the model's authors name."""
    think_open: int | None
    think_close: int | None
    """None where the vocabulary has no thinking."""
    template: ChatTemplate | None = None
    """None: conversations have the shape of models born here (chat.py)."""
    plain: Backend | None = None
    """The same vocabulary, to which the names of special tokens are plain text; for our own conversations only."""

    @classmethod
    def of(cls, backend: Backend) -> Tokenizer:
        """Raises CheckpointError that names the token when the vocabulary lacks one the chat format needs."""
        bos, eos, *_, opening, closing = (token_id(backend, token) for token in FORMAT)
        plain = Backend.from_str(backend.to_str())
        plain.encode_special_tokens = True
        for one in (backend, plain):  # it would remember 10,000 whole texts: our vocabulary has no words to remember
            one.model._resize_cache(0)
        return cls(backend, bos, eos, frozenset([eos]), opening, closing, plain=plain)

    @classmethod
    def foreign(
        cls, backend: Backend, template: ChatTemplate | None, bos: int | None, stops: Sequence[int]
    ) -> Tokenizer:
        """Somebody else's vocabulary; the first of `stops` ends a document. Raises CheckpointError for ids outside."""
        size = backend.get_vocab_size()
        if not stops:
            raise CheckpointError("no token ends a text; the model's eos_token_id must name one")
        for special in (*stops, bos or 0):
            if not 0 <= special < size:
                raise CheckpointError(f"the special token {special} is outside the vocabulary of {size}")
        opening, closing = (backend.token_to_id(tag) for tag in (THINK_OPEN, THINK_CLOSE))
        return cls(backend, bos, stops[0], frozenset(stops), opening, closing, template)

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
        """Read a tokenizer.json of ours; raises CheckpointError when it is missing or damaged."""
        return cls.of(load_backend(path))

    def to_json(self) -> str:
        return str(self.backend.to_str(pretty=False))

    def special(self, token: str) -> int:
        """The id of a special token by its name; CheckpointError where there is none."""
        return token_id(self.backend, token)

    @property
    def size(self) -> int:
        return int(self.backend.get_vocab_size())

    def encode(self, text: str) -> list[int]:
        """Ids of plain text; the names of special tokens in it become those tokens. No BOS is added."""
        return list(self.backend.encode(text, add_special_tokens=False).ids)

    def encode_user(self, text: str) -> list[int]:
        """Ids of text from outside, in which the names of special tokens stay plain text and can forge nothing."""
        assert self.plain is not None, "through a foreign template texts are not encoded one by one"
        return list(self.plain.encode(text, add_special_tokens=False).ids)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return [list(e.ids) for e in self.backend.encode_batch_fast(list(texts), add_special_tokens=False)]

    def ends_thinking_open(self, ids: Sequence[int]) -> bool | None:
        """Whether a text ends inside `<think>`: True there, False behind `</think>`, None where it has neither tag."""
        for token in reversed(ids):
            if token == self.think_open:
                return True
            if token == self.think_close:
                return False
        return None

    def decode(self, ids: Iterable[int]) -> str:
        """Text of the ids, special tokens written out by name."""
        return str(self.backend.decode(list(ids), skip_special_tokens=False))


def load_backend(path: Path) -> Backend:
    """Read a tokenizer.json; raises CheckpointError when it is missing or damaged."""
    if not path.is_file():
        raise CheckpointError(f"{path} is missing; a model folder needs its tokenizer.json")
    try:
        return Backend.from_str(path.read_text(encoding="utf-8"))
    except Exception as error:  # the backend raises bare Exception for every kind of damage
        raise CheckpointError(f"{path} is not a tokenizer.json: {error}") from error


def token_id(backend: Backend, token: str) -> int:
    found = backend.token_to_id(token)
    if found is None:
        raise CheckpointError(f"the vocabulary has no token {token}; a reasoner's tokenizer.json needs it")
    return int(found)


def _word_merges(word: str) -> list[tuple[str, str]]:
    spelt = word.replace(" ", "Ġ")
    return [(spelt[:i], spelt[i]) for i in range(1, len(spelt))]


def _number_merges() -> list[tuple[str, str]]:
    """Digit pairs 10-99, then 100-999; numbers with leading zeros stay single digits."""
    return [(str(n // 10), str(n % 10)) for n in range(10, 1000)]

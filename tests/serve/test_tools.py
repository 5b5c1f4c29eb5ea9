"""Tools: shown by templates that know them, calls parted from text however it comes, a call forced by its schema."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from raison.serve.tools import ToolText, split
from raison.text.template import ChatTemplate
from raison.text.tokenizer import BOS, EOS
from tests.engine.small import TOKENIZER
from tests.serve.serving import Served, joined, serving, small_reasoner

TEMPLATE = """{{ bos_token }}{% if tools %}Tools: {{ tools | tojson }} Call as <tool_call>{...}</tool_call>{% endif %}\
{% for m in messages %}<{{ m.role }}>{{ m.content }}{% if m.tool_calls %}{{ m.tool_calls | tojson }}{% endif %}\
{% endfor %}{% if add_generation_prompt %}<assistant>{% if enable_thinking is not defined or enable_thinking %}<think>\
{% endif %}{% endif %}"""
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "add",
            "parameters": {
                "type": "object",
                "properties": {"a": {"type": "integer", "minimum": 0, "maximum": 9}, "b": {"enum": [1, 2]}},
                "required": ["a", "b"],
                "additionalProperties": False,
            },
        },
    },
    {"type": "function", "function": {"name": "stop", "parameters": {"enum": [{}]}}},
]


@pytest.fixture(scope="module")
def templated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    pytest.importorskip("llguidance")
    tokenizer = replace(TOKENIZER, template=ChatTemplate(TEMPLATE, BOS, EOS), plain=None)
    with serving(tmp_path_factory.mktemp("tools"), lambda: small_reasoner(tokenizer)) as one:
        yield one


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("budget", [0, 10])
def test_a_required_call_follows_a_tools_schema(seed: int, budget: int, templated: Served) -> None:
    fields: dict[str, Any] = {
        "tools": TOOLS, "tool_choice": "required", "seed": seed, "max_tokens": 300, "thinking_token_budget": budget,
    }  # fmt: skip
    choice = templated.ask(**fields)["choices"][0]
    (call,) = choice["message"]["tool_calls"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    arguments = json.loads(call["function"]["arguments"])
    if call["function"]["name"] == "add":
        assert 0 <= arguments["a"] <= 9 and arguments["b"] in (1, 2)
    else:
        assert (call["function"]["name"], arguments) == ("stop", {})
    events = templated.events(**fields)
    (streamed,) = [d for e in events for c in e["choices"] for d in c["delta"].get("tool_calls", [])]
    assert streamed["function"] == call["function"]
    assert joined(events, "content") == ""
    assert [c["finish_reason"] for e in events for c in e["choices"] if c["finish_reason"]] == ["tool_calls"]


def test_a_named_call_is_of_that_tool(templated: Served) -> None:
    choice = {"type": "function", "function": {"name": "add"}}
    for seed in range(5):
        body = templated.ask(tools=TOOLS, tool_choice=choice, seed=seed, max_tokens=300, reasoning_effort="none")
        assert body["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "add"


def test_responses_have_calls_as_items(templated: Served) -> None:
    flat = [{"type": "function", **tool["function"]} for tool in TOOLS]  # type: ignore[dict-item]
    fields = {"input": "x", "tools": flat, "tool_choice": "required", "seed": 1, "max_output_tokens": 300}
    body = templated.ask("/v1/responses", **fields, thinking_token_budget=5)
    assert [item["type"] for item in body["output"]] == ["reasoning", "function_call"]
    output = {"type": "function_call_output", "call_id": body["output"][1]["call_id"], "output": "3"}
    asked = [{"role": "user", "content": "x"}, *body["output"], output]
    templated.ask("/v1/responses", input=asked, max_output_tokens=20)


def test_tools_cost_prompt_tokens_unless_they_are_not_offered(templated: Served) -> None:
    plain, shown, hidden = (
        templated.ask(max_tokens=2, **fields)["usage"]["prompt_tokens"]
        for fields in ({}, {"tools": TOOLS}, {"tools": TOOLS, "tool_choice": "none"})
    )
    assert plain == hidden < shown


def test_a_model_without_tools_says_so(served: Served) -> None:
    error = served.ask(tools=TOOLS, expect=400)["error"]
    assert (error["param"], error["code"]) == ("tools", "tools_not_supported")
    served.ask(tools=TOOLS, tool_choice="none", max_tokens=2)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "x"}}}, "tool_choice"),
        ({"tools": [{"type": "function"}]}, "tools.0.function"),
        ({"chat_template_kwargs": {"messages": []}}, "chat_template_kwargs"),
        ({"chat_template_kwargs": {"add_generation_prompt": False}}, "chat_template_kwargs"),
    ],
)
def test_mistakes(fields: dict[str, Any], param: str, templated: Served) -> None:
    assert templated.ask(**fields, expect=400)["error"]["param"] == param


CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'


@pytest.mark.parametrize(
    ("answer", "text", "calls"),
    [
        ("no call", "no call", 0),
        (f"before {CALL} after", "before  after", 1),
        (CALL + CALL, "", 2),
        ("<tool_call>{broken</tool_call>", "<tool_call>{broken</tool_call>", 0),
        ('<tool_call>["name"]</tool_call>', '<tool_call>["name"]</tool_call>', 0),
        ('<tool_call>{"name": "cut', '<tool_call>{"name": "cut', 0),
        ("a < b <tool <tool_cal", "a < b <tool <tool_cal", 0),
        (f"<tool_call>{CALL}", f"<tool_call>{CALL}", 0),
    ],
)
def test_text_and_calls_are_parted_however_they_come(answer: str, text: str, calls: int) -> None:
    whole = split(answer)
    assert (whole[0], len(whole[1])) == (text, calls)
    numbers = random.Random(0)
    for _ in range(30):
        stream, said, rest = ToolText(), "", answer
        while rest:
            size = numbers.randrange(1, 9)
            said += stream.push(rest[:size])
            rest = rest[size:]
        assert said + stream.finish() == text
        assert [call["function"] for call in stream.calls] == [call["function"] for call in whole[1]]

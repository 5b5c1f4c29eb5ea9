"""Tools: shown by templates that know them, calls parted from text however it comes, a call forced by its schema."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from tokenizers import AddedToken
from tokenizers import Tokenizer as Backend

from raison.serve.conversation import chat_ids
from raison.serve.protocol import ChatRequest, Message
from raison.serve.tool_forms import DEEPSEEK, HERMES, ToolForm, form_of
from raison.serve.tool_text import ToolText
from raison.serve.tools import read_calls
from raison.text.template import ChatTemplate
from raison.text.tokenizer import BOS, EOS, Tokenizer
from tests.engine.small import TOKENIZER
from tests.serve.serving import Served, joined, serving, small_reasoner
from tests.text.templates import DEEPSEEK_R1

TEMPLATE = """{{ bos_token }}{% if tools %}Tools: {{ tools | tojson }} Call as <tool_call>{...}</tool_call>{% endif %}\
{% for m in messages %}<{{ m.role }}>{{ m.content }}{% if m.tool_calls %}{{ m.tool_calls | tojson }}{% endif %}\
{% endfor %}{% if add_generation_prompt %}<assistant>{% if enable_thinking is not defined or enable_thinking %}<think>\
{% endif %}{% endif %}"""
TOOLS: list[dict[str, Any]] = [
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


def with_tokens(template: str, tokens: Sequence[str], special: bool = False) -> Tokenizer:
    """Our vocabulary with some tokens more, and somebody else's template."""
    backend = Backend.from_str(TOKENIZER.backend.to_str())
    backend.add_tokens([AddedToken(token, special=special, normalized=False) for token in tokens])
    return replace(TOKENIZER, backend=backend, template=ChatTemplate(template, BOS, EOS), plain=None)


@pytest.fixture(scope="module", params=[(), ("<tool_call>", "</tool_call>")], ids=["letters", "tokens"])
def templated(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Tags as letters, and as tokens that are no special ones, as Qwen's are."""
    pytest.importorskip("llguidance")
    tokenizer = with_tokens(TEMPLATE, request.param)
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
    flat = [{"type": "function", **tool["function"]} for tool in TOOLS]
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
BEGIN, END, OPEN, CLOSE, SEP = (
    f"<｜tool▁{name}｜>" for name in ("calls▁begin", "calls▁end", "call▁begin", "call▁end", "sep")
)
FENCED = f'{OPEN}function{SEP}add\n```json\n{{"a": 1}}\n```{CLOSE}'
BARE = f'{OPEN}add{SEP}{{"a": 1}}{CLOSE}'


@pytest.mark.parametrize(
    ("form", "answer", "text", "calls"),
    [
        (HERMES, "no call", "no call", 0),
        (HERMES, f"before {CALL} after", "before  after", 1),
        (HERMES, CALL + CALL, "", 2),
        (HERMES, f"\n\n{CALL}\n{CALL}\n", "", 2),
        (HERMES, "\n\nno call\n", "\n\nno call\n", 0),
        (HERMES, "\n", "\n", 0),
        (HERMES, "<tool_call>{broken</tool_call>", "<tool_call>{broken</tool_call>", 0),
        (HERMES, '<tool_call>["name"]</tool_call>', '<tool_call>["name"]</tool_call>', 0),
        (HERMES, '<tool_call>{"name": "cut', '<tool_call>{"name": "cut', 0),
        (HERMES, "a < b <tool <tool_cal", "a < b <tool <tool_cal", 0),
        (HERMES, f"<tool_call>{CALL}", f"<tool_call>{CALL}", 0),
        (DEEPSEEK, f"{BEGIN}{FENCED}{END}", "", 1),
        (DEEPSEEK, f"{BEGIN}{FENCED}\n{FENCED}{END}", "", 2),
        (DEEPSEEK, f"{BEGIN}{BARE}{BARE}{END}", "", 2),
        (DEEPSEEK, f"I shall add.{BEGIN}{BARE}{END}", "I shall add.", 1),
        (DEEPSEEK, f"\n\n{BARE}", "", 1),
        (DEEPSEEK, f'{OPEN}function{SEP}add\n```\n{{"a": 1}}```{CLOSE}', "", 1),
        (DEEPSEEK, f"{OPEN}function{SEP}add\n```json\n[1]\n```{CLOSE}", None, 0),
        (DEEPSEEK, f"{OPEN}add{{}}{CLOSE}", None, 0),
        (DEEPSEEK, f"{OPEN}{SEP}{{}}{CLOSE}", None, 0),
        (DEEPSEEK, f'{OPEN}add{SEP}{{"a":', None, 0),
        (DEEPSEEK, "a <｜tool", "a <｜tool", 0),
        (DEEPSEEK, CALL, CALL, 0),
    ],
)
def test_text_and_calls_are_parted_however_they_come(form: ToolForm, answer: str, text: str | None, calls: int) -> None:
    """The same for every cut into pieces (vLLM #48020: begin and end in one piece). None: all of it is text."""
    whole = ToolText(form).split(answer)
    assert (whole[0], len(whole[1])) == (answer if text is None else text, calls)
    assert all(call["function"] == {"name": "add", "arguments": '{"a": 1}'} for call in whole[1])
    numbers = random.Random(0)
    for _ in range(30):
        stream, said, rest = ToolText(form), "", answer
        while rest:
            size = numbers.randrange(1, 9)
            said += stream.push(rest[:size])
            rest = rest[size:]
        assert said + stream.finish() == whole[0]
        assert [call["function"] for call in stream.calls] == [call["function"] for call in whole[1]]


V31 = r"""
{{- bos_token }}
{%- for m in messages %}
  {%- if m['role'] == 'user' %}{{- '<｜User｜>' + m['content'] }}
  {%- elif m['content'] is none %}
    {%- for tool in m['tool_calls'] %}
      {{- '<｜tool▁call▁begin｜>' + tool['function']['name'] + '<｜tool▁sep｜>' + tool['function']['arguments'] }}
      {{- '<｜tool▁call▁end｜>' }}
    {%- endfor %}
  {%- else %}{{- m['content'] }}
  {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<｜Assistant｜><think>' }}{% endif %}"""
"""In the manner of DeepSeek-V3.1's; R1's stands in tests/text/templates.py."""


@pytest.fixture(scope="module", params=[(DEEPSEEK_R1, False), (DEEPSEEK_R1, True), (V31, False)],
                ids=["R1", "R1, special", "V3.1"])  # fmt: skip
def deepseek(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    pytest.importorskip("llguidance")
    template, special = request.param
    tokenizer = with_tokens(template, (BEGIN, END, OPEN, CLOSE, SEP), special)
    with serving(tmp_path_factory.mktemp("deepseek"), lambda: small_reasoner(tokenizer)) as one:
        yield one


@pytest.mark.parametrize("seed", range(3))
def test_a_deepseek_calls_by_its_own_tokens(seed: int, deepseek: Served) -> None:
    fields: dict[str, Any] = {
        "tools": TOOLS, "tool_choice": "required", "seed": seed, "max_tokens": 300, "thinking_token_budget": 10,
        "return_token_ids": True,
    }  # fmt: skip
    choice = deepseek.ask(**fields)["choices"][0]
    (call,) = choice["message"]["tool_calls"]
    assert (choice["finish_reason"], choice["message"]["content"]) == ("tool_calls", None)
    assert choice["message"]["reasoning_content"]
    arguments = json.loads(call["function"]["arguments"])
    assert call["function"]["name"] in ("add", "stop")
    assert (0 <= arguments["a"] <= 9 and arguments["b"] in (1, 2)) if arguments else call["function"]["name"] == "stop"
    events = deepseek.events(**fields)
    (streamed,) = [d for e in events for c in e["choices"] for d in c["delta"].get("tool_calls", [])]
    assert streamed["function"] == call["function"]
    assert joined(events, "content") == ""
    assert [c["finish_reason"] for e in events for c in e["choices"] if c["finish_reason"]] == ["tool_calls"]
    body = deepseek.ask(
        "/v1/responses", input="x", seed=seed, max_output_tokens=300, thinking_token_budget=10,
        tools=[{"type": "function", **tool["function"]} for tool in TOOLS], tool_choice="required",
    )  # fmt: skip
    assert [item["type"] for item in body["output"]] == ["reasoning", "function_call"]


def test_a_deepseek_is_told_its_tools_and_earlier_calls(deepseek: Served) -> None:
    tokenizer = deepseek.service.reasoner.tokenizer
    form = form_of(tokenizer)
    assert form is not None and form.around == (BEGIN, END)
    call = {"id": "1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1, "b": 2}'}}
    said = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "1 + 2?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "3", "tool_call_id": "1"},
        {"role": "user", "content": "and?"},
    ]
    ids = chat_ids(tokenizer, [Message.model_validate(one) for one in said], tools=TOOLS)
    text = tokenizer.decode(ids)
    assert text.startswith(f"{BOS}Be brief.\n\n## Tools\n")
    asked = f"function{SEP}tool_call_name\n```json\ntool_call_arguments\n```" if form.fenced else f"tool_call_name{SEP}"
    assert text.index(asked) < text.index("<｜User｜>1 + 2?") < text.index("<｜User｜>and?")
    earlier = text[text.index("1 + 2?") :]
    assert ToolText(form).split(earlier)[1][0]["function"] == {"name": "add", "arguments": '{"a": 1, "b": 2}'}
    assert "## Tools" not in tokenizer.decode(chat_ids(tokenizer, [Message(role="user", content="x")]))


def test_arguments_of_earlier_calls_come_as_the_template_wants_them() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
    said = [Message(role="assistant", tool_calls=[call]), Message(role="user", content="x")]
    for source, want in (
        ("{{ c.function.arguments | tojson }}", '{"a": 1}'),
        ("{{ c.function.arguments }}", '{"a": 1}'),
    ):
        loop = f"{{% for m in messages %}}{{% for c in m.tool_calls or [] %}}{source}{{% endfor %}}{{% endfor %}}"
        tokenizer = replace(TOKENIZER, template=ChatTemplate(loop, BOS, EOS), plain=None)
        assert tokenizer.decode(chat_ids(tokenizer, said)) == want


def test_a_tools_own_definitions_hold(templated: Served) -> None:
    """Pydantic writes nested models as references to #/$defs of the parameters' own root."""
    parameters = {
        "type": "object", "properties": {"at": {"$ref": "#/$defs/Digit"}}, "required": ["at"],
        "additionalProperties": False, "$defs": {"Digit": {"type": "integer", "minimum": 0, "maximum": 9}},
    }  # fmt: skip
    tool = {"type": "function", "function": {"name": 'a "b"', "parameters": parameters}}
    body = templated.ask(tools=[tool], tool_choice="required", seed=1, max_tokens=300, reasoning_effort="none")
    (call,) = body["choices"][0]["message"]["tool_calls"]
    assert call["function"]["name"] == 'a "b"'
    assert json.loads(call["function"]["arguments"])["at"] in range(10)


def test_tokens_of_a_call_are_told_of_in_a_stream_too(templated: Served) -> None:
    fields: dict[str, Any] = {
        "tools": TOOLS, "tool_choice": "required", "seed": 1, "max_tokens": 300, "reasoning_effort": "none",
        "logprobs": True,
    }  # fmt: skip
    whole = templated.ask(**fields)["choices"][0]["logprobs"]["content"]
    events = templated.events(**fields)
    assert whole
    assert [one for e in events for c in e["choices"] for one in (c["logprobs"] or {}).get("content", [])] == whole


def test_calls_are_read_where_they_are_wanted(templated: Served) -> None:
    tokenizer = templated.service.reasoner.tokenizer

    def found(**fields: Any) -> tuple[str, int]:
        body = ChatRequest.model_validate({"messages": [{"role": "user", "content": "x"}], **fields})
        reader = read_calls(body, tokenizer)
        text, calls = (CALL + CALL, []) if reader is None else reader.split(CALL + CALL)
        return text, len(calls)

    assert found(tools=TOOLS) == found(tools=TOOLS, parallel_tool_calls=True) == ("", 2)
    assert found(tools=TOOLS, parallel_tool_calls=False) == ("", 1)
    assert found(tools=TOOLS, tool_choice="none") == found() == (CALL + CALL, 0)


def test_half_of_a_surrogate_pair_in_a_call_can_be_sent() -> None:
    """JSON can say it, and a model may write it; UTF-8 cannot."""
    text, (call,) = ToolText(HERMES).split(r'<tool_call>{"name": "add", "arguments": {"a": "\ud800é"}}</tool_call>')
    assert text == "" and json.loads(call["function"]["arguments"].encode()) == {"a": "\ud800é"}
    named = r'<tool_call>{"name": "\ud800", "arguments": {}}</tool_call>'
    assert ToolText(HERMES).split(named) == (named, [])

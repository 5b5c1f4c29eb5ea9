"""/v1/responses: what a response repeats, turns of several calls, and events that build a call up."""

from __future__ import annotations

import json
from typing import Any

import pytest

from raison.records import Completion
from raison.serve.responses import ResponsesRequest, as_chat
from raison.serve.responses_view import Parts
from raison.serve.tool_forms import HERMES
from raison.serve.tool_text import ToolText
from tests.serve.serving import Served

PATH = "/v1/responses"
DEEP = '{"a":' * 80 + "1" + "}" * 80


@pytest.mark.parametrize("stream", ["true", "false"])
@pytest.mark.parametrize(
    "field",
    [
        '"tool_choice":"none","tools":[{"type":"function","name":"f","parameters":{"a":NaN}}]',
        f'"tool_choice":"none","tools":[{{"type":"function","name":"f","parameters":{DEEP}}}]',
        r'"text":{"format":{"type":"text","name":"\ud800"}}',
        r'"metadata":{"a":"\ud800"}',
    ],
)
def test_what_a_response_cannot_repeat_is_a_mistake(field: str, stream: str, served: Served) -> None:
    body = f'{{"input":"1","max_output_tokens":2,"stream":{stream},{field}}}'
    reply = served.client.post(PATH, content=body, headers={"content-type": "application/json"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "invalid_value")


def test_metadata_and_parallel_calls_are_repeated(served: Served) -> None:
    body = served.ask(PATH, input="1", max_output_tokens=2, metadata={"a": "b"}, parallel_tool_calls=False)
    assert (body["metadata"], body["parallel_tool_calls"]) == ({"a": "b"}, False)


def test_calls_of_one_turn_are_one_message() -> None:
    def call(name: str) -> dict[str, Any]:
        return {"type": "function_call", "call_id": name, "name": name, "arguments": "{}"}

    def output(name: str) -> dict[str, Any]:
        return {"type": "function_call_output", "call_id": name, "output": "1"}

    thoughts = {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]}
    asked = [{"role": "user", "content": "x"}, thoughts, call("a"), call("b"), output("a"), output("b"), call("c")]
    messages = as_chat(ResponsesRequest(input=asked)).messages
    assert [message.role for message in messages] == ["user", "assistant", "tool", "tool", "assistant"]
    assert [[one["id"] for one in message.tool_calls or []] for message in messages] == [[], ["a", "b"], [], [], ["c"]]
    assert messages[1].reasoning_content == "hm"


def test_a_calls_arguments_come_as_a_delta_too() -> None:
    """Clients that build a call from its deltas, as OpenAI's and LangChain's, would else have one without any."""
    text = '<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>'
    tools = ToolText(HERMES)
    assert tools.push(text) == ""
    parts = Parts("resp", tools)
    end = Completion(text, "", text, (1,), (0.0,), "stop", 1, 0, 0, 1, False, 0, 0.0, 0.0)
    events = list(parts.end(end))
    said = "".join(event["delta"] for event in events if event["type"] == "response.function_call_arguments.delta")
    (done,) = [event for event in events if event["type"] == "response.function_call_arguments.done"]
    assert json.loads(said) == json.loads(done["arguments"]) == {"a": 1}
    assert [event["type"].removeprefix("response.") for event in events] == [
        "output_item.added", "function_call_arguments.delta", "function_call_arguments.done", "output_item.done",
    ]  # fmt: skip

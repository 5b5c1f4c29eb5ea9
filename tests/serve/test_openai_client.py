"""OpenAI's own client, unmodified: sync, async, streaming, structured output, responses, retries."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.serve.serving import QUESTION, Served, serving
from tests.serve.test_jobs import hold

openai = pytest.importorskip("openai")


@pytest.fixture(scope="module")
def client(served: Served) -> Iterator[Any]:
    with openai.OpenAI(base_url=served.url + "/v1", api_key="none", max_retries=0) as one:
        yield one


def test_chat(client: Any) -> None:
    found = client.chat.completions.create(model="small", messages=QUESTION, seed=1, max_completion_tokens=40)
    assert found.choices[0].message.reasoning_content
    assert found.usage.completion_tokens_details.reasoning_tokens > 0
    assert [model.id for model in client.models.list()] == ["small"]


def test_streaming(client: Any) -> None:
    whole = client.chat.completions.create(model="small", messages=QUESTION, seed=1, max_tokens=40)
    chunks = list(
        client.chat.completions.create(
            model="small", messages=QUESTION, seed=1, max_tokens=40, stream=True, stream_options={"include_usage": True}
        )
    )
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    assert "".join(delta.content or "" for delta in deltas) == whole.choices[0].message.content
    said = "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas)
    assert said == whole.choices[0].message.reasoning_content
    assert chunks[-1].usage.total_tokens == whole.usage.total_tokens


def test_many_at_once_by_asyncio(served: Served) -> None:
    async def work() -> list[Any]:
        async with openai.AsyncOpenAI(base_url=served.url + "/v1", api_key="none") as one:
            asked = (
                one.chat.completions.create(model="small", messages=QUESTION, seed=i, max_tokens=20) for i in range(20)
            )
            return list(await asyncio.gather(*asked))

    found = asyncio.run(work())
    assert len({one.choices[0].message.reasoning_content for one in found}) > 10


def test_closing_a_stream_cancels_it(client: Any, served: Served) -> None:
    stream = client.chat.completions.create(model="small", messages=QUESTION, max_tokens=900, stream=True)
    next(iter(stream))
    stream.close()
    served.quiet()


def test_completions(client: Any) -> None:
    found = client.completions.create(model="small", prompt="1 2 3", seed=1, logprobs=0)
    assert found.choices[0].text
    assert len(found.choices[0].logprobs.tokens) == found.usage.completion_tokens


def test_responses(client: Any) -> None:
    fields: dict[str, Any] = {"model": "small", "input": "Make 46 from 3, 7, 25", "max_output_tokens": 40}
    found = client.responses.create(**fields, extra_body={"seed": 1})
    assert [item.type for item in found.output] == ["reasoning", "message"]
    assert found.usage.output_tokens_details.reasoning_tokens > 0
    with client.responses.stream(**fields, extra_body={"seed": 1}) as stream:
        events = list(stream)
    last = events[-1]
    assert last.type in ("response.completed", "response.incomplete")
    assert last.response.output_text == found.output_text
    assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == found.output_text
    thinking = "".join(e.delta for e in events if e.type == "response.reasoning_text.delta")
    assert thinking == found.output[0].content[0].text


def test_a_response_goes_on_from_its_own_output(client: Any) -> None:
    first = client.responses.create(model="small", input="1 2 -> 3", max_output_tokens=30)
    asked = [{"role": "user", "content": "1 2 -> 3"}, *(item.model_dump() for item in first.output)]
    second = client.responses.create(
        model="small",
        input=[*asked, {"role": "user", "content": "and 4?"}],
        instructions="Be brief.",
        max_output_tokens=30,
    )
    assert second.output_text
    with pytest.raises(openai.BadRequestError, match="keeps no responses"):
        client.responses.create(model="small", input="x", previous_response_id=first.id)


def test_structured_output(client: Any) -> None:
    pytest.importorskip("llguidance")
    schema = {
        "type": "object",
        "properties": {"ok": {"type": "boolean"}},
        "required": ["ok"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": schema}}
    for seed in range(4):
        found = client.chat.completions.create(
            model="small",
            messages=QUESTION,
            seed=seed,
            max_tokens=120,
            response_format=form,
            extra_body={"thinking_token_budget": 9},
        )
        if found.choices[0].finish_reason == "stop":
            assert isinstance(json.loads(found.choices[0].message.content)["ok"], bool)
            return
    raise AssertionError("no answer came to its end")


def test_errors_have_their_classes(client: Any) -> None:
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="gpt-5", messages=QUESTION)
    with pytest.raises(openai.BadRequestError) as found:
        client.chat.completions.create(model="small", messages=QUESTION, n=1000)
    assert found.value.param == "n"


def test_retries_after_429_until_it_is_served(tmp_path: Path) -> None:
    """The queue holds one; every client gets its answer, for the SDK waits as Retry-After says."""
    with serving(tmp_path, queued_requests=1) as served:
        hold(served, lambda: b"queue_full" in served.service.metrics.text())

        async def work() -> list[Any]:
            async with openai.AsyncOpenAI(base_url=served.url + "/v1", api_key="none", max_retries=8) as one:
                asked = (
                    one.chat.completions.create(model="small", messages=QUESTION, n=16, max_tokens=10) for _ in range(4)
                )
                return list(await asyncio.gather(*asked))

        assert len(asyncio.run(work())) == 4
        assert "queue_full" in served.client.get("/metrics").text

"""Chat completions over HTTP: whole and streamed answers, limits and budgets, usage, errors with the field's name."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from raison.serve.answer import Frame
from raison.serve.protocol import StreamOptions
from tests.serve.serving import CHAT, QUESTION, Served, joined


def test_a_whole_answer(served: Served) -> None:
    body = served.ask(seed=1, max_tokens=40)
    (choice,) = body["choices"]
    assert body["object"] == "chat.completion"
    assert body["model"] == "small"
    assert choice["message"]["role"] == "assistant"
    assert choice["message"]["reasoning_content"]
    assert choice["finish_reason"] in ("stop", "length")
    usage = body["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert 0 < usage["completion_tokens_details"]["reasoning_tokens"] < usage["completion_tokens"] <= 40
    hit, miss = usage["prompt_cache_hit_tokens"], usage["prompt_cache_miss_tokens"]
    assert hit + miss == usage["prompt_tokens"]
    assert hit == usage["prompt_tokens_details"]["cached_tokens"]


def test_streamed_is_whole_to_the_letter(served: Served) -> None:
    whole = served.ask(seed=2, max_tokens=60, n=3)
    events = served.events(seed=2, max_tokens=60, n=3, stream_options={"include_usage": True})
    for choice in whole["choices"]:
        message = choice["message"]
        assert joined(events, "reasoning_content", choice["index"]) == (message["reasoning_content"] or "")
        assert joined(events, "content", choice["index"]) == (message["content"] or "")
    assert events[0]["choices"][0]["delta"]["role"] == "assistant"
    ends = {c["index"]: c["finish_reason"] for e in events for c in e["choices"] if c["finish_reason"]}
    assert ends == {choice["index"]: choice["finish_reason"] for choice in whole["choices"]}
    last = events[-1]
    assert last["choices"] == []
    for name in ("prompt_tokens", "completion_tokens", "completion_tokens_details"):
        assert last["usage"][name] == whole["usage"][name]


def test_usage_comes_in_a_stream_only_when_asked_for(served: Served) -> None:
    assert all("usage" not in event for event in served.events(seed=2, max_tokens=8))


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("path", [CHAT, "/v1/completions"])
def test_usage_grows_in_every_chunk_when_asked_for(path: str, n: int, served: Served) -> None:
    fields = {"seed": 2, "max_tokens": 60, "n": n, **({} if path == CHAT else {"prompt": "1 2"})}
    options = {"include_usage": True, "continuous_usage_stats": True}
    *chunks, last = served.events(path, **fields, stream_options=options)
    grown = [chunk["usage"]["completion_tokens"] for chunk in chunks]
    assert grown == sorted(grown) and grown[-1] == last["usage"]["completion_tokens"]
    for chunk in chunks:
        usage = chunk["usage"]
        assert usage["prompt_tokens"] == last["usage"]["prompt_tokens"]
        assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    alone = served.events(path, **fields, stream_options={"continuous_usage_stats": True})
    assert all("usage" not in chunk for chunk in alone), "without include_usage vLLM sends none either"


def test_a_chunk_counts_what_was_drawn_up_to_it() -> None:
    order = SimpleNamespace(model="small", prompt_tokens=7)
    job: Any = SimpleNamespace(id="x", created=1, order=order, service=SimpleNamespace(fingerprint="f"), drawn=0)
    frame = Frame(job, "chunk", StreamOptions(include_usage=True, continuous_usage_stats=True))
    for drawn in (0, 3, 9):
        job.drawn = drawn
        usage = json.loads(frame.choice(0, '"delta":{}').removeprefix("data: "))["usage"]
        assert usage == {"prompt_tokens": 7, "completion_tokens": drawn, "total_tokens": 7 + drawn}


def test_the_same_seed_gives_the_same_answer_and_sample_0_is_the_only_one(served: Served) -> None:
    alone, again = (served.ask(seed=3, max_tokens=30)["choices"] for _ in range(2))
    many = served.ask(seed=3, max_tokens=30, n=4)["choices"]
    assert alone == again == many[:1]
    assert len({str(choice["message"]) for choice in many}) == 4


@pytest.mark.parametrize(
    "fields",
    [
        {"thinking_token_budget": 7},
        {"thinking_budget_tokens": 7},
        {"thinking": {"type": "enabled", "budget_tokens": 7}},
    ],
)
def test_budgets_by_every_name(fields: dict[str, Any], served: Served) -> None:
    usage = served.ask(seed=4, max_tokens=100, **fields)["usage"]
    assert usage["completion_tokens_details"]["reasoning_tokens"] <= 7


@pytest.mark.parametrize(
    "fields",
    [
        {"reasoning_effort": "none"},
        {"thinking": {"type": "disabled"}},
        {"chat_template_kwargs": {"enable_thinking": False}},
        {"chat_template_kwargs": {"thinking": False}},
        {"thinking_token_budget": 0},
    ],
)
def test_thinking_can_be_turned_off(fields: dict[str, Any], served: Served) -> None:
    body = served.ask(seed=5, max_tokens=20, **fields)
    assert body["usage"]["completion_tokens_details"]["reasoning_tokens"] == 0
    assert not body["choices"][0]["message"]["reasoning_content"]
    assert body["choices"][0]["message"]["content"]


def test_thinking_may_be_left_out_of_the_answer(served: Served) -> None:
    body = served.ask(seed=1, max_tokens=40, include_reasoning=False)
    assert "reasoning_content" not in body["choices"][0]["message"]
    assert body["usage"]["completion_tokens_details"]["reasoning_tokens"] > 0
    events = served.events(seed=1, max_tokens=40, include_reasoning=False)
    assert joined(events, "reasoning_content") == ""
    assert joined(events, "content") == (body["choices"][0]["message"]["content"] or "")


def test_the_second_limit_is_the_older_name(served: Served) -> None:
    assert served.ask(seed=6, max_tokens=10)["choices"] == served.ask(seed=6, max_completion_tokens=10)["choices"]
    assert served.ask(seed=6, max_tokens=90, max_completion_tokens=10)["usage"]["completion_tokens"] <= 10


def test_the_context_is_a_limit_like_another(served: Served) -> None:
    usage = served.ask(seed=7, max_tokens=10**6)["usage"]
    assert usage["total_tokens"] <= served.service.context


def test_unknown_fields_and_nulls_are_no_error(served: Served) -> None:
    nothing = dict.fromkeys(("max_tokens", "temperature", "stop", "n", "seed", "tools", "response_format", "stream"))
    served.ask(**{**nothing, "max_tokens": 4}, nobody_knows_this={"a": [1]}, user="x", presence_penalty=0.5)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}, "messages"),
        ({"temperature": -1}, "temperature"),
        ({"temperature": 3}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"n": 0}, "n"),
        ({"n": 65}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"stop": ["x"] * 17}, "stop"),
        ({"stop": "x" * 257}, "stop"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {"enum": ["x" * 70000]}}}},
            "response_format",
        ),
        ({"reasoning_effort": "enormous"}, "reasoning_effort"),
        ({"messages": [{"role": "user", "content": "1 " * 2000}]}, "messages"),
    ],
)
def test_a_mistake_is_400_and_names_its_field(fields: dict[str, Any], param: str, served: Served) -> None:
    error = served.ask(**{"messages": QUESTION, **fields}, expect=400)["error"]
    assert error["type"] == "invalid_request_error"
    assert error["param"] == param
    assert error["message"]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff", b'{"messages":"\\ud800"}', b"[" * 100000])
def test_a_body_that_is_no_request_is_400(body: bytes, served: Served) -> None:
    reply = served.client.post(CHAT, content=body, headers={"content-type": "application/json"})
    assert reply.status_code == 400
    assert reply.json()["error"]["message"]


@pytest.mark.parametrize(
    "message",
    [
        r'{"role":"user","content":"\ud800"}',
        r'{"role":"user","content":[{"type":"text","text":"\ud800"}]}',
        r'{"role":"user","content":"x"},{"role":"assistant","content":"x","prefix":true,"reasoning":"\ud800"}',
    ],
)
def test_half_a_surrogate_pair_is_a_mistake(message: str, served: Served) -> None:
    body = f'{{"messages":[{message}],"stop":"\\ud800"}}'
    reply = served.client.post(CHAT, content=body, headers={"content-type": "application/json"})
    assert reply.status_code == 400, reply.text


@pytest.mark.parametrize(
    ("field", "status"),
    [
        (r'"strategy":{"\ud800":1}', 400),
        (r'"strategy":{"vote":"best-of-n","checker":"exact","problem":{"\ud800":1}}', 400),
        (r'"model":"\ud800"', 404),
    ],
)
def test_an_error_may_repeat_half_a_surrogate_pair(field: str, status: int, served: Served) -> None:
    body = f'{{"messages":[{{"role":"user","content":"x"}}],{field}}}'
    reply = served.client.post(CHAT, content=body, headers={"content-type": "application/json"})
    assert reply.status_code == status, reply.text
    assert reply.json()["error"]["message"]


def test_logprobs_of_thinking_and_answer(served: Served) -> None:
    fields: dict[str, Any] = {"seed": 1, "max_tokens": 40, "logprobs": True, "top_logprobs": 3, "temperature": 0}
    choice = served.ask(**fields)["choices"][0]
    found = choice["logprobs"]
    usage = served.ask(**fields)["usage"]["completion_tokens_details"]
    assert len(found["reasoning_content"]) == usage["reasoning_tokens"]
    for name in ("content", "reasoning_content"):
        raw = b"".join(bytes(one["bytes"]) for one in found[name])
        assert raw.decode("utf-8", "replace") == (choice["message"][name] or "")
        for one in found[name]:
            assert one["top_logprobs"][0]["logprob"] == pytest.approx(one["logprob"]), "the likeliest was taken"
            assert len(one["top_logprobs"]) == 3
    events = served.events(**fields)
    streamed = [one for e in events for c in e["choices"] for one in (c["logprobs"] or {}).get("content", [])]
    assert streamed == found["content"]


def test_a_bias_forbids_and_forces(served: Served) -> None:
    tokenizer = served.service.reasoner.tokenizer
    seven = tokenizer.encode("7")[0]
    forced = served.ask(max_tokens=30, reasoning_effort="none", logit_bias={str(seven): 100}, return_token_ids=True)
    assert set(forced["choices"][0]["token_ids"][1:]) == {seven}
    for bias in ({"x": 1}, {"-1": 1}, {"99999999": 1}, {str(seven): 101}):
        assert served.ask(logit_bias=bias, expect=400)["error"]["param"].startswith("logit_bias")


def test_ends_can_be_ignored_and_thinking_have_a_least(served: Served) -> None:
    stop = str(served.service.reasoner.tokenizer.eos)
    likely = {"logit_bias": {stop: 50}, "max_tokens": 40, "seed": 1}
    assert served.ask(**likely)["usage"]["completion_tokens"] < 10
    assert served.ask(**likely, ignore_eos=True)["usage"]["completion_tokens"] == 40
    assert served.ask(**likely, min_tokens=15)["usage"]["completion_tokens"] >= 15
    close = str(served.service.reasoner.tokenizer.think_close)
    early: dict[str, Any] = {"logit_bias": {close: 50}, "max_tokens": 100, "seed": 1}
    for least in (0, 9):
        usage = served.ask(**early, min_thinking_tokens=least)["usage"]
        assert usage["completion_tokens_details"]["reasoning_tokens"] == least


def test_another_models_name_is_404(served: Served) -> None:
    error = served.ask(model="gpt-5", expect=404)["error"]
    assert error["code"] == "model_not_found"
    assert "small" in error["message"]


def test_system_messages_go_in_front_of_the_question(served: Served) -> None:
    said = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "1 2 -> 3"}]
    one = [
        {"role": "user", "content": [{"type": "text", "text": "Be brief.\n\n"}, {"type": "text", "text": "1 2 -> 3"}]}
    ]
    assert (
        served.ask(messages=said, seed=1, max_tokens=20)["choices"]
        == served.ask(messages=one, seed=1, max_tokens=20)["choices"]
    )


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_earlier_thoughts_are_taken_and_left_out_of_the_prompt(name: str, served: Served) -> None:
    answer = {"role": "assistant", "content": "4"}
    rest = [{"role": "user", "content": "and 3 + 3?"}]
    plain = served.ask(messages=[*QUESTION, answer, *rest], seed=1, max_tokens=20)
    thought = served.ask(messages=[*QUESTION, {**answer, name: "two and two"}, *rest], seed=1, max_tokens=20)
    assert plain["choices"] == thought["choices"]


def test_an_answer_goes_on_from_a_prefix(served: Served) -> None:
    prefix = {"role": "assistant", "content": "3 * ", "prefix": True}
    body = served.ask(messages=[*QUESTION, prefix], seed=1, max_tokens=10)
    assert body["usage"]["completion_tokens_details"]["reasoning_tokens"] == 0
    assert body["usage"]["prompt_tokens"] > served.ask(seed=1, max_tokens=10)["usage"]["prompt_tokens"]


def test_a_repeated_prompt_is_found_in_the_cache(served: Served) -> None:
    messages = [{"role": "user", "content": "a prompt that only this test asks, 1 2 3 4 5 6 7 8 9"}]
    first, second = (served.ask(messages=messages, max_tokens=4)["usage"]["prompt_cache_hit_tokens"] for _ in range(2))
    assert first == 0 < second


def test_thoughts_that_are_not_sent_are_not_told_by_their_tokens_either(served: Served) -> None:
    fields: dict[str, Any] = {"seed": 1, "max_tokens": 40, "logprobs": True, "include_reasoning": False}
    found = served.ask(**fields)
    assert found["usage"]["completion_tokens_details"]["reasoning_tokens"] > 0
    logprobs = found["choices"][0]["logprobs"]
    assert logprobs["content"] and not logprobs["reasoning_content"]
    told = [c["logprobs"] for e in served.events(**fields) for c in e["choices"] if c["logprobs"]]
    assert [one for each in told for one in each["content"]] == logprobs["content"]
    assert not any(each["reasoning_content"] for each in told)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ('{"messages":[{"role":"user","content":5}]}', "messages.0.content"),
        ('{"messages":[{"role":"user","content":"x"}],"stop":5}', "stop"),
        ('{"messages":[{"role":"user","content":"x"}],"stop":[5]}', "stop"),
        ('{"messages":[{"role":"user","content":"x"}],"tool_choice":"maybe"}', "tool_choice"),
        ('{"messages":[{"content":"x"}]}', "messages.0.role"),
        ("{}", "messages"),
        ('{"messages":', None),
        ("[]", None),
    ],
)
def test_the_field_that_is_wrong_is_named_as_it_was_sent(body: str, param: str | None, served: Served) -> None:
    reply = served.client.post(CHAT, content=body, headers={"content-type": "application/json"})
    error = reply.json()["error"]
    assert (reply.status_code, error["param"]) == (400, param)
    assert error["message"].startswith(f"{param}: " if param else ("JSON", "Input"))


def test_a_body_that_is_not_said_to_be_json_is_told_so(served: Served) -> None:
    reply = served.client.post(CHAT, content=json.dumps({"messages": QUESTION}))
    assert reply.status_code == 400 and "Content-Type: application/json" in reply.json()["error"]["message"]


def test_one_model_by_its_name(served: Served) -> None:
    assert served.client.get("/v1/models/small").json()["id"] == "small"
    assert served.client.get("/v1/models/org/other").json()["error"]["code"] == "model_not_found"

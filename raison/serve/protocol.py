"""What clients send to the chat and completion endpoints: OpenAI's fields, and those of DeepSeek, vLLM and llama.cpp
that are in use.

A field that is not named here is accepted and ignored, and so is null, for clients send both. The rules are DeepSeek's
of V3.2 and V4: `max_tokens` covers thinking and answer, `reasoning_content` of earlier turns is accepted, and a
`temperature` has its effect. Not covered: what a request means to the engine (asking.py).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
Count = Annotated[int, Field(ge=1, le=1 << 31)]
Budget = Annotated[int, Field(ge=0, le=1 << 31)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class Part(BaseModel):
    """A piece of a message's content; text is all that these models read."""

    model_config = ConfigDict(extra="allow")

    type: str
    text: str | None = None


class Message(BaseModel):
    model_config = ConfigDict(extra="allow")

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[Part] | None = None
    reasoning_content: str | None = None
    """Thoughts of an earlier turn, by DeepSeek's name; `reasoning` is heard as well."""
    reasoning: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None
    name: str | None = None
    prefix: bool | None = None
    """In the last message, the assistant's: the answer goes on from here (DeepSeek's chat prefix completion)."""


class StreamOptions(BaseModel):
    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None


class Thinking(BaseModel):
    """DeepSeek's and Anthropic's switch."""

    type: Literal["enabled", "disabled", "adaptive"] | None = None
    budget_tokens: Budget | None = None


class Schema(BaseModel):
    name: str | None = None
    description: str | None = None
    strict: bool | None = None
    schema_: dict[str, Any] | None = Field(None, alias="schema")


class ResponseFormat(BaseModel):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: Schema | None = None


class Function(BaseModel):
    model_config = ConfigDict(extra="allow")

    name: Annotated[str, Field(min_length=1, max_length=256)]
    description: str | None = None
    parameters: dict[str, Any] | None = None


class Tool(BaseModel):
    model_config = ConfigDict(extra="allow")

    type: Literal["function"]
    function: Function


class Named(BaseModel):
    name: str


class ToolChoice(BaseModel):
    type: Literal["function"]
    function: Named


class Sampling(BaseModel):
    """What chat and plain completions have in common."""

    model: str | None = None
    """Null takes the model that is served."""
    max_tokens: Count | None = None
    temperature: Annotated[Finite, Field(ge=0, le=2)] | None = None
    top_p: Annotated[Finite, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1, le=1 << 31)] | None = None
    min_p: Annotated[Finite, Field(ge=0, le=1)] | None = None
    n: Count | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    logit_bias: dict[str, Annotated[Finite, Field(ge=-100, le=100)]] | None = None
    ignore_eos: bool | None = None
    min_tokens: Budget | None = None
    return_token_ids: bool | None = None
    thinking_token_budget: Budget | None = None
    """At most so many thinking tokens (vLLM's name)."""
    thinking_budget_tokens: Budget | None = None
    """The same by llama.cpp's name."""
    strategy: dict[str, Any] | None = None
    """How to spend more than one sample on the answer, such as {"vote": "auto", "max_samples": 16}."""


class ChatRequest(Sampling):
    messages: Annotated[list[Message], Field(min_length=1)]
    max_completion_tokens: Count | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    response_format: ResponseFormat | None = None
    tools: list[Tool] | None = None
    tool_choice: Literal["none", "auto", "required"] | ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: Effort | None = None
    thinking: Thinking | None = None
    min_thinking_tokens: Budget | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    include_reasoning: bool | None = None
    """False leaves the thinking out of the answer; it is drawn and counted all the same."""


class CompletionRequest(Sampling):
    prompt: str | list[str] | list[int] | list[list[int]]
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    echo: bool | None = None
    suffix: str | None = None

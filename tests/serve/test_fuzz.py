"""Requests at random, from the schema's own field names and from nowhere: the server never answers 5xx.

Schemathesis does the same with more cases (tests/clients).
"""

from __future__ import annotations

import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raison.serve.protocol import ChatRequest, CompletionRequest
from raison.serve.responses import ResponsesRequest
from tests.serve.serving import CHAT, Served

VOCABULARY = (
    "user assistant system tool text function json_object json_schema none required auto enabled x <think> </think> "
    "small message reasoning function_call best-of-n countdown exact"
)
WORDS = st.sampled_from([*VOCABULARY.split(), "\ud800", "\x00", ""])
NUMBERS = st.one_of(st.integers(-2, 40), st.sampled_from([10**30, -(10**30), 0.5, 1e308, float("nan"), float("inf")]))
FIELDS = {*ChatRequest.model_fields, *CompletionRequest.model_fields, *ResponsesRequest.model_fields}
INNER = (
    "role content type schema json_schema name function parameters vote max_samples prefix checker problem gold meta"
)
NAMES = st.sampled_from([*sorted(FIELDS.union(INNER.split())), "\ud800"])
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, WORDS),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(NAMES, inner, max_size=5)),
    max_leaves=12,
)
MESSAGES = st.lists(
    st.fixed_dictionaries({"role": WORDS, "content": WORDS}, optional={"prefix": st.booleans()}), max_size=3
)
REQUESTS = st.fixed_dictionaries(
    {
        "messages": MESSAGES,
        "prompt": st.one_of(WORDS, st.lists(NUMBERS, max_size=5)),
        "input": st.one_of(WORDS, MESSAGES),
    },
    optional={"n": NUMBERS, "max_tokens": st.integers(1, 20)},
)


@settings(
    max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    path=st.sampled_from([CHAT, "/v1/completions", "/v1/responses"]),
    request=st.one_of(VALUES, REQUESTS),
    more=st.dictionaries(NAMES, VALUES, max_size=4),
)
def test_no_request_breaks_the_server(path: str, request: Any, more: dict[str, Any], served: Served) -> None:
    body = {"max_tokens": 8, "max_output_tokens": 8, **request, **more} if isinstance(request, dict) else request
    reply = served.client.post(path, content=json.dumps(body), headers={"content-type": "application/json"})
    assert reply.status_code < 500, reply.text
    if reply.status_code >= 400:
        assert reply.json()["error"]["message"]

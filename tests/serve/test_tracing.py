"""Spans: one a request, in the caller's trace, with what it took and none of its texts; none where not asked for."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("opentelemetry.sdk")
pytest.importorskip("opentelemetry.exporter.otlp.proto.http")

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from raison.cli.serve import tracing_of
from raison.errors import UserError
from raison.serve.tracing import Tracing, endpoint_of, open_tracing
from tests.serve.serving import CHAT, QUESTION, Served, eventually, serving
from tests.serve.test_jobs import hang_up

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class Spans:
    """What one test's requests leave."""

    def __init__(self, served: Served) -> None:
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        served.service.tracing = Tracing(provider)

    def next(self) -> ReadableSpan:
        """The one span since the last call; the last byte of an answer may come before it."""
        eventually(lambda: bool(self._exporter.get_finished_spans()))
        (span,) = self._exporter.get_finished_spans()
        self._exporter.clear()
        return span


@pytest.fixture
def spans(served: Served) -> Iterator[Spans]:
    yield Spans(served)
    served.service.tracing = None


def texts(span: ReadableSpan) -> list[Any]:
    found: list[Any] = []
    for value in (span.attributes or {}).values():
        found += value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    return found


@pytest.mark.parametrize("stream", [True, False])
def test_a_span_says_what_a_request_took(stream: bool, served: Served, spans: Spans) -> None:
    usage = {"include_usage": True}
    fields: dict[str, Any] = {"seed": 4, "max_tokens": 40, "n": 2, "temperature": 0.5, "stop": ["a secret"]}
    if stream:
        last = served.events(**fields, stream_options=usage)[-1]
    else:
        last = served.ask(**fields)
    span = spans.next()
    values = dict(span.attributes or {})
    assert (span.name, span.kind, span.parent) == ("chat small", SpanKind.SERVER, None)
    assert values["gen_ai.operation.name"] == "chat"
    assert values["gen_ai.request.stream"] is stream
    assert (values["gen_ai.request.choice.count"], values["gen_ai.request.temperature"]) == (2, 0.5)
    assert values["gen_ai.response.id"] == last["id"]
    assert values["gen_ai.usage.input_tokens"] == last["usage"]["prompt_tokens"]
    assert values["gen_ai.usage.output_tokens"] == last["usage"]["completion_tokens"]
    details = last["usage"]["completion_tokens_details"]
    assert values["gen_ai.usage.reasoning.output_tokens"] == details["reasoning_tokens"] > 0
    assert values["gen_ai.usage.num_sequences"] == len(values["gen_ai.response.finish_reasons"]) == 2  # type: ignore[arg-type]
    queued, first, whole = (
        values[f"gen_ai.latency.{name}"] for name in ("time_in_queue", "time_to_first_token", "e2e")
    )
    assert 0 <= queued <= first <= whole  # type: ignore[operator]
    assert ("gen_ai.response.time_to_first_chunk" in values) is stream
    assert span.status.status_code is StatusCode.UNSET
    assert not any("secret" in text or QUESTION[0]["content"] in text for text in map(str, texts(span)))


def test_a_span_goes_on_from_the_callers(served: Served, spans: Spans) -> None:
    for flags, sampled in (("01", True), ("00", False)):
        parent = {"traceparent": f"00-{TRACE}-{PARENT}-{flags}"}
        reply = served.client.post(CHAT, json={"messages": QUESTION, "max_tokens": 4}, headers=parent)
        assert reply.status_code == 200
        if sampled:
            span = spans.next()
            assert span.context is not None and span.parent is not None
            assert f"{span.context.trace_id:032x}" == TRACE
            assert f"{span.parent.span_id:016x}" == PARENT
            assert span.parent.is_remote
    served.ask(max_tokens=4)
    assert spans.next().parent is None, "what the caller does not sample leaves no span"


def test_a_vote_has_all_its_branches(served: Served, spans: Spans) -> None:
    body = served.ask(max_tokens=30, strategy={"vote": "self-consistency", "max_samples": 3})
    values = dict(spans.next().attributes or {})
    assert values["raison.request.vote"] == "self-consistency"
    assert values["gen_ai.usage.num_sequences"] == 3
    assert values["gen_ai.usage.output_tokens"] == body["usage"]["completion_tokens"]


def test_the_other_endpoints_leave_spans(served: Served, spans: Spans) -> None:
    served.ask("/v1/completions", prompt="1 2", max_tokens=4)
    assert spans.next().name == "text_completion small"
    served.ask("/v1/responses", input="1 2", max_output_tokens=4)
    assert dict(spans.next().attributes or {})["raison.endpoint"] == "/v1/responses"


def test_hanging_up_ends_the_span_and_is_no_error(served: Served, spans: Spans) -> None:
    hang_up(served, 400, stream=True)
    span = spans.next()
    values = dict(span.attributes or {})
    assert values["error.type"] == "client_closed_request"
    assert span.status.status_code is StatusCode.UNSET
    assert values["gen_ai.response.finish_reasons"] == ("cancelled",)


def test_a_deadline_is_an_error_of_the_server(tmp_path: Path) -> None:
    with serving(tmp_path, deadline_seconds=1e-6) as served:
        spans = Spans(served)
        served.ask(max_tokens=900, expect=504)
        span = spans.next()
        assert dict(span.attributes or {})["error.type"] == "deadline_exceeded"
        assert span.status.status_code is StatusCode.ERROR


@contextmanager
def collector() -> Iterator[tuple[str, list[tuple[str, ExportTraceServiceRequest]]]]:
    """An OTLP collector: its address, and the paths and bodies that it was sent."""
    heard: list[tuple[str, ExportTraceServiceRequest]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            heard.append((self.path, ExportTraceServiceRequest.FromString(body)))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", heard
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_spans_arrive_before_the_server_has_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test")
    with collector() as (url, heard):
        with serving(tmp_path) as served:
            served.service.tracing = tracing_of(url)
            served.ask(max_tokens=4)
        ((path, request),) = heard
    assert path == "/v1/traces"
    (of_resource,) = request.resource_spans
    about = {one.key: one.value.string_value for one in of_resource.resource.attributes}
    assert (about["service.name"], about["deployment.environment"]) == ("raison", "test")
    ((span,),) = (scope.spans for scope in of_resource.scope_spans)
    assert span.name == "chat small"


def test_the_standard_variables_say_whether_and_where(monkeypatch: pytest.MonkeyPatch) -> None:
    assert tracing_of(None) is None
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert tracing_of(None) is None
    monkeypatch.delenv("OTEL_SDK_DISABLED")
    tracing = tracing_of(None)
    assert tracing is not None
    tracing.close()
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    assert tracing_of(None) is None
    with pytest.raises(UserError, match="OTEL_EXPORTER_OTLP_PROTOCOL is grpc"):
        open_tracing(None, {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"})


def test_addresses_of_collectors() -> None:
    assert endpoint_of("http://here:4318") == endpoint_of("http://here:4318/") == "http://here:4318/v1/traces"
    assert endpoint_of("https://here/api/traces") == "https://here/api/traces"
    for wrong in ("here:4318", "ftp://here", "http://", "http://here:port"):
        with pytest.raises(UserError, match="--otel"):
            endpoint_of(wrong)


def test_without_the_extra_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith(("opentelemetry", "raison.serve.tracing"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(UserError, match=r"raison\[otel\]"):
        tracing_of("http://127.0.0.1:4318")


def test_nothing_is_imported_where_no_spans_are_wanted() -> None:
    """FastAPI itself imports OpenTelemetry's interface, which does nothing without the SDK."""
    code = "import sys, raison.cli.serve as s, raison.serve.server; s.tracing_of(None); "
    code += "assert not [m for m in sys.modules if m.startswith(('opentelemetry.sdk', 'opentelemetry.exporter'))]"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


def test_what_is_refused_before_it_is_read_leaves_a_span(served: Served, spans: Spans) -> None:
    parent = {"traceparent": f"00-{TRACE}-{PARENT}-01"}

    def asked(path: str = CHAT, **more: Any) -> dict[str, Any]:
        served.client.post(path, headers={**parent, **more.pop("headers", {})}, json=more)
        span = spans.next()
        assert span.context is not None and f"{span.context.trace_id:032x}" == TRACE
        assert span.kind is SpanKind.SERVER and span.status.status_code is StatusCode.UNSET
        assert span.start_time is not None and span.end_time is not None and span.start_time < span.end_time
        return {"name": span.name, **(span.attributes or {})}

    unknown = asked(messages=QUESTION, model="gpt-5")
    assert unknown["error.type"] == "model_not_found" and unknown["http.response.status_code"] == 404
    assert (unknown["name"], unknown["raison.endpoint"], unknown["raison.key"]) == ("chat", CHAT, "local")
    wrong = asked("/v1/completions", prompt=5)
    assert (wrong["name"], wrong["error.type"]) == ("text_completion", "invalid_value")
    assert asked(messages=QUESTION, n=1000)["error.type"] == "invalid_value"
    stranger = asked(messages=QUESTION, headers={"Host": "evil.example"})
    assert stranger["error.type"] == "loopback_only" and "raison.key" not in stranger


def test_what_is_no_question_leaves_no_span(served: Served, spans: Spans) -> None:
    assert served.client.get("/v1/nothing").status_code == 404
    served.ask("/v1/embeddings", input="x", expect=400)
    served.ask(max_tokens=2)
    assert spans.next().name == "chat small"

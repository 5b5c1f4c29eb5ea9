"""A span for each request, for OpenTelemetry: what it asked, how long it waited, what it drew, how it ended.

    tracing = open_tracing("http://localhost:4318", os.environ)     # or the standard variables OTEL_* alone

A span begins when a request has been read and ends when it is settled, streamed or not, hung up on or not. One that was
refused before has a span from its arrival to the refusal, with what is known of it by then. A span goes on
from the caller's `traceparent` (W3C Trace Context) and heeds its decision to sample. Names are those of OpenTelemetry's
conventions for generative AI (opentelemetry.io/docs/specs/semconv/gen-ai, of 2026, in development), and where these
have none, vLLM's: gen_ai.latency.* and gen_ai.usage.num_sequences. Spans leave in a thread of their own; a collector
that is away costs spans, never an answer. This module needs the extra `otel` and is imported only where spans are
wanted. Not covered: texts of prompts and answers, which no span holds; requests that ask for no answer, such as those
of the page; metrics (metrics.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TypeAlias
from urllib.parse import urlsplit

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.requests import Request

from raison import __version__
from raison.errors import UserError
from raison.serve.access import Used
from raison.serve.job import Job
from raison.serve.refusal import Refused

Values: TypeAlias = dict[str, str | bool | int | float | list[str]]
SERVICE = "raison"
SUPPORTED = {
    "OTEL_TRACES_EXPORTER": "otlp",
    "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
    "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
}
"""What these variables may say."""
OPERATIONS = {"/v1/chat/completions": "chat", "/v1/completions": "text_completion", "/v1/responses": "chat"}
"""By endpoint."""


class Tracing:
    """Lives on the event loop, but for `close`."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("raison.serve", __version__)
        self._propagator = TraceContextTextMapPropagator()

    def follow(self, job: Job, request: Request, stream: bool) -> None:
        """Begin the span of a job that has not begun; it ends with the job."""
        asked = request_values(job, stream)
        name = f"{asked['gen_ai.operation.name']} {job.order.model}"
        caller = self._propagator.extract(request.headers)
        span = self._tracer.start_span(name, caller, SpanKind.SERVER, asked)
        job.on_end.append(partial(_end, span, job, stream))
        request.state.followed = True

    def refused(self, request: Request, status: int, code: str) -> None:
        """The whole span of a request for an answer that came to no job; nothing for any other."""
        operation = OPERATIONS.get(request.url.path)
        if operation is None or getattr(request.state, "followed", False):
            return
        values: Values = {
            "gen_ai.operation.name": operation, "gen_ai.provider.name": SERVICE, "raison.endpoint": request.url.path,
            "http.response.status_code": status, "error.type": code,
        }  # fmt: skip
        if (caller := getattr(request.state, "caller", None)) is not None:
            values["raison.key"] = caller.key
        parent, arrived = self._propagator.extract(request.headers), getattr(request.state, "arrived", None)
        span = self._tracer.start_span(operation, parent, SpanKind.SERVER, values, start_time=arrived)
        if status >= 500:
            span.set_status(Status(StatusCode.ERROR, code))
        span.end()

    def close(self) -> None:
        """Send what was not sent yet; waits for the collector a few seconds."""
        self._provider.shutdown()


def _end(span: Span, job: Job, stream: bool, error: BaseException | None) -> None:
    if span.is_recording():
        span.set_attributes(response_values(job, job.used(), stream))
        if error is not None:
            span.set_attribute("error.type", error.code if isinstance(error, Refused) else type(error).__name__)
        if error is not None and (not isinstance(error, Refused) or error.status >= 500):
            span.set_status(Status(StatusCode.ERROR, str(error)))  # what a caller did wrong is no error of a server
    span.end()


def request_values(job: Job, stream: bool) -> Values:
    """What was asked, without its texts: stop strings are texts too."""
    order, params = job.order, job.order.params
    values: Values = {
        "gen_ai.operation.name": OPERATIONS[order.endpoint],
        "gen_ai.provider.name": SERVICE,
        "gen_ai.request.model": order.model,
        "gen_ai.request.stream": stream,
        "gen_ai.request.choice.count": order.n,
        "gen_ai.request.max_tokens": params.max_tokens,
        "gen_ai.request.temperature": params.temperature,
        "gen_ai.request.top_p": params.top_p,
        "gen_ai.request.seed": params.seed,
        "raison.endpoint": order.endpoint,
        "raison.key": job.caller.key,
    }
    if params.top_k:
        values["gen_ai.request.top_k"] = params.top_k
    if params.thinking_budget is not None:
        values["raison.request.thinking_budget"] = params.thinking_budget
    if order.plan is not None:
        values["raison.request.vote"] = order.plan.vote
    return values


def response_values(job: Job, used: Used, stream: bool) -> Values:
    """What became of it. Times are in seconds."""
    values: Values = {
        "gen_ai.response.id": job.id,
        "gen_ai.response.model": job.order.model,
        "gen_ai.response.finish_reasons": [one.finish_reason for _, one in sorted(job.completions.items())],
        "gen_ai.usage.input_tokens": used.prompt_tokens,
        "gen_ai.usage.output_tokens": used.completion_tokens,
        "gen_ai.usage.cache_read.input_tokens": used.cached_tokens,
        "gen_ai.usage.reasoning.output_tokens": used.reasoning_tokens,
        "gen_ai.usage.num_sequences": len(job.completions),
        "gen_ai.latency.e2e": used.seconds,
    }
    if job.queued_seconds is not None:
        values["gen_ai.latency.time_in_queue"] = job.queued_seconds
    if used.completion_tokens:
        values["gen_ai.latency.time_to_first_token"] = used.first_token_seconds
        if stream:
            values["gen_ai.response.time_to_first_chunk"] = used.first_token_seconds
    return values


def open_tracing(url: str | None, environment: Mapping[str, str]) -> Tracing:
    """Spans to an OTLP collector at `url`, or where OTEL_EXPORTER_OTLP_* say; OTEL_SERVICE_NAME,
    OTEL_RESOURCE_ATTRIBUTES, OTEL_TRACES_SAMPLER and the others that the SDK reads have their effect too.

    Raises UserError for what is no URL, and for exporters and protocols other than OTLP over HTTP.
    """
    for name, known in SUPPORTED.items() if url is None else ():
        if environment.get(name, known) not in (known, ""):
            raise UserError(f"{name} is {environment[name]}; spans are sent by {known} only")
    own = Resource({"service.name": SERVICE, "service.version": __version__})
    provider = TracerProvider(resource=Resource.create().merge(own).merge(OTELResourceDetector().detect()))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint_of(url) if url else None)))
    return Tracing(provider)


def endpoint_of(url: str) -> str:
    """Where traces go at a collector of this address: /v1/traces, unless it names a path (OTLP 1.0, "OTLP/HTTP")."""
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        sound = False
    if not sound:
        raise UserError(f"--otel {url} is no address of a collector; give one such as http://localhost:4318")
    return url.rstrip("/") + "/v1/traces" if parts.path in ("", "/") else url

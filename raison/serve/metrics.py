"""What is counted and timed, for Prometheus: vLLM's names under the prefix `raison:` where they mean the same.

The engine's own counters are read from its last statistics when they are asked for, so that a scrape neither waits for
a step nor wakes the engine. Not covered: what single requests cost (the books).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from raison.records import Completion
from raison.serve.access import Used

if TYPE_CHECKING:
    from raison.serve.service import Service

SECONDS = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640)
BETWEEN = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1, 2, 5)
TOKENS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000)


class Metrics:
    """One registry a server. Its methods are called on the event loop."""

    def __init__(self, service: Service) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(EngineCounters(service))
        named = {"model_name": service.model}

        def histogram(name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
            whole = Histogram(f"raison:{name}", text, tuple(named), registry=self.registry, buckets=buckets)
            return whole.labels(**named)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"raison:{name}", text, (*named, *labels), registry=self.registry)

        self._queue = histogram("request_queue_time_seconds", "Time until a request's first branch starts.", SECONDS)
        self._first = histogram("time_to_first_token_seconds", "Time to the first token, thinking included.", SECONDS)
        self._whole = histogram("e2e_request_latency_seconds", "Time to the last token.", SECONDS)
        self._between = histogram("inter_token_latency_seconds", "A request's mean time between tokens.", BETWEEN)
        self._prompt = histogram("request_prompt_tokens", "Tokens of a prompt.", TOKENS)
        self._generation = histogram("request_generation_tokens", "Tokens drawn for a request, all branches.", TOKENS)
        self._success = counter("request_success", "Requests ended, by reason.", "finished_reason")
        self._refused = counter("request_refused", "Requests not served, by status and code.", "status", "code")
        self._reasoning = counter("reasoning_tokens", "Thinking tokens drawn.").labels(**named)
        self._model = service.model

    def admitted(self, waited: float) -> None:
        self._queue.observe(waited)

    def ended(self, used: Used, completions: Mapping[int, Completion]) -> None:
        self._success.labels(model_name=self._model, finished_reason=used.finish).inc()
        self._whole.observe(used.seconds)
        self._prompt.observe(used.prompt_tokens)
        self._generation.observe(used.completion_tokens)
        self._reasoning.inc(used.reasoning_tokens)
        if used.completion_tokens:
            self._first.observe(used.first_token_seconds)
        for one in completions.values():
            if len(one.token_ids) > 1:
                self._between.observe((one.seconds - one.first_token_seconds) / (len(one.token_ids) - 1))

    def refused(self, status: int, code: str) -> None:
        self._refused.labels(model_name=self._model, status=str(status), code=code).inc()

    def text(self) -> bytes:
        """The exposition format of Prometheus."""
        return generate_latest(self.registry)


class EngineCounters:
    """The engine's statistics and the queue's, read as they stand."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        service, stats = self._service, self._service.engine.stats
        yield self._gauge("num_requests_running", "Requests in the engine.", service.admission.running)
        yield self._gauge("num_requests_waiting", "Requests that wait for their turn.", service.admission.waiting)
        yield self._gauge("num_tokens_waiting", "Tokens that wait for their turn.", service.admission.waiting_tokens)
        if stats is None:
            return
        used = 1 - stats.pages_free / stats.pages_total
        yield self._gauge("kv_cache_usage_perc", "Share of the cache in use, 1 = all.", used)
        yield self._gauge("num_sequences_running", "Branches in the batch.", stats.running)
        cached, computed = stats.prompt_tokens_cached, stats.prompt_tokens_computed
        for name, text, value in (
            ("prefix_cache_queries", "Prompt tokens looked for in the cache.", cached + computed),
            ("prefix_cache_hits", "Prompt tokens found in the cache.", cached),
            ("prompt_tokens", "Prompt tokens read, cached ones included.", cached + computed),
            ("generation_tokens", "Tokens drawn.", stats.tokens_sampled),
            ("num_preemptions", "Sequences put back to wait for room in the cache.", stats.preemptions),
            ("engine_steps", "Steps of the engine.", stats.steps),
            ("spec_decode_num_draft_tokens", "Tokens guessed ahead.", stats.tokens_guessed),
            ("spec_decode_num_accepted_tokens", "Guesses that were right.", stats.guesses_right),
        ):
            yield self._counter(name, text, value)

    def _gauge(self, name: str, text: str, value: float) -> Metric:
        family: Any = GaugeMetricFamily(f"raison:{name}", text, labels=["model_name"])
        family.add_metric([self._service.model], value)
        return family  # type: ignore[no-any-return]

    def _counter(self, name: str, text: str, value: float) -> Metric:
        family: Any = CounterMetricFamily(f"raison:{name}", text, labels=["model_name"])
        family.add_metric([self._service.model], value)
        return family  # type: ignore[no-any-return]

"""What the server says of itself beside what was seen: its counters, its histograms, its usage; disagreements by name.

Counters are read before and after a cell's requests; names are matched without their prefix, so that vLLM, SGLang,
llama.cpp and Raison are all understood. Not covered: counters that a server updates later than a moment after the
answer; percentiles of its histograms, which are as coarse as its buckets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from raison.bench.endpoint.records import Measured

GENERATED = ("generation_tokens_total", "tokens_predicted_total")
PROMPTED = ("prompt_tokens_total",)
FIRST, WHOLE = "time_to_first_token_seconds", "e2e_request_latency_seconds"
COUNT_TOLERANCE = 0.01
TIME_TOLERANCE, TIME_FLOOR = 0.1, 0.005
"""Share and seconds by which a mean time may differ: the way over the network is in the client's alone."""
CACHED_SHARE, CACHED_TOKENS = 0.05, 64
"""Of a prompt's tokens from a cache, from which on it is told; a chat template's own beginning is always shared."""

Samples = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Check:
    """One figure from both sides."""

    what: str
    server: float
    client: float
    agrees: bool
    seconds: bool
    """A time; else a count."""


def samples(text: str) -> dict[str, float]:
    """Every sample's sum over its labels, by the name without its prefix; what is no exposition format gives none."""
    found: dict[str, float] = {}
    try:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                name = sample.name.rpartition(":")[2]
                found[name] = found.get(name, 0.0) + sample.value
    except (ValueError, KeyError):
        return {}
    return found


def checks(before: Samples, after: Samples, rows: Sequence[Measured]) -> list[Check]:
    """Each figure that both sides have. Counts compare only where every answer is whole and has its usage."""
    counted = all(row.whole and row.served.completion_tokens is not None for row in rows)
    found = [
        *(_count("tokens drawn", _grown(before, after, GENERATED), [row.served.completion_tokens for row in rows])
          if counted else ()),
        *(_count("prompt tokens", _grown(before, after, PROMPTED), [row.served.prompt_tokens for row in rows])
          if counted else ()),
        *_mean(before, after, FIRST, "mean time to first token", [_sent(row, row.ttft) for row in rows]),
        *_mean(before, after, WHOLE, "mean end-to-end time", [_sent(row, row.end_to_end) for row in rows]),
    ]  # fmt: skip
    return found


def _grown(before: Samples, after: Samples, names: Sequence[str]) -> float | None:
    name = next((name for name in names if name in after), None)
    return None if name is None else after[name] - before.get(name, 0.0)


def _sent(row: Measured, since_due: float | None) -> float | None:
    """Since it was sent, which is all a server can know; of whole answers."""
    return since_due - row.late if row.whole and since_due is not None else None


def _count(what: str, server: float | None, seen: Sequence[int | None]) -> list[Check]:
    client = float(sum(count or 0 for count in seen))
    if server is None:
        return []
    return [Check(what, server, client, abs(server - client) <= COUNT_TOLERANCE * max(client, 1.0), False)]


def _mean(before: Samples, after: Samples, name: str, what: str, seen: Sequence[float | None]) -> list[Check]:
    """A histogram's mean; left out where it counted other requests than ours."""
    times = [time for time in seen if time is not None]
    count = _grown(before, after, [f"{name}_count"])
    total = _grown(before, after, [f"{name}_sum"])
    if not times or not count or total is None or count != len(times):
        return []
    server, client = total / count, sum(times) / len(times)
    room = max(TIME_FLOOR, TIME_TOLERANCE * client)
    return [Check(what, server, client, -TIME_FLOOR <= client - server <= room, True)]


def disagreements(found: Sequence[Check], rows: Sequence[Measured], unique: bool) -> list[str]:
    """Sentences: checks that failed, and usage that cannot be what was seen."""
    said = [_apart(check) for check in found if not check.agrees]
    whole = [row for row in rows if row.whole]
    fewer = [row for row in whole if (told := row.served.completion_tokens) is not None and told < row.events]
    if fewer:
        said.append(f"in {len(fewer)} answers the usage counts fewer tokens than events with text came")
    return said + _thinking(whole) + (_cached(whole) if unique else [])


def _apart(check: Check) -> str:
    if not check.seconds:
        return (
            f"the server counts {check.server:,.0f} {check.what}, its usage {check.client:,.0f}: "
            "was somebody else asking, or is one of them wrong?"
        )
    between = 1000 * (check.client - check.server)
    why = "its clock starts late, or the way to it is long" if between > 0 else "its clock counts what no client saw"
    return f"{between:,.1f} ms of the {check.what} are not in the server's own: {why}"


def _thinking(whole: Sequence[Measured]) -> list[str]:
    hidden = sum(bool(row.served.reasoning_tokens) and not row.thinking_tokens for row in whole)
    silent = sum(row.served.reasoning_tokens == 0 and row.thinking_tokens > 0 for row in whole)
    said = []
    if hidden:
        said.append(f"{hidden} answers were thought out of sight: their first token is that of the answer")
    if silent:
        said.append(f"in {silent} answers thinking came and the usage counts none")
    return said


def _cached(whole: Sequence[Measured]) -> list[str]:
    told = [row.served for row in whole if row.served.cached_tokens is not None and row.served.prompt_tokens]
    cached, prompt = sum(one.cached_tokens or 0 for one in told), sum(one.prompt_tokens or 0 for one in told)
    if cached <= max(CACHED_SHARE * prompt, CACHED_TOKENS * len(told)):
        return []
    return [f"{cached / prompt:.0%} of the prompts' tokens came from a cache, though no two prompts are alike"]


def as_json(found: Sequence[Check]) -> list[dict[str, Any]]:
    return [asdict(check) for check in found]

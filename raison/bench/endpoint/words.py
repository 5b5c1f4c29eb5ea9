"""A cell's figures as words for people, the same on the terminal and on the page.

Not covered: the tables around them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from raison.bench.endpoint.figures import PERCENTILES

FIGURES = {
    "ttft": "time to first token, s",
    "ttfat": "time to first answer token, s",
    "output_speed": "output speed, tokens/s",
    "itl": "inter-token latency, ms",
    "end_to_end": "end to end, s",
    "response_500": "to 500 answer tokens, s",
    "prompt_tokens": "prompt, tokens",
    "thinking_tokens": "thinking, tokens",
    "answer_tokens": "answer, tokens",
}
MILLISECONDS = ("itl",)


def shown(value: float) -> str:
    """Three digits that matter; large numbers whole."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def percentiles(name: str, found: Mapping[str, Any]) -> list[str]:
    """P5 to P95 of a figure, the median with its interval."""
    scale = 1000 if name in MILLISECONDS else 1
    cells = []
    for percentile in PERCENTILES:
        one = {key: scale * value for key, value in found[f"p{percentile}"].items()}
        interval = f" [{shown(one['low'])}, {shown(one['high'])}]" if percentile == 50 else ""
        cells.append(shown(one["value"]) + interval)
    return cells


def cell_words(cell: Mapping[str, Any]) -> list[str]:
    """All but the percentiles: sentences, the doubts last."""
    return [*_came(cell), *_pace(cell), *_worth(cell), *_server(cell), *(f"! {text}" for text in cell["warnings"])]


def _came(cell: Mapping[str, Any]) -> Iterator[str]:
    stopped = f", {cell['stopped']} stopped" if cell["stopped"] else ""
    yield f"{cell['whole']} of {cell['requests']} requests whole{stopped} in {shown(cell['seconds'])} s"
    for kind, failure in cell["failed"].items():
        yield f"failed: {failure['count']} {kind}" + (f" ({failure['first']})" if failure["first"] else "")


def _pace(cell: Mapping[str, Any]) -> Iterator[str]:
    pace, gap, usage = cell["throughput"], cell["token_gap"], cell["usage"]
    served = pace["served_tokens_per_second"]
    by_server = f" ({shown(served)} by the server's count)" if served is not None else ""
    yield (
        f"all together {shown(pace['output_tokens_per_second'])} tokens/s{by_server}, "
        f"{shown(pace['requests_per_second'])} requests/s"
    )
    if gap:
        values = ", ".join(f"{name.upper()} {shown(1000 * value)}" for name, value in gap.items())
        yield f"between tokens, over all tokens, ms: {values}"
    if usage["tokens_of_common"]:
        yield (
            f"usage of {usage['answers']} answers: {usage['completion_tokens']:,} tokens, "
            f"{usage['tokens_of_common']:.3f} for each counted here; {usage['reasoning_tokens']:,} of them reasoning; "
            f"prompts {usage['prompt_tokens']:,}, {usage['cached_tokens']:,} from a cache"
        )


def _worth(cell: Mapping[str, Any]) -> Iterator[str]:
    good, right, cost = cell["goodput"], cell["accuracy"], cell["cost"]
    if good:
        limits = ", ".join(f"{name} {shown(value)} s" for name, value in good["limits"].items())
        yield f"goodput: {_share(good['share'])} within {limits}, {shown(good['requests_per_second'])} requests/s"
    if right:
        each = cell["tokens_per_correct"]
        tokens = f", {shown(each)} output tokens for each correct one" if each else ""
        yield f"correct: {_share(right)}{tokens}"
    if cost:
        whose = "the server's tokens" if not cost["counted_here"] else "tokens counted here where it tells none"
        yield f"cost: ${cost['total']:.6f} by {whose}; blended price ${cost['blended']:g}/M (3:1)"
    if cost and cost["per_correct"]:
        yield f"cost of a correct answer: {_dollars(cost['per_correct'])}"


def _share(estimate: Mapping[str, float]) -> str:
    return f"{estimate['value']:.1%} [{estimate['low']:.1%}, {estimate['high']:.1%}] of {estimate['count']}"


def _dollars(found: Mapping[str, float | None]) -> str:
    if found["value"] is None:
        return f"none was correct; above ${found['low']:.3g}"
    high = "no bound" if found["high"] is None else f"${found['high']:.3g}"
    return f"${found['value']:.3g} [${found['low']:.3g}, {high}]"


def _server(cell: Mapping[str, Any]) -> Iterator[str]:
    for check in cell["server"]:
        mark = "✓" if check["agrees"] else "✗"
        yield f"{mark} {check['what']}: {shown(check['server'])} by the server, {shown(check['client'])} here"
    client = cell["client"]
    yield (
        f"client: {client['cpu_share']:.0%} of a core, woke {1000 * client['late_p50']:.1f} ms late at the median, "
        f"{1000 * client['late_p99']:.1f} at P99; sent at most {1000 * client['send_late_max']:.1f} ms late"
    )

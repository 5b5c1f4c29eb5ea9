"""`raison bench soak`: a mixed load for an hour, a line a minute, and what it did to memory, speed and the cache."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import replace

from rich.text import Text

from raison.bench.questions import questions_for
from raison.bench.soak import GROWTH_SHARE, LEAST_LINES, WARM_UP, Verdict, figures, judged, soak
from raison.bench.traffic import Traffic
from raison.cli.output import console_for, emit_json
from raison.cli.session import prepare
from raison.engine.engine import Engine
from raison.errors import UserError
from raison.reasoner import Reasoner, load

LONGEST = 768
"""Tokens of a request with its answer."""
ROOM = 256
"""Tokens of cache for each sequence: less than the longest need, so that some are put back to wait."""


def command(arguments: Namespace) -> int:
    seconds, every, streams = 60 * arguments.minutes, arguments.every, arguments.streams
    if every <= 0 or seconds < LEAST_LINES * every:
        raise UserError(f"a soak needs {LEAST_LINES} lines for its verdict; raise --minutes or lower --every")
    if streams < 1 or arguments.seed < 0:
        raise UserError("--streams is at least 1 and --seed at least 0")
    threads = prepare(arguments.threads)
    console = console_for(arguments)
    reasoner = load(arguments.model)
    engine = _engine(reasoner, streams)
    longest = min(LONGEST, reasoner.spec.max_position_embeddings, engine.settings.cache_tokens)
    traffic = Traffic(reasoner.tokenizer, questions_for(reasoner, 64), longest, arguments.seed)
    lines = soak(
        engine, traffic, seconds, every, arguments.seed, lambda text: console.print(Text(text), soft_wrap=True)
    )
    verdict = judged(lines)
    console.print(Text(_said(verdict)), soft_wrap=True)
    if arguments.json:
        emit_json({"model": str(arguments.model or "shipped"), "threads": threads, **figures(lines, verdict)})
    return 0 if verdict.sound else 1


def _engine(reasoner: Reasoner, streams: int) -> Engine:
    settings = replace(reasoner.settings, cache_tokens=max(LONGEST, streams * ROOM), max_batch=streams)
    return Engine(reasoner.model, reasoner.tokenizer, settings)


def _said(verdict: Verdict) -> str:
    growth, drift = verdict.growth, verdict.drift
    lost = "✓ no page of the cache was lost" if not verdict.pages_lost else f"✗ pages lost: {verdict.pages_lost}"
    memory = (
        f"{'✗' if verdict.grows else '✓'} memory {growth.change / 2**20:+.2f} MiB "
        f"[{growth.low / 2**20:+.2f}, {growth.high / 2**20:+.2f}] after the first {WARM_UP:.0%} of the run, "
        f"of {growth.mean / 2**20:,.0f}; the bound is {verdict.bound / 2**20:.1f} ({GROWTH_SHARE:.0%}, at least 4)"
    )
    speed = (
        f"  speed {drift.change / drift.mean:+.1%} [{drift.low / drift.mean:+.1%}, {drift.high / drift.mean:+.1%}], "
        "in tokens by the CPU time of a yardstick"
    )
    return "\n".join((lost, memory, speed))

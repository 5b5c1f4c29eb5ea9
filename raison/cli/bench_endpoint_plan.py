"""What was typed after `raison bench endpoint`, checked before anything is asked of anybody.

Not covered: what argparse checks by itself (bench_endpoint_parser.py).
"""

from __future__ import annotations

import json
import secrets
from argparse import Namespace
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from raison.bench.endpoint.counting import load_counter
from raison.bench.endpoint.figures import LIMITS
from raison.bench.endpoint.load import Load
from raison.bench.endpoint.prompts import Form, read_prompts
from raison.bench.endpoint.run import Input, Plan, Progress
from raison.bench.note import Note
from raison.cli.given import above_zero, size, sizes, whole_number, whole_numbers, words
from raison.config import EndpointSection
from raison.errors import UserError, nearest
from raison.serve.prices import Price
from raison.tasks.catalog import load_task
from raison.think.measure import usual_level

PARALLEL = "1,10"
INPUTS = "1k"
SEEDS = 2**31


@dataclass(frozen=True)
class Wish:
    """All that was asked for; the plan's model may still be the endpoint's to name."""

    section: EndpointSection
    plan: Plan
    limits: Mapping[str, float]
    price: Price | None


def wish_of(arguments: Namespace, tell: Callable[[Progress], None], note: Note) -> Wish:
    """Raises UserError for whatever cannot be meant."""
    if not arguments.url:
        raise UserError("name the endpoint, as in raison bench endpoint http://127.0.0.1:8000/v1")
    if arguments.report and find_spec("matplotlib") is None:
        raise UserError(
            "the page has plots, which need matplotlib: pip install 'raison[report]', or leave out --report"
        )
    section = EndpointSection(
        url=arguments.url, model=arguments.model or "", key_env=arguments.key_env or "",
        timeout_seconds=above_zero(str(arguments.timeout), "--timeout"),
    )  # fmt: skip
    return Wish(section, _plan(arguments, tell, note), _limits(arguments.limit), _price(arguments))


def _plan(arguments: Namespace, tell: Callable[[Progress], None], note: Note) -> Plan:
    for name in ("warm_up", "temperature", "seed"):
        if (value := getattr(arguments, name)) is not None and value < 0:
            raise UserError(f"--{name.replace('_', '-')} is {value}; it must be at least 0")
    return Plan(
        form=_form(arguments), counter=load_counter(arguments.tokenizer), inputs=_inputs(arguments),
        loads=_loads(arguments), requests=whole_number(arguments.requests, "--requests"), warm_up=arguments.warm_up,
        seed=secrets.randbelow(SEEDS) if arguments.seed is None else arguments.seed, tell=tell, note=note,
    )  # fmt: skip


def _form(arguments: Namespace) -> Form:
    return Form(
        model=arguments.model or "", max_tokens=size(arguments.output, "--output"), temperature=arguments.temperature,
        ignore_eos=arguments.ignore_eos, extra=_body(arguments),
    )  # fmt: skip


def _inputs(arguments: Namespace) -> list[Input]:
    given = [name for name in ("inputs", "prompts", "task") if getattr(arguments, name)]
    if len(given) > 1:
        raise UserError(f"--{given[0]} and --{given[1]} exclude each other: measure one after the other")
    if arguments.prompts:
        return [Input(arguments.prompts, conversations=read_prompts(Path(arguments.prompts)))]
    if arguments.task:
        task = load_task(arguments.task, held_out=True)
        level = usual_level(task, {}) if arguments.level is None else arguments.level
        return [Input(f"{task.name}, level {level}", task=task, level=level)]
    found = sizes(arguments.inputs or INPUTS, "--inputs")
    return [Input(f"{size:,} tokens in", size) for size in found]


def _loads(arguments: Namespace) -> list[Load]:
    rates = [above_zero(word, "--rates") for word in words(arguments.rates or "")]
    parallel = arguments.parallel or ("" if rates else PARALLEL)
    closed = [Load(parallel=count) for count in whole_numbers(parallel, "--parallel")] if parallel else []
    return closed + [Load(rate=rate, arrivals=arguments.arrivals) for rate in rates]


def _limits(text: str) -> dict[str, float]:
    found = {}
    for word in words(text):
        name, equals, value = word.partition("=")
        if name not in LIMITS or not equals:
            raise UserError(f'--limit has "{word}"; write NAME=SECONDS: {nearest(name, LIMITS)}')
        found[name] = above_zero(value, f"--limit {name}")
    return found


def _price(arguments: Namespace) -> Price | None:
    into, out = arguments.price_in, arguments.price_out
    if into is None and out is None:
        return None
    if into is None or out is None:
        raise UserError("a price has two sides: give --price-in and --price-out, in $ per million tokens")
    return Price(prompt=into, completion=out)


def _body(arguments: Namespace) -> dict[str, Any]:
    if not arguments.body:
        return {}
    try:
        found = json.loads(arguments.body)
    except ValueError as error:
        raise UserError(f"--body is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise UserError('--body is a JSON object of fields, as in \'{"reasoning_effort": "low"}\'')
    return found

"""`raison bench accuracy`: one model or two on the same problems, as a table, a file of every sample, and JSON.

Not covered: how answers are drawn and kept (bench/accuracy.py) and what is made of them (bench/score.py).
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from raison.bench.accuracy import Measurement
from raison.bench.answerers import Answerer, LocalModel, Manner, RemoteModel, is_endpoint
from raison.bench.problem_set import ProblemSet, draw, whole_file
from raison.bench.score import Comparison, Score, as_json, compare, score
from raison.cli.given import whole_numbers
from raison.cli.loading import load_reasoner
from raison.cli.output import console_for, emit_json, visible
from raison.cli.session import DEFAULT_TASK, prepare
from raison.errors import UserError
from raison.progress import ConsoleSink, clock_time
from raison.reasoner import Reasoner
from raison.tasks.catalog import load_task
from raison.tasks.task import checker_id
from raison.think.measure import Estimate, usual_level

MOST_MODELS = 2
SHIPPED_WORD = "shipped"
USUAL_KS = (1, 2, 4, 8, 16)


def command(arguments: Namespace) -> int:
    if len(arguments.models) > MOST_MODELS:
        raise UserError(f"{len(arguments.models)} models are given; give one, or two to compare")
    if arguments.problems < 1:
        raise UserError(f"--problems is {arguments.problems}; it must be at least 1")
    ks = _ks(arguments.k, arguments.samples)
    manner = Manner(
        arguments.samples, arguments.budget, arguments.answer, arguments.temperature, arguments.seed
    )  # fmt: skip
    prepare(arguments.threads)
    console = console_for(arguments)
    answerers, provenance = _answerers(console, arguments)
    problems = _problems(arguments, provenance)
    identities = [answerer.identity() for answerer in answerers]
    path = arguments.out or default_path(problems, identities, manner)
    measurement = Measurement(path, problems, manner, identities)
    _announce(console, measurement)
    measurement.run(answerers, ConsoleSink(console))
    result = _result(measurement, ks)
    _show(console, measurement, ks)
    if arguments.json:
        emit_json(result)
    return 0


def _answerers(console: Console, arguments: Namespace) -> tuple[list[Answerer], dict[str, Any]]:
    """Who answers, and the provenance of the first local model, which knows its task and level."""
    found: list[Answerer] = []
    provenance: dict[str, Any] = {}
    for word in arguments.models or [SHIPPED_WORD]:
        if is_endpoint(word):
            found.append(RemoteModel(word, arguments.key_env))
            continue
        path = None if word == SHIPPED_WORD else word
        reasoner: Reasoner = load_reasoner(console, path)
        provenance = provenance or reasoner.provenance
        found.append(LocalModel(reasoner, path))
    return found, provenance


def _problems(arguments: Namespace, provenance: dict[str, Any]) -> ProblemSet:
    word = arguments.task or str(provenance.get("task", DEFAULT_TASK))
    if arguments.whole:
        return whole_file(word, arguments.checker)
    task = load_task(word, True, arguments.checker)
    level = usual_level(task, provenance) if arguments.level is None else arguments.level
    return draw(task, level, arguments.problems, arguments.seed)


def default_path(problems: ProblemSet, identities: Sequence[dict[str, Any]], manner: Manner) -> Path:
    """The same measurement has the same name, so that it goes on when it is asked for again."""
    names = [Path(str(one["model"])).name.replace("/", "-") for one in identities]
    words = [checker_id(problems.task).replace(":", "-"), *names, f"{len(problems.problems)}x{manner.samples}"]
    return Path(f"accuracy-{'-'.join(words)}-b{manner.budget}-s{manner.seed}.json")


def _announce(console: Console, measurement: Measurement) -> None:
    asked, manner = measurement.asked, measurement.manner
    level = "" if asked["level"] is None else f" level {asked['level']}"
    lines = [
        f"· {asked['task']}{level}: {asked['problems']} problems {asked['problems_sha256'][:12]}, {manner.samples} "
        f"samples each, budget {manner.budget}, temperature {manner.temperature:g}, seed {manner.seed}"
    ]
    for one in asked["models"]:
        lines.append(
            f"· {one['model']}  " + (f"sha256 {one['sha256'][:12]}" if one["sha256"] else "behind an endpoint")
        )
    if measurement.resumed:
        lines.append(f"· {measurement.resumed} problems were answered before")
    console.print(Text(visible("\n".join(lines))), soft_wrap=True)


def _ks(text: str | None, samples: int) -> tuple[int, ...]:
    """As given, or those of the usual that so many samples allow."""
    if text is None:
        return tuple(k for k in USUAL_KS if k <= samples)
    ks = whole_numbers(text, "--k")
    if max(ks) > samples:
        raise UserError(f"--k has {max(ks)}, but {samples} samples of a problem are drawn; give --samples {max(ks)}")
    return ks


def _result(measurement: Measurement, ks: Sequence[int]) -> dict[str, Any]:
    found = {
        **{key: value for key, value in measurement.asked.items() if key != "models"},
        "started": measurement.started, "ended": measurement.ended, "file": str(measurement.path),
        "models": [as_json(one, ks) for one in measurement.measured],
    }  # fmt: skip
    if len(measurement.measured) == MOST_MODELS:
        first, second = measurement.measured
        found["comparison"] = asdict(compare(first.samples, second.samples, ks))
    return found


def _show(console: Console, measurement: Measurement, ks: Sequence[int]) -> None:
    for one in measurement.measured:
        found = score(one.samples, ks)
        console.print(_table(str(one.identity["model"]), found))
        console.print(Text(f"  {_spent(found, one.seconds)}\n"), soft_wrap=True)
    if len(measurement.measured) == MOST_MODELS:
        first, second = measurement.measured
        words = _compared(compare(first.samples, second.samples, ks))
        console.print(Text(f"{first.identity['model']} against {second.identity['model']}, in pairs\n{words}"))
    console.print(Text(f"  every sample: {measurement.path}"), soft_wrap=True)


def _table(name: str, found: Score) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2), header_style="bold")
    table.add_column(visible(name))
    for column in ("accuracy", "95 % interval"):
        table.add_column(column, justify="right")
    seeds = len(found.seeds)
    _row(table, f"pass@1 over {seeds} seed{'s' * (seeds > 1)}", found.pass_at_1)
    if found.lenient is not None:
        _row(table, "  read leniently", found.lenient)
    if seeds > 1:
        values = [seed.value for seed in found.seeds]
        table.add_row("  seed by seed", f"{min(values):.3f}-{max(values):.3f}", f"sd {found.seed_deviation:.3f}")
    for kind, estimates in (("pass", found.pass_at_k), ("maj", found.maj_at_k)):
        for k, estimate in estimates.items():
            if k > 1:
                _row(table, f"{kind}@{k}", estimate)
    return table


def _row(table: Table, name: str, found: Estimate) -> None:
    table.add_row(name, f"{found.value:.3f}", f"{found.low:.3f} to {found.high:.3f}")


def _spent(found: Score, seconds: float) -> str:
    return (
        f"{found.tokens:,.0f} tokens a sample, {found.thinking_tokens:,.0f} of them thinking; "
        f"{found.cut_share:.1%} cut, {found.silent_share:.1%} without an answer; {clock_time(seconds)}"
    )


def _compared(found: Comparison) -> str:
    lines = [f"  pass@1  {found.pass_at_1}"]
    lines += [f"  maj@{k:<3} {difference}" for k, difference in found.maj_at_k.items()]
    for name, test in (("one sample each", found.first_samples), ("vote over all", found.majority)):
        if test is not None:
            lines.append(f"  McNemar, {name}: {test.gained} gained, {test.lost} lost, p = {test.p:.3g}")
    return "\n".join(lines)

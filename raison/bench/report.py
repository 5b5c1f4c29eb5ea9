"""A run's report: one self-contained HTML file that anyone can open, made from what the run recorded.

It asks nothing of the network, follows the reader's light or dark mode, and says the result in a sentence before it
shows tables and plots. An unfinished run gets a report of what there is. Not covered: the plots themselves (plots.py).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from raison.bench import plots
from raison.bench.page import page
from raison.config import BASE, CONTROL
from raison.errors import UserError
from raison.files import write_atomic
from raison.metrics import read_metrics
from raison.progress import clock_time
from raison.train.bill import short_count

NAME, TEMPLATE = "report.html", Path(__file__).with_name("report.html.j2")

Record = Mapping[str, Any]


def _percent(share: float) -> str:
    return f"{100 * share:.1f}\u00a0%"


FILTERS = {"count": short_count, "clock": clock_time, "percent": _percent}
"""What templates of reports say figures with."""


def write_report(run_folder: Path) -> Path:
    """Write `report.html` into a run's folder and return its path.

    Raises UserError when the folder is no run's, or matplotlib (the extra `report`) is missing.
    """
    state = _read(run_folder / "run.json")
    recipe = _text(run_folder / "recipe.toml")
    outcomes = list(state.get("outcomes", {}).values())
    evaluation = state.get("evaluation") or {}
    figures = {name: Markup(svg) for name, svg in _plots(run_folder, outcomes, evaluation).items()}
    html = page(
        TEMPLATE,
        FILTERS,
        state=state,
        recipe=recipe,
        outcomes=outcomes,
        lenient=any(o.get("lenient") for o in outcomes),
        evaluation=evaluation,
        bill=state.get("bill", {}),
        sentences=sentences(state, outcomes, evaluation),
        tiles=tiles(state, outcomes, evaluation),
        machine=_machine(state.get("machine", {})),
        plots=figures,
    )
    path = run_folder / NAME
    try:
        write_atomic(path, html.encode())
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror or error}; make room, then raison report") from None
    return path


def sentences(state: Record, outcomes: Sequence[Record], evaluation: Record) -> list[str]:
    """The result in words: accuracy, what GRPO gained, what the control gained, what it cost."""
    said = []
    grpo, start, control = reinforced(outcomes)
    judged = [o for o in outcomes if o["accuracy"] and not o["control"]]
    last = next((o for o in reversed(judged) if o["kind"] == "grpo"), judged[-1] if judged else None)
    if last is None:
        return ["The run has not come to a stage whose accuracy is measured yet."]
    a = last["accuracy"]
    said.append(
        f"After {last['stage']} the model solves {_percent(a['value'])} of {a['count']:,} fresh problems "
        f"(95 % interval {_percent(a['low'])} to {_percent(a['high'])}), each with one sample."
    )
    if grpo and start:
        before, after = start["accuracy"]["value"], grpo["accuracy"]["value"]
        change = f"from {_percent(before)} to {_percent(after)}, by {100 * (after - before):+.1f} points"
        said.append(f"The stage {grpo['stage']} changed it {change}.")
    if control and start:
        gained = 100 * (control["accuracy"]["value"] - start["accuracy"]["value"])
        said.append(f"The same stage with random rewards changed it by {gained:+.1f} points.")
    whole = state.get("bill", {}).get("actual_total")
    if whole:
        cost = f"{whole['kwh']:.3f} kWh and ${whole['usd']:.3f}"
        said.append(f"All stages together took {clock_time(whole['seconds'])}, {cost}.")
    if not evaluation:
        said.append("The run is not finished.")
    return said


def reinforced(outcomes: Sequence[Record]) -> tuple[Record | None, Record | None, Record | None]:
    """The last grpo stage that has a control, or the last at all, the stage before it, and its random-reward control.

    Only judged stages count; None where absent.
    """
    judged = [o for o in outcomes if o["accuracy"]]
    stages = [o for o in judged if o["kind"] == "grpo" and not o["control"]]
    controls = {o["stage"].removesuffix(CONTROL): o for o in judged if o["control"]}
    grpo = next((o for o in reversed(stages) if o["stage"] in controls), stages[-1] if stages else None)
    if grpo is None:
        return None, None, None
    before = [o for o in judged[: judged.index(grpo)] if not o["control"]]
    return grpo, before[-1] if before else None, controls.get(grpo["stage"])


def tiles(state: Record, outcomes: Sequence[Record], evaluation: Record) -> list[tuple[str, str, str]]:
    """Figure, its name, and what bounds it, for the top of the page."""
    shown = []
    budgets, votes = evaluation.get("budgets", []), evaluation.get("votes", [])
    if budgets:
        best, once = budgets[-1], budgets[0]
        e = best["pass_at_1"]
        shown.append((_percent(e["value"]), "final model, pass@1", f"{_percent(e['low'])} to {_percent(e['high'])}"))
        if once["budget"] == 0:
            shown.append((_percent(once["pass_at_1"]["value"]), "answered at once", "without thinking"))
            shown.append((f"{best['thinking_tokens']:.0f}", "tokens of thinking", f"budget {best['budget']}"))
    if votes:
        most = votes[-1]
        shown.append((_percent(most["best_of"]["value"]), f"best of {most['votes']}", "judged by the checker"))
    if outcomes:
        seconds = sum(o["seconds"] for o in outcomes)
        threads = state.get("machine", {}).get("threads")
        origin = "of training" if any(o["kind"] == BASE for o in outcomes) else "from random weights"
        shown.append((clock_time(seconds), origin, f"on {threads} threads" if threads else ""))
    return shown


def _plots(folder: Path, outcomes: Sequence[Record], evaluation: Record) -> dict[str, str]:
    """Every plot for which there is data, by name."""
    found: dict[str, str] = {}
    steps = {o["stage"]: read_metrics(folder / "stages" / o["stage"] / "metrics.jsonl") for o in outcomes}
    supervised = {o["stage"]: steps[o["stage"]] for o in outcomes if o["kind"] != "grpo" and steps[o["stage"]]}
    if supervised:
        found["loss"] = plots.loss_curves(supervised)
    grpo, _, control = reinforced(outcomes)
    if grpo and steps[grpo["stage"]]:
        found["grpo"] = plots.grpo_curves(steps[grpo["stage"]], steps[control["stage"]] if control else [])
    if evaluation.get("budgets"):
        found["budgets"] = plots.budget_curve(evaluation["budgets"])
    if evaluation.get("votes"):
        found["votes"] = plots.vote_curve(evaluation["votes"])
    return found


def _machine(machine: Record) -> list[tuple[str, str]]:
    """The record of the machine as rows for reading."""
    if not machine:
        return []
    return [
        ("processor", f"{machine['cpu']}, {machine['cores']} cores, {machine['threads']} threads"),
        ("instruction sets", ", ".join(machine["instruction_sets"]) or "none that help"),
        ("measured", f"{machine['fp32_gflops']} GFLOP/s fp32, {machine['bf16_gflops']} bf16, "
                     f"{machine['read_gb_per_second']} GB/s"),
        ("memory", f"{machine['memory_gb']} GB"),
    ]  # fmt: skip


def _read(path: Path) -> dict[str, Any]:
    text = _text(path)
    try:
        value = json.loads(text)
    except ValueError:
        raise UserError(f"{path} is not the record of a run: it is no JSON") from None
    if not isinstance(value, dict) or not isinstance(value.get("outcomes", {}), dict):
        raise UserError(f"{path} is not the record of a run")
    return value


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise UserError(f"{path} cannot be read; give a run's folder, such as runs/quick-20260101-120000") from None

"""`raison plan train MODEL --chip C`: what pre-training takes, as intervals, with the assumptions named.

Not covered: the arithmetic (raison.plan.training_plan).
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from rich.console import Console

from raison.cli.output import console_for, emit_json
from raison.cli.plan_tables import assumptions, figure, interval_json, lines, refused, short
from raison.errors import InfeasibleError, UserError
from raison.plan.chips import count_in, find_chip
from raison.plan.distillation import Teaching, read, written
from raison.plan.export import describe
from raison.plan.models import find_model
from raison.plan.training_memory import TrainingLayout
from raison.plan.training_plan import TrainingAsk, TrainingPlan, plan_training
from raison.plan.utilization import Case, fitted


def command(arguments: Namespace) -> int:
    try:
        plan = plan_training(ask_of(arguments))
        taught = teaching_of(arguments, plan)
    except InfeasibleError as why:
        return refused(arguments, why)
    if arguments.json:
        emit_json({"verdict": "feasible", **as_json(plan), **({"teaching": _teaching_json(taught)} if taught else {})})
    else:
        _show(console_for(arguments), plan, taught)
    return 0


def _show(console: Console, plan: TrainingPlan, taught: Teaching | None) -> None:
    ask = plan.ask
    console.print(f"[bold]{ask.shape.name}[/bold]  {ask.shape.total / 1e9:,.4g} B parameters, "
                  f"{ask.shape.active / 1e9:,.4g} B multiplied by each token, on {plan.chips:,} x {ask.chip.name}, "
                  f"{ask.precision}")  # fmt: skip
    console.print(lines((*_rows(plan), *(_teaching_rows(taught, plan) if taught else ()))))
    assumptions(console, (*plan.assumptions, *(taught.assumptions if taught else ())))


def ask_of(arguments: Namespace) -> TrainingAsk:
    tp, pp, dp, ep = (getattr(arguments, name) for name in ("tp", "pp", "dp", "ep"))
    layout = TrainingLayout(tp or 1, pp or 1, dp or 1, ep or 1) if any((tp, pp, dp, ep)) else None
    return TrainingAsk(
        shape=find_model(arguments.model),
        chip=find_chip(arguments.chip),
        chips=count_in(arguments.chip) if arguments.chips is None else arguments.chips,
        tokens=arguments.tokens,
        sequence=arguments.sequence,
        batch_tokens=arguments.batch_tokens,
        precision=arguments.precision,
        layout=layout,
        usd_per_hour=arguments.usd_per_hour,
    )


def teaching_of(arguments: Namespace, plan: TrainingPlan) -> Teaching | None:
    """What the teacher costs, where there is one."""
    if not arguments.teacher:
        if arguments.logits or arguments.kept != 1 or arguments.epochs != 1:
            raise UserError("--logits, --kept and --epochs tell of a teacher; name one with --teacher")
        return None
    teacher, ask = find_model(arguments.teacher), plan.ask
    if arguments.logits:
        case = Case(ask.chip, ask.precision, ask.shape.active, experts=ask.shape.experts > 0, whole_run=True,
                    chips=plan.chips)  # fmt: skip
        return read(teacher, plan.tokens, case, fitted(), ask.sequence)
    return written(teacher, ask.chip, ask.precision, plan.tokens, kept=arguments.kept, epochs=arguments.epochs,
                   length=ask.sequence)  # fmt: skip


def as_json(plan: TrainingPlan) -> dict[str, Any]:
    """Every figure under its own name; intervals as low, mid and high."""
    bill = plan.bill
    return {
        "model": plan.ask.shape.name, "parameters": plan.ask.shape.total, "active": plan.ask.shape.active,
        "chip": plan.ask.chip.name, "chips": plan.chips, "precision": plan.ask.precision, "tokens": plan.tokens,
        "flops_per_token": plan.work.flops, "flops": bill.flops,
        "utilization": interval_json(bill.utilization), "chip_hours": interval_json(bill.chip_hours),
        "days": interval_json(bill.days), "usd": interval_json(bill.usd), "kwh": interval_json(bill.kwh),
        "layout": {**asdict(plan.layout), "words": plan.layout.words}, "idle_share": plan.idle,
        "memory_bytes": asdict(plan.memory), "batch_tokens": plan.batch_tokens,
        "loss": interval_json(plan.loss), "dense_optimum": {"parameters": plan.optimum[0], "tokens": plan.optimum[1]},
        "export": describe(plan.ask.chip), "assumptions": list(plan.assumptions),
    }  # fmt: skip


def _teaching_json(taught: Teaching) -> dict[str, Any]:
    return {"chip_hours": interval_json(taught.chip_hours), "tokens": taught.tokens,
            "assumptions": list(taught.assumptions)}  # fmt: skip


def _teaching_rows(taught: Teaching, plan: TrainingPlan) -> Iterator[tuple[str, str, str]]:
    yield "teacher", *figure(taught.chip_hours, f"chip-hours for {short(taught.tokens)} tokens")
    yield "together", *figure(plan.bill.chip_hours + taught.chip_hours, "chip-hours")


def _rows(plan: TrainingPlan) -> Iterator[tuple[str, str, str]]:
    bill, memory = plan.bill, plan.memory
    yield (
        "tokens",
        f"{plan.tokens:,.4g}",
        f"{plan.work.flops / 1e9:,.4g} GFLOP each, sequences of {plan.ask.sequence:,}",
    )
    yield "FLOPs", f"{bill.flops:,.4g}", f"batches of {plan.batch_tokens:,.0f} tokens"
    yield "utilization", *figure(bill.utilization, "% of the dense 16-bit peak", 100)
    yield "chip-hours", *figure(bill.chip_hours, "")
    yield "time", *figure(bill.days, "days")
    yield "money", *figure(bill.usd, "dollars")
    yield "energy", *figure(bill.kwh, "kWh")
    yield "layout", plan.layout.words, f"pipeline idle {100 * plan.idle:.0f} % of the time"
    parts = (("weights", memory.weights), ("gradients", memory.gradients), ("optimizer", memory.optimizer),
             ("activations", memory.activations))  # fmt: skip
    told = ", ".join(f"{name} {size / 1e9:,.1f}" for name, size in parts)
    yield "memory", f"{memory.total / 1e9:,.1f} GB", f"of {memory.available / 1e9:,.1f} on the fullest chip: {told}"
    yield "loss", *figure(plan.loss, "nats, Chinchilla's law on its own data, active parameters as dense")
    yield "", "", f"a dense model is best at {plan.optimum[0]:.3g} parameters, {plan.optimum[1]:.3g} tokens by that law"
    yield "export", "", describe(plan.ask.chip)

"""`raison check TASK|FILE`: attack a checker, and prove that it pays for right answers. No torch.

Not covered: the attacks (tasks/attacks.py), what counts as a hole (tasks/audit.py).
"""

from __future__ import annotations

from argparse import Namespace
from dataclasses import asdict
from time import perf_counter

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from raison.cli.output import console_for, emit_json, visible
from raison.errors import CheckerError
from raison.tasks.audit import AuditReport, Hole, audit
from raison.tasks.catalog import load_task
from raison.tasks.task import Task, checker_id


def command(arguments: Namespace) -> int:
    task = load_task(arguments.task, checker=arguments.checker)
    console = console_for(arguments)
    began = perf_counter()
    try:
        report = attack(console, task, arguments.attacks, arguments.seed)
    finally:
        if close := getattr(task, "close", None):
            close()
    if report.gold_checked == 0 or len(report.raised) == report.tried + report.gold_checked:
        raise CheckerError(f"{report.checker} judged nothing: {_first_failure(report)}")
    _show(console, report, perf_counter() - began)
    if arguments.json:
        emit_json({"ok": report.ok, **asdict(report)})
    return 0 if report.ok else 1


def attack(console: Console, task: Task, attacks: int, seed: int) -> AuditReport:
    """The audit with a progress bar where there is a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        line = bar.add_task(f"attacking {checker_id(task)}", total=attacks)
        return audit(task, attacks, seed, lambda done, total: bar.update(line, completed=done, total=total))


def summary(report: AuditReport) -> str:
    """`checker countdown@1  attacked with 10,000 answers: 0 wrongly paid`."""
    paid = sum(report.paid_by_family.values())
    return f"checker {report.checker}  attacked with {report.tried:,} answers: {paid:,} wrongly paid"


def _first_failure(report: AuditReport) -> str:
    if report.raised:
        return visible(report.raised[0].reason)
    return "it has no problem with a known answer; give problems an answer"


def _show(console: Console, report: AuditReport, seconds: float) -> None:
    mark = "✓" if report.ok else "✗"
    console.print(f"{mark} {summary(report)}", markup=False)
    rejected, raised = len(report.gold_rejected), len(report.raised)
    console.print(f"  right answers: {report.gold_checked:,} tried, {rejected} rejected; failures: {raised}")
    speed = f"{report.mean_microseconds:.1f} µs in the mean, {report.slowest_microseconds:,.0f} µs at most"
    console.print(f"  {len(report.families)} families of attack, {speed}, {seconds:.1f} s in all")
    for family, count in report.paid_by_family.items():
        console.print(f"  hole: {family}, paid {count:,} of {report.families[family]:,} times", markup=False)
        _example(console, next(hole for hole in report.wrongly_paid if hole.family == family))
    for title, holes in (("rejected", report.gold_rejected), ("failed", report.raised)):
        for hole in holes[:3]:
            console.print(f"  {title}: {hole.family}", markup=False)
            _example(console, hole)


def _example(console: Console, hole: Hole) -> None:
    told = f"    e.g. {hole.prompt!a}, answer {hole.answer!a}{': ' if hole.reason else ''}{visible(hole.reason)}"
    console.print(told, markup=False, style="dim", soft_wrap=True)

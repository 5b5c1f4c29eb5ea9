"""`raison plan validate FILE.csv`: the planner held against published figures, coverage first.

Not covered: the predictions themselves (raison.plan).
"""

from __future__ import annotations

from argparse import Namespace
from textwrap import shorten

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from raison.cli.output import console_for, emit_json, visible
from raison.plan import serving_rows, training_rows
from raison.plan.rows import PUBLISHED, Predictor, read_rows
from raison.plan.validate import Outcome, Report, Summary, as_json, by_group, hold_out, row_json, validate

PREDICTORS: tuple[Predictor, ...] = (training_rows.predict, serving_rows.predict)
REASON, SOURCE = 160, 48
"""Characters of a reason and of a source in a line; --json has them whole."""


def command(arguments: Namespace) -> int:
    rows = read_rows(arguments.file or PUBLISHED)
    report = hold_out(rows, PREDICTORS[1:]) if arguments.hold_out else validate(rows, PREDICTORS)
    if arguments.json:
        told = [row_json(outcome) for outcome in report.outcomes]
        emit_json({**as_json(report), **({"outcomes": told} if arguments.rows else {})})
    else:
        show_report(console_for(arguments), report, rows=arguments.rows)
    return 0


def show_report(console: Console, report: Report, *, rows: bool = False, of_sources: bool = False) -> None:
    """Coverage, errors and intervals of the whole and by group and metric; if asked also by source, and row by row."""
    whole = report.whole
    console.print(f"coverage      {_share(whole.coverage)}   {whole.covered} of {whole.n} rows in scope, "
                  f"{len(report.outcomes) - whole.n} out of it")  # fmt: skip
    console.print(
        f"error         {_share(whole.median_error)} median, {_share(whole.p90_error)} at the 90th percentile"
    )
    console.print(f"80 % intervals hold {_share(whole.interval_coverage)}")
    console.print(_groups(report))
    if of_sources:
        console.print(_sources(report))
    if rows:
        for outcome in report.outcomes:
            console.print(_row(outcome), soft_wrap=True)
    else:
        console.print("[dim]--rows shows every row, and why one was left out[/dim]")


def _groups(report: Report) -> Table:
    table = _table("group", "metric", "rows", "covered", "median error", "90 % below", "in interval")
    for name, group in by_group(report).items():
        metrics = group.by(_metric)
        table.add_row(f"[bold]{name}[/bold]", "", *_cells(group.whole))
        if len(metrics) > 1 or name not in metrics:
            for metric, part in metrics.items():
                table.add_row("", metric, *_cells(part), style="dim")
    return table


def _sources(report: Report) -> Table:
    table = _table("group", "source", "rows", "covered", "median error", "90 % below", "in interval")
    for name, part in by_group(report).items():
        for source, summary in part.by(lambda outcome: outcome.row.origin).items():
            table.add_row(name, escape(visible(shorten(source, SOURCE))), *_cells(summary))
    return table


def _row(outcome: Outcome) -> str:
    """One line: what was measured, what was predicted and how far off, or why nothing was."""
    row, found = outcome.row, outcome.prediction
    measured = f"{row.value:,.4g} {row.unit}" if row.value else "-"
    told = escape(visible(f"{row.id}  {row.metric}  {measured}"))
    if found is None:
        return f"{told}  [dim]{escape(visible(shorten(outcome.reason, REASON)))}[/dim]"
    value = found.value
    said = f"  [dim]{escape(visible('; '.join(found.assumptions)))}[/dim]" if found.assumptions else ""
    inside = "inside" if outcome.held else "outside"
    return (f"{told}  [bold]{value.mid:,.4g}[/bold] ({value.low:,.4g} to {value.high:,.4g}), off by "
            f"{_share(outcome.error)}, {inside}{said}")  # fmt: skip


def _metric(outcome: Outcome) -> str:
    return outcome.row.metric


def _cells(summary: Summary) -> tuple[str, ...]:
    shares = (summary.median_error, summary.p90_error, summary.interval_coverage)
    return (str(summary.n), f"{summary.covered} ({_share(summary.coverage)})", *map(_share, shares))


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2))
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index < 2 or column == "note" else "right")
    return table


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"

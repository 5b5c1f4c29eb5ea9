"""`raison plan validate FILE.csv`: the planner held against published figures, coverage first.

Not covered: the predictions themselves (raison.plan).
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from raison.cli.output import console_for, emit_json, visible
from raison.plan import serving_rows, training_rows
from raison.plan.rows import Predictor, read_rows
from raison.plan.validate import Outcome, Report, Summary, as_json, groups_of, hold_out, row_json, validate

PREDICTORS: tuple[Predictor, ...] = (training_rows.predict, serving_rows.predict)


def command(arguments: Namespace) -> int:
    rows = read_rows(arguments.file)
    report = hold_out(rows, PREDICTORS[1:]) if arguments.hold_out else validate(rows, PREDICTORS)
    if arguments.json:
        told = [row_json(outcome) for outcome in report.outcomes]
        emit_json({**as_json(report), **({"outcomes": told} if arguments.rows else {})})
    else:
        _show(console_for(arguments), report, arguments.rows)
    return 0


def _show(console: Console, report: Report, rows: bool) -> None:
    whole = report.whole
    console.print(f"coverage      {_share(whole.coverage)}   {whole.covered} of {whole.n} rows in scope, "
                  f"{len(report.outcomes) - whole.n} out of it")  # fmt: skip
    console.print(
        f"error         {_share(whole.median_error)} median, {_share(whole.p90_error)} at the 90th percentile"
    )
    console.print(f"80 % intervals hold {_share(whole.interval_coverage)}")
    console.print(_groups(report))
    if rows:
        console.print(_rows(report.outcomes))
    else:
        console.print("[dim]--rows shows every row, and why one was left out[/dim]")


def _groups(report: Report) -> Table:
    table = _table("group", "metric", "rows", "covered", "median error", "90 % below", "in interval")
    key = groups_of(report)
    for name, summary in report.by(key).items():
        metrics = Report(tuple(outcome for outcome in report.in_scope if key(outcome) == name)).by(_metric)
        table.add_row(f"[bold]{name}[/bold]", "", *_cells(summary))
        if len(metrics) > 1 or name not in metrics:
            for metric, part in metrics.items():
                table.add_row("", metric, *_cells(part), style="dim")
    return table


def _rows(outcomes: Sequence[Outcome]) -> Table:
    table = _table("row", "metric", "measured", "predicted", "80 % interval", "error", "note")
    for outcome in outcomes:
        row, found = outcome.row, outcome.prediction
        told = (visible(row.id), visible(row.metric), f"{row.value:,.4g}" if row.value else "-")
        if found is None:
            table.add_row(*told, "-", "", "", visible(outcome.reason), style="dim")
        else:
            value = found.value
            span = f"{value.low:,.4g} to {value.high:,.4g}"
            table.add_row(*told, f"{value.mid:,.4g}", span, _share(outcome.error), "; ".join(found.assumptions))
    return table


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

"""`raison report RUN_FOLDER`: write a run's report.html anew, finished or not."""

from __future__ import annotations

from argparse import Namespace

from raison.bench.report import write_report
from raison.cli.output import console_for, emit_json


def command(arguments: Namespace) -> int:
    path = write_report(arguments.folder)
    console_for(arguments).print(f"  report: {path}", markup=False, soft_wrap=True)
    if arguments.json:
        emit_json({"report": str(path)})
    return 0

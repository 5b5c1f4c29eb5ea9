"""Loading that shows how far it is: a bar on a terminal, a line now and then in a log, nothing where it is quick.

Not covered: what is loaded, and how (weights/).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from raison.cli.output import visible
from raison.engine.device import Device
from raison.reasoner import Reasoner, load

QUICK_SECONDS, LINE_SECONDS = 0.5, 10.0


def load_reasoner(console: Console, path: str | None, device: Device = "cpu", draft: str | None = None) -> Reasoner:
    """`raison.load` before the reader's eyes, with what it left out. Raises as it does."""
    with loading(console, path or "the shipped reasoner") as progress:
        reasoner = load(path, device=device, draft=draft, progress=progress)
    for note in reasoner.notes:
        console.print(Text(f"  {visible(note)}"), soft_wrap=True)
    return reasoner


@contextmanager
def loading(console: Console, name: str) -> Iterator[Callable[[int, int], None]]:
    """What to tell of bytes done and bytes in all while weights are read."""
    columns = TextColumn("  loading {task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn()
    bar = Progress(*columns, console=console, transient=True)
    began = said = monotonic()
    task = None

    def show(done: int, total: int) -> None:
        nonlocal task, said
        if monotonic() - began < QUICK_SECONDS:
            return
        if console.is_terminal:
            if task is None:
                bar.start()
                task = bar.add_task(visible(name), total=total)
            bar.update(task, completed=done)
        elif monotonic() - said > LINE_SECONDS:
            said = monotonic()
            console.print(Text(f"  loading {visible(name)}: {done / 1e9:.1f} of {total / 1e9:.1f} GB"), soft_wrap=True)

    try:
        yield show
    finally:
        if task is not None:
            bar.stop()

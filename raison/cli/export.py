"""`raison export PATH --to hf|gguf`: a model as other people's software reads it.

Not covered: how that is done (weights/export.py).
"""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from rich.text import Text

from raison.cli.loading import loading
from raison.cli.output import console_for, emit_json
from raison.weights.export import export
from raison.weights.source import load, locate


def command(arguments: Namespace) -> int:
    console = console_for(arguments)
    with loading(console, str(arguments.source)) as progress:
        loaded = load(arguments.source, packed=False, progress=progress)
    out: Path = arguments.out
    export(loaded, out, arguments.to, arguments.quant, locate(arguments.source).stem)
    size = out.stat().st_size if out.is_file() else sum(file.stat().st_size for file in out.iterdir())
    for note in loaded.notes:
        console.print(Text(f"  {note}"), soft_wrap=True)
    console.print(Text(f"  {out}   {size / 1e6:,.1f} MB"), soft_wrap=True)
    if arguments.json:
        emit_json({"path": str(out), "bytes": size, "notes": list(loaded.notes)})
    return 0

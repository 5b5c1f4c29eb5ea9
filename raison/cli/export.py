"""`raison export PATH --to hf|gguf`: a model as other people's software reads it.

Not covered: how that is done (weights/export.py).
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

from rich.text import Text

from raison.cli.loading import loading
from raison.cli.output import console_for, emit_json
from raison.model.spec import ModelSpec
from raison.weights.export import export
from raison.weights.place import locate
from raison.weights.source import load


def command(arguments: Namespace) -> int:
    console = console_for(arguments)
    with loading(console, str(arguments.source)) as progress:
        loaded = load(arguments.source, packed=False, progress=progress)
    out: Path = arguments.out
    export(loaded, out, arguments.to, arguments.quant, locate(arguments.source).stem)
    size = out.stat().st_size if out.is_file() else sum(file.stat().st_size for file in out.iterdir())
    notes = [*loaded.notes, *_left_out(loaded.model.spec, arguments.to)]
    for note in notes:
        console.print(Text(f"  {note}"), soft_wrap=True)
    console.print(Text(f"  {out}   {size / 1e6:,.1f} MB"), soft_wrap=True)
    if arguments.json:
        emit_json({"path": str(out), "bytes": size, "notes": notes})
    return 0


def _left_out(spec: ModelSpec, to: str) -> Iterator[str]:
    """What the form has no place for."""
    if to == "gguf" and spec.num_nextn_predict_layers:
        yield "the MTP module is left out: llama.cpp runs the model without it"

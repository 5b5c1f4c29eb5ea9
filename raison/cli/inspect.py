"""`raison inspect PATH`: what a model's files hold and what would be loaded, without loading it.

Not covered: whether the numbers in the files make sense.
"""

from __future__ import annotations

from argparse import Namespace
from collections import Counter
from typing import Any

from rich.table import Table
from rich.text import Text

from raison.cli.output import console_for, emit_json, visible
from raison.cli.spec import shape_words
from raison.model.cost import cache_bytes_per_token, parameter_table
from raison.weights.survey import Survey, survey


def command(arguments: Namespace) -> int:
    found = survey(arguments.source)
    console = console_for(arguments)
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2))
    for name, value in _rows(found):
        table.add_row(Text(name), Text(visible(value)))
    console.print(table)
    if arguments.json:
        emit_json(as_json(found))
    return 0


def as_json(found: Survey) -> dict[str, Any]:
    o = found.opened
    return {
        "path": str(o.path), "format": o.form, "family": found.family, "bytes": o.bytes,
        "parameters": parameter_table(o.spec).total, "packed": found.packed, "stored": dict(found.stored),
        "tokens": o.tokenizer.size, "has_template": found.template is not None, "thinks": found.thinks,
        "notes": list(o.notes), "spec": o.spec.to_dict(),
    }  # fmt: skip


def _rows(found: Survey) -> list[tuple[str, str]]:
    o, spec = found.opened, found.opened.spec
    kinds = ", ".join(f"{count} {kind}" for kind, count in Counter(found.stored).most_common())
    template = "none: it cannot chat" if found.template is None else found.template
    return [
        ("path", str(o.path)),
        ("format", f"{o.form}, {o.bytes / 1e6:,.1f} MB"),
        ("model", f"{found.family}: {shape_words(spec)}"),
        ("parameters", f"{parameter_table(spec).total:,}"),
        ("tensors", kinds),
        ("context", f"{spec.max_position_embeddings:,} tokens, {cache_bytes_per_token(spec):,.0f} bytes each in bf16"),
        ("vocabulary", f"{o.tokenizer.size:,} tokens, embeddings for {spec.vocab_size:,}"),
        ("template", template),
        ("would load", "packed, expanded for each product" if found.packed else "expanded to fp32"),
        *(("note", note) for note in o.notes),
    ]

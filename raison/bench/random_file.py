"""A model of some shape with random weights as files that other engines read, for a table of its speed.

Not covered: quality, of which it has none; MTP modules, which those engines leave out.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from raison.bench.rivals import absorbed_beside
from raison.model.spec import preset
from raison.model.transformer import Transformer, initialise
from raison.text.tokenizer import Tokenizer
from raison.weights.gguf_export import export_gguf


def random_file(shape: str, scratch: Path) -> Path:
    """A GGUF file of the preset `shape` in Q4_0; where it has latent attention, its absorbed form stands beside it."""
    spec = replace(preset(shape), num_nextn_predict_layers=0)
    path, model, tokenizer = scratch / f"{shape}.gguf", initialise(Transformer(spec), seed=0), Tokenizer.build()
    export_gguf(path, model, tokenizer, "Q4_0", shape)
    if spec.is_latent:
        export_gguf(absorbed_beside(path), model, tokenizer, "Q4_0", shape, absorbed=True)
    return path

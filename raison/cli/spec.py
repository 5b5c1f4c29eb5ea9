"""`raison spec NAME`: what a model would weigh and cost, from its shape alone.

Not covered: the arithmetic (model/cost.py).
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from raison.cli.output import console_for, emit_json
from raison.errors import UserError
from raison.model.cost import CostSheet, cost_sheet, parameter_table
from raison.model.spec import PRESETS, ModelSpec, preset


def command(arguments: Namespace) -> int:
    if arguments.context < 1:
        raise UserError(f"--context is {arguments.context}; it must be at least 1")
    if arguments.name is None:
        return _list(arguments)
    spec = preset(arguments.name)
    sheet = cost_sheet(spec, arguments.context)
    if arguments.json:
        emit_json(as_json(arguments.name, spec, sheet))
    else:
        _show(console_for(arguments), arguments.name, spec, sheet)
    return 0


def _list(arguments: Namespace) -> int:
    """Every preset with its shape in a line."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2))
    for name, spec in PRESETS.items():
        table.add_row(name, f"{parameter_table(spec).total:,} parameters", shape_words(spec))
    console_for(arguments).print(table)
    if arguments.json:
        emit_json({"presets": {name: spec.to_dict() for name, spec in PRESETS.items()}})
    return 0


def as_json(name: str, spec: ModelSpec, sheet: CostSheet) -> dict[str, Any]:
    """Every figure of the sheet under its own name, with the shape beside it."""
    figures = asdict(sheet)
    return {
        "name": name,
        "parameters": figures.pop("parameters_total"),
        "activated_parameters": sheet.activated.with_embedding,
        "activated_parameters_without_embedding": sheet.activated.without_embedding,
        "mtp_parameters": figures.pop("mtp_parameters"),
        "parameters_by_part": figures.pop("parameters"),
        "cache_bytes_per_token": figures.pop("cache_bytes"),
        "weight_bytes_bf16": figures.pop("weight_bytes"),
        "context": figures.pop("context"),
        "matmul_flops_per_token": sheet.matmul_flops,
        "training_flops_per_token": sheet.training_flops,
        "training_flops_per_token_with_mtp": sheet.training_flops_mtp,
        "decode_flops_per_token": sheet.decode_flops,
        "spec": spec.to_dict(),
    }


def _show(console: Console, name: str, spec: ModelSpec, sheet: CostSheet) -> None:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2))
    table.add_column()
    table.add_column(justify="right")
    table.add_column(style="dim")
    for row in _rows(spec, sheet):
        table.add_row(*row)
    console.print(f"[bold]{name}[/bold]  {shape_words(spec)}")
    console.print(table)


def _rows(spec: ModelSpec, sheet: CostSheet) -> Iterator[tuple[str, str, str]]:
    yield "parameters", f"{sheet.parameters_total:,}", "main model"
    for part, count in asdict(sheet.parameters).items():
        if count:
            yield f"  {part.replace('_', ' ')}", f"{count:,}", ""
    yield "MTP modules", f"{sheet.mtp_parameters:,}", "parameters of their own, on top"
    yield "activated", f"{sheet.activated.with_embedding:,}", "per token"
    yield "", f"{sheet.activated.without_embedding:,}", "without the embedding table"
    yield "cache", f"{sheet.cache_bytes:,.0f}", f"bytes per token, bf16 ({spec.cache_width} numbers a layer)"
    yield "weights", f"{sheet.weight_bytes:,.0f}", "bytes, bf16"
    yield "products", f"{sheet.matmul_flops:,}", "FLOPs per token, forward, with weights"
    yield "training", f"{sheet.training_flops:,.0f}", f"FLOPs per token, sequences of {sheet.context:,}"
    yield "  with MTP", f"{sheet.training_flops_mtp:,.0f}", ""
    yield "decoding", f"{sheet.decode_flops:,.0f}", f"FLOPs per token after {sheet.context:,} tokens"


def shape_words(spec: ModelSpec) -> str:
    """`MLA, 61 layers x 7168, 256 experts top-8, MTP`, or `9 heads over 3, 30 layers x 576, dense`."""
    attention = "MLA" if spec.is_latent else f"{spec.num_attention_heads} heads over {spec.key_value_heads}"
    experts = (
        f", {spec.n_routed_experts} experts top-{spec.num_experts_per_tok}" if spec.n_routed_experts else ", dense"
    )
    mtp = ", MTP" if spec.num_nextn_predict_layers else ""
    return f"{attention}, {spec.num_hidden_layers} layers x {spec.hidden_size}{experts}{mtp}"

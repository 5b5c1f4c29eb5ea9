"""How every command speaks: one console for people, one JSON object for programs, and texts that cannot harm a
terminal.

With `--json` people's lines go to stderr, so that stdout holds the object alone. Not covered: logs.
"""

from __future__ import annotations

import json
import math
import sys
from argparse import Namespace
from collections.abc import Sequence
from typing import Any

from rich.console import Console

LOG_WIDTH = 120
"""Columns where there is no terminal to ask."""
BARS = "▁▂▃▄▅▆▇█"


def console_for(arguments: Namespace) -> Console:
    """The console for people; stderr when stdout is kept for JSON."""
    stream = sys.stderr if getattr(arguments, "json", False) else sys.stdout
    width = None if stream.isatty() else LOG_WIDTH
    return Console(file=stream, width=width, highlight=False, emoji=False)


def emit_json(value: dict[str, Any]) -> None:
    """Print the object on one line; figures that are not finite become null, for JSON has none."""
    print(json.dumps(finite(value), allow_nan=False, ensure_ascii=False), flush=True)


def finite(value: Any) -> Any:
    """The same value with NaN and infinity as None, tuples as lists."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): finite(item) for key, item in value.items()}
    return [finite(item) for item in value] if isinstance(value, list | tuple) else value


def visible(text: str) -> str:
    """Text of a model or a file, safe to print: control characters, which could move the cursor, become a dot."""
    return "".join(letter if letter.isprintable() or letter in "\n\t" else "·" for letter in text)


def bar_line(shares: Sequence[float]) -> str:
    """Shares from 0 to 1 as block letters, one each."""
    return "".join(BARS[round(min(1.0, max(0.0, share)) * (len(BARS) - 1))] for share in shares)

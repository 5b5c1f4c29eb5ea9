"""Raison: reasoning models of DeepSeek-R1's kind, from random weights to thinking out loud.

`raison.load()` gives a Reasoner. It is resolved on first use, so that `import raison`, and with it every room that
needs none, imports no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from raison.reasoner import Reasoner, load

__version__ = "0.1.0"
__all__ = ["Reasoner", "__version__", "load"]


def __getattr__(name: str) -> Any:
    if name not in ("Reasoner", "load"):
        raise AttributeError(f"module 'raison' has no attribute {name!r}")
    from raison import reasoner  # deferred: it imports torch

    return getattr(reasoner, name)

"""`raison plan`: what training and serving would need and cost. Each kind is a module, loaded when it is asked for.

Not covered: the kinds themselves (plan_*.py), the arithmetic (raison.plan).
"""

from __future__ import annotations

from argparse import Namespace
from importlib import import_module


def command(arguments: Namespace) -> int:
    code: int = import_module(f"raison.cli.plan_{arguments.plan}").command(arguments)
    return code

"""What a result carries so that it can be made again: date, source commit, versions.

Standard modules that take long to import are imported where they are used: every command imports this one. Not covered:
hashes of weights (weights/fingerprint.py), the machine's rates (hardware.py).
"""

from __future__ import annotations

import platform
import time
from pathlib import Path

from raison import __version__


def now() -> str:
    """Date and time with the zone, ISO 8601."""
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


def versions() -> dict[str, str]:
    return {"python": platform.python_version(), "torch": torch_version(), "raison": __version__}


def commit() -> str:
    """The source's git commit, marked where files differ from it; empty where it is no checkout."""
    import subprocess

    try:
        where = Path(__file__).parent
        command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
        return subprocess.run(command, cwd=where, capture_output=True, text=True, timeout=10).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


def installed(package: str) -> str | None:
    """The version of a distribution; None where it is not installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return None


def torch_version() -> str:
    return installed("torch") or "none"

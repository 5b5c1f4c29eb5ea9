"""A TOML file as nested mappings.

Not covered: what may stand in it (table.py).
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from raison.errors import UserError


def read_toml(path: Path) -> dict[str, Any]:
    """Raises UserError that names the file."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: this is not TOML: {error}") from None

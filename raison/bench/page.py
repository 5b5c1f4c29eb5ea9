"""A self-contained HTML page from a template: one style, light or dark as the reader's, no request to anywhere.

Not covered: what stands on it (report.py, endpoint/page.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

STYLE = Path(__file__).with_name("page.css")


def page(template: Path, filters: Mapping[str, Callable[..., str]], **values: Any) -> str:
    """The template with the values, everything but Markup escaped; a value that it asks for and is missing raises."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= dict(filters)
    style = Markup(STYLE.read_text(encoding="utf-8"))
    return environment.from_string(template.read_text(encoding="utf-8")).render(style=style, **values)

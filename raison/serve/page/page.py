"""The page at `/`: its built files, served with headers under which a browser asks no other host for anything.

Sources and build are in web/; `static/` holds what `web/build` made of them, and tests/page/test_built.py holds one to
the other. The files need no key; everything they show they ask from the API. Not covered: the API.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles

STATIC = Path(__file__).with_name("static")
ASSETS = "/assets"
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; connect-src 'self'; img-src 'self' data:; object-src 'none'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",  # the names carry no hash: asked again, answered 304
}


def mount(app: FastAPI) -> None:
    """Serve the page at `/` and its files under `/assets`."""

    @app.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
    def page() -> FileResponse:
        return FileResponse(STATIC / "index.html", headers=HEADERS)

    app.mount(ASSETS, _Assets(directory=STATIC / "assets"), name="assets")


def is_page(path: str) -> bool:
    """Whether a path of a request is one of the page's files, which are served without a key."""
    return path == "/" or path.startswith(ASSETS + "/")


class _Assets(StaticFiles):
    def file_response(self, full_path: str | os.PathLike[str], *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(full_path, *args, **kwargs)
        response.headers.update(HEADERS)
        if str(full_path).endswith(".woff2"):  # unknown to Python's table of types
            response.headers["Content-Type"] = "font/woff2"
        return response

"""`raison serve MODEL`: an OpenAI-compatible server over the engine, for this machine or for those who have a key.

The first line comes before anything slow is imported, and the server answers (503: loading) before torch is: that takes
most of the start, and the engine's thread does it as the first part of loading. Not covered: what is served (serve/);
keys and usage (cli/keys.py, cli/usage.py).
"""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from raison.cli.output import console_for, visible
from raison.errors import UserError
from raison.files import SHIPPED
from raison.weights.place import refuse_missing

if TYPE_CHECKING:
    from raison.reasoner import Reasoner
    from raison.serve.access import DatabaseAccess
    from raison.serve.tracing import Tracing

LOOPBACK = ("127.0.0.1", "localhost", "::1")
SMALL_PARAMETERS = 50e6
"""Below it a step is so short that a second thread costs more than it brings, and HTTP wants the core."""


def command(arguments: Namespace) -> int:
    console = console_for(arguments)
    name = arguments.name or model_name(arguments.model)
    if arguments.model is not None:
        refuse_missing(arguments.model)
    console.print(f"  loading {visible(name)} ...", markup=False)
    try:
        import fastapi  # noqa: F401  # the extra `serve`
        import prometheus_client  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise UserError(f"serving needs the package {error.name}: pip install 'raison[serve]'") from None
    return _serve(arguments, console, name)


def _serve(arguments: Namespace, console: Console, name: str) -> int:
    from raison.serve.checkers import Checkers
    from raison.serve.logs import log_as_json
    from raison.serve.server import create_app, listen, run
    from raison.serve.service import Service
    from raison.serve.settings import ServeSettings

    tracing, checkers = tracing_of(arguments.otel), Checkers(arguments.checker)
    access = _books(arguments)
    settings = ServeSettings(
        queued_requests=arguments.queue, deadline_seconds=arguments.deadline, drain_seconds=arguments.drain,
        reasoning_field=arguments.reasoning_field, runs=shown_runs(arguments.runs, access.keyless()),
    )  # fmt: skip
    where = listen(arguments.host, arguments.port)
    log_as_json(arguments.log)
    service = Service(loader(arguments, console), access, settings, name, checkers, tracing)
    host = f"[{arguments.host}]" if ":" in arguments.host else arguments.host
    url = f"http://{host}:{where.getsockname()[1]}"
    console.print(f"  serving {visible(name)} on {url}/v1; a page to try it: {url}/", markup=False)
    if access.keyless() and not arguments.early_access:
        console.print("  no keys: this machine only (raison keys create --name N makes one)", markup=False)
    run(create_app(service), service, where)
    return 0


def _books(arguments: Namespace) -> DatabaseAccess:
    """Keys and usage. Raises UserError where a server without keys would be open to others."""
    from raison.serve.access import open_access
    from raison.serve.store import home

    access = open_access(home(), arguments.database, early_access=arguments.early_access, prices=arguments.prices)
    if access.keyless() and arguments.host not in LOOPBACK:
        access.close()
        raise UserError(
            f"no key was ever created, so only this machine may ask; --host {arguments.host} would open the server to "
            "others: make a key first (raison keys create --name N), or leave --host away"
        )
    return access


def tracing_of(url: str | None) -> Tracing | None:
    """Spans by --otel, or by OpenTelemetry's own variables where they name a place; nothing is imported for none."""
    exporter = os.environ.get("OTEL_TRACES_EXPORTER", "")
    named = url or exporter or any(os.environ.get(f"OTEL_EXPORTER_OTLP{part}_ENDPOINT") for part in ("", "_TRACES"))
    disabled = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    if not named or disabled or (exporter == "none" and not url):
        return None
    try:
        from raison.serve.tracing import open_tracing
    except ModuleNotFoundError as error:
        if not str(error.name).startswith("opentelemetry"):
            raise
        raise UserError("sending spans needs the package opentelemetry: pip install 'raison[otel]'") from None
    return open_tracing(url, os.environ)


def shown_runs(folder: Path | None, keyless: bool) -> Path | None:
    """Whoever has a key might be anyone: then the operator must say that runs are to be seen."""
    return Path("runs") if folder is None and keyless else folder


def model_name(source: str | None) -> str:
    """What clients call the model: the last part of its path, without the ending of a file."""
    path = SHIPPED if source is None else Path(source)
    return path.stem if path.suffix == ".gguf" else path.name


def loader(arguments: Namespace, console: Console) -> Callable[[], Reasoner]:
    """Loading as the engine's thread does it."""

    def loads() -> Reasoner:
        from raison.cli.session import prepare  # these import torch
        from raison.hardware import available_cores
        from raison.model import cost
        from raison.reasoner import load

        prepare(arguments.threads)
        reasoner = load(arguments.model, dtype=arguments.dtype, draft=arguments.draft, cache_dtype=arguments.cache)
        if not arguments.threads and cost.parameters(reasoner.spec) < SMALL_PARAMETERS:
            prepare(max(1, available_cores() - 1))
        for note in reasoner.notes:
            console.print(f"  {visible(note)}", markup=False)
        reasoner.engine.stats  # noqa: B018  # made here, once, before anybody asks
        console.print("  ready", markup=False)
        return reasoner

    return loads

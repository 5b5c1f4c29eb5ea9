"""The server put together: routes behind the gate, errors, and a process that drains when it is told to end.

Not covered: the command line (cli/serve.py).
"""

from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import FrameType

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from raison import __version__
from raison.errors import UserError
from raison.serve import chat, completions, plan, refused, responses, runs
from raison.serve.gate import Gate
from raison.serve.loop import State
from raison.serve.mistake import Mistake, unknown_model
from raison.serve.page import page
from raison.serve.refused import REFUSALS, plain_body
from raison.serve.service import Service

GOODBYE_SECONDS = 5
"""For readers to take the end of their answers."""


def create_app(service: Service) -> FastAPI:
    """The application; entering its lifespan starts the engine's thread."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.start()
        try:
            yield
        finally:
            await service.stop()

    app = FastAPI(
        title="Raison", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None,
        openapi_url="/openapi.json",
    )  # fmt: skip
    app.state.service = service
    app.state.runs = runs.Runs(service.settings.runs)
    refused.install(app)
    app.include_router(chat.router)
    app.include_router(completions.router)
    app.include_router(responses.router)
    app.include_router(runs.router)
    app.include_router(plan.router)
    page.mount(app)
    _small_routes(app, service)
    app.add_middleware(Gate, service=service)
    return app


def _small_routes(app: FastAPI, service: Service) -> None:
    @app.head("/health", include_in_schema=False)
    @app.get("/health")
    async def health() -> JSONResponse:
        """Whether requests are served now; never waits for the engine."""
        state = service.health
        if state == "ok":
            return JSONResponse({"status": "ok"})
        text = {"loading": "Loading model", "draining": "Shutting down", "failed": "The engine has failed"}[state]
        return JSONResponse({"status": state, **plain_body(text, "server_error", code=state)}, 503)

    @app.get("/metrics", responses=REFUSALS)
    async def metrics() -> Response:
        """Counters and times in Prometheus' text format."""
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/v1/models", responses=REFUSALS)
    async def models(request: Request) -> JSONResponse:
        """The models that the caller may use."""
        caller = request.state.caller
        allowed = caller.models is None or service.model in caller.models
        return JSONResponse({"object": "list", "data": [service.about()] if allowed else []})

    @app.get("/v1/models/{name:path}", responses=REFUSALS)
    async def model(name: str, request: Request) -> JSONResponse:
        """One model, by its name."""
        request.state.caller.check_model(name)
        if name != service.model:
            raise unknown_model(name, service.model)
        return JSONResponse(service.about())

    @app.post("/v1/embeddings", responses=REFUSALS)
    async def embeddings() -> Response:
        """Refused: no model here makes them."""
        raise Mistake("this server makes no embeddings; its models answer in text", None, "not_supported")


class Server(uvicorn.Server):
    """uvicorn, but a first SIGTERM or ^C lets answers under way end while new requests get 503; a second ends now."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._service.on_change.append(self._changed)
        await super().startup(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.started and not self._service.draining:
            self._service.draining = True
            self._loop.call_soon_threadsafe(lambda: self._loop.create_task(self._drain()))
        else:
            self.force_exit = self.should_exit = True

    async def _drain(self) -> None:
        await self._service.drain()
        self.should_exit = True

    def _changed(self, state: State) -> None:
        """A model that cannot be loaded leaves nothing to serve."""
        if state == "failed" and self._service.engine.reasoner is None:
            self.should_exit = True


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there; port 0 takes a free one. Raises UserError where that cannot be."""
    try:
        return socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=2048
        )
    except (OSError, OverflowError) as error:
        raise UserError(f"cannot listen on {host}, port {port}: {error}; choose another --port or --host") from None


def _keep(state: State) -> None:
    """What stands when the model is loaded stays to the end: looking through all of it for garbage, again and again,
    would hold every stream for a quarter of a second each time.
    """
    if state == "ready":
        gc.collect()
        gc.freeze()


def run(app: FastAPI, service: Service, where: socket.socket) -> None:
    """Serve until told to end. Raises what made the engine fail, such as UserError for a model that is not there."""
    config = uvicorn.Config(
        app, log_config=None, access_log=False, server_header=False, ws="none",
        timeout_graceful_shutdown=GOODBYE_SECONDS,
    )  # fmt: skip
    service.on_change.append(_keep)
    Server(config, service).run([where])
    if service.engine.error is not None:
        raise service.engine.error

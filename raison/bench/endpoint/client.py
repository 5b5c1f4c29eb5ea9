"""The client: sends prepared requests and stamps what comes back as it is read, without looking into it.

aiohttp (the extra `bench`) talks HTTP: per read it takes about half the processor time of httpx, and a client that
waits for the processor measures itself. No request is sent twice: a refusal is a result. Not covered: HTTP/2.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace, TracebackType
from urllib.parse import urlsplit

import aiohttp

from raison.bench.endpoint.records import STOPPED, Exchange
from raison.bench.endpoint.watch import until
from raison.errors import UserError

TIMEOUT, HUNG_UP, NO_CONNECTION = "timeout", "hung up", "no connection"
REFUSAL_BYTES = 4096
"""Of an answer that is no success: enough to quote it."""
SHORT = aiohttp.ClientTimeout(total=10)
"""Seconds for what is no measured request."""


class Client:
    """Use as an async context manager inside a running loop. Connections are kept and never limited in number."""

    def __init__(self, url: str, key: str, timeout: float) -> None:
        self.url = url.rstrip("/")
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        self._session = aiohttp.ClientSession(
            headers=headers, connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=timeout), trust_env=True, trace_configs=[_tracing()],
        )  # fmt: skip

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def ask(self, body: bytes, tell: Callable[[Exchange], None], due: float | None = None) -> None:
        """Send it, once it is due, and `tell` the Exchange however it ends.

        Raises nothing but a cancellation, which is told as stopped.
        """
        reads: list[tuple[float, bytes]] = []
        status, kind, failure, written = 0, "", "", _Written(max(time.perf_counter(), due or 0.0), due)
        url = f"{self.url}/chat/completions"
        try:
            async with self._session.post(url, data=body, trace_request_ctx=written) as response:
                status, kind = response.status, response.content_type
                async for data in response.content.iter_any():
                    reads.append((time.perf_counter(), data))
                    if status != 200 and sum(len(read) for _, read in reads) > REFUSAL_BYTES:
                        break
        except asyncio.CancelledError:
            failure = STOPPED
            raise
        except Exception as error:
            failure = _name(error)
        finally:
            scheduled = written.at if due is None else due
            tell(Exchange(scheduled, written.at, time.perf_counter(), status, kind, tuple(reads), failure))

    async def models(self) -> list[str]:
        """Names that the endpoint lists. Raises UserError where it lists none."""
        try:
            async with self._session.get(f"{self.url}/models", timeout=SHORT) as response:
                status, text = response.status, await response.text()
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise UserError(f"{self.url} does not answer: {error or 'timeout'}; is it running?") from None
        if status in (401, 403):
            raise UserError(f"{self.url} refuses the key; --key-env NAME names the variable that holds it")
        try:
            return [str(model["id"]) for model in json.loads(text)["data"]]
        except (ValueError, KeyError, TypeError):
            raise UserError(f"{self.url}/models lists no model; does the URL end in /v1? --model names one") from None

    async def metrics(self) -> str:
        """The server's own metrics, which stand beside /v1; empty where it shows none."""
        parts = urlsplit(self.url)
        where = f"{parts.scheme}://{parts.netloc}{parts.path.removesuffix('/v1')}/metrics"
        try:
            async with self._session.get(where, timeout=SHORT) as response:
                return await response.text() if response.status == 200 else ""
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return ""


@dataclass
class _Written:
    """When a request was handed to its connection; before that, when it was begun."""

    at: float
    due: float | None
    """Until when it is held back; None: it is not."""


def _tracing() -> aiohttp.TraceConfig:
    """Stamps a request just before it is written: preparing it, and connecting, are the client's time and no latency.

    One that is not yet due waits there, prepared and connected.
    """

    async def written(session: aiohttp.ClientSession, context: SimpleNamespace, _: object) -> None:
        request: _Written | None = context.trace_request_ctx
        if request is not None:
            await until(request.due or 0.0)
            request.at = time.perf_counter()

    tracing = aiohttp.TraceConfig()
    tracing.on_request_chunk_sent.append(written)
    return tracing


def _name(error: Exception) -> str:
    """A transport's failure as an outcome."""
    if isinstance(error, TimeoutError):
        return TIMEOUT
    if isinstance(error, aiohttp.ClientConnectorError):
        return NO_CONNECTION
    if isinstance(error, aiohttp.ClientError | OSError):
        return HUNG_UP
    raise error

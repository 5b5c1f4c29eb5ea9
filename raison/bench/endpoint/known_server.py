"""A server whose delays are known: it says nothing in particular at moments that are fixed in advance.

What a benchmark should find is then written down beforehand. The name of the model chooses the script: delays, tokens,
usage, failures. Moments are absolute (start + first + k * gap), so that lateness does not add up. Not
covered: anything of HTTP that the benchmark's client does not send.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

from raison.bench.endpoint.watch import until

TOKEN = "x"
"""One token of the shipped vocabulary, however many stand together."""
REASONS = {404: "Not Found", 429: "Too Many Requests", 500: "Internal Server Error"}


@dataclass(frozen=True, slots=True)
class Script:
    """Seconds and tokens of one model."""

    first: float = 0.0
    """From the request's last byte to the first piece."""
    gap: float = 0.0
    """Between pieces."""
    thinking: int = 0
    answer: int = 8
    """Pieces of each."""
    each: int = 1
    """Tokens a piece."""
    field: Literal["reasoning_content", "reasoning", "tags"] = "reasoning_content"
    """Where the thinking goes; tags: into the text, closed by </think>."""
    usage: Literal["last", "none"] = "last"
    status: int = 200
    cut: int | None = None
    """Pieces after which it hangs up."""
    silent: bool = False
    """Whether it sends headers and then nothing, for ever."""

    @property
    def tokens(self) -> int:
        return self.each * (self.thinking + self.answer)


class KnownServer:
    """Use as an async context manager; `url` ends in /v1."""

    def __init__(self, scripts: Mapping[str, Script]) -> None:
        self._scripts = dict(scripts)
        self.asked: list[dict[str, Any]] = []
        """Bodies of chat requests, as they came."""
        self.heads: list[str] = []
        """Of every request: its line and its header fields."""

    async def __aenter__(self) -> KnownServer:
        self._server = await asyncio.start_server(self._connection, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Requests one after the other, until either side hangs up."""
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                body = await reader.readexactly(_length(head))
                self.heads.append(head)
                if not await self._answer(head.split(" ", 2)[1], body, writer):
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, path: str, body: bytes, writer: asyncio.StreamWriter) -> bool:
        """False where it hangs up after it."""
        start = time.perf_counter()
        if path.endswith("/models"):
            return _whole(writer, 200, {"data": [{"id": name} for name in self._scripts]})
        if not path.endswith("/chat/completions"):
            return _whole(writer, 404, {"error": {"message": f"no {path}"}})
        self.asked.append(json.loads(body))
        script = self._scripts[self.asked[-1]["model"]]
        if script.status != 200:
            return _whole(writer, script.status, {"error": {"message": "as the script says"}})
        return await _stream(writer, script, start)


async def _stream(writer: asyncio.StreamWriter, script: Script, start: float) -> bool:
    kinds = "content-type: text/event-stream\r\ntransfer-encoding: chunked"
    writer.write(f"HTTP/1.1 200 OK\r\n{kinds}\r\n\r\n".encode())
    while script.silent:
        await asyncio.sleep(1)
    for number, delta in enumerate(islice(_deltas(script), script.cut)):
        await until(start + script.first + number * script.gap)
        await _event(writer, {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
    if script.cut is not None:
        return False
    await _event(writer, {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    if script.usage == "last":
        await _event(writer, {"choices": [], "usage": _usage(script)})
    _chunk(writer, b"data: [DONE]\n\n")
    _chunk(writer, b"")
    await writer.drain()
    return True


def _deltas(script: Script) -> Iterator[dict[str, str]]:
    text = TOKEN * script.each
    tags = script.field == "tags"
    for number in range(script.thinking):
        last = number == script.thinking - 1
        yield {"content": text + "</think>" * last} if tags else {script.field: text}
    for _ in range(script.answer):
        yield {"content": text}


def _usage(script: Script) -> dict[str, Any]:
    thought = {"reasoning_tokens": script.each * script.thinking}
    return {"prompt_tokens": 7, "completion_tokens": script.tokens, "completion_tokens_details": thought}


async def _event(writer: asyncio.StreamWriter, event: Mapping[str, Any]) -> None:
    _chunk(writer, f"data: {json.dumps(event)}\n\n".encode())
    await writer.drain()


def _chunk(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(b"%x\r\n%s\r\n" % (len(data), data))


def _whole(writer: asyncio.StreamWriter, status: int, value: Mapping[str, Any]) -> bool:
    body = json.dumps(value).encode()
    head = f"HTTP/1.1 {status} {REASONS.get(status, 'OK')}\r\ncontent-type: application/json\r\n"
    writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
    return True


def _length(head: str) -> int:
    for line in head.lower().splitlines():
        if line.startswith("content-length:"):
            return int(line.partition(":")[2])
    return 0

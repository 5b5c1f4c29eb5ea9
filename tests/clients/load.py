"""Load on a running server, as a command: a crowd of streams, a storm of hang-ups, slow readers, an overload.

    raison serve --port 8000 &
    python tests/clients/load.py http://127.0.0.1:8000 --pid $! --clients 200 --seconds 300 --storm 5000

It prints one JSON object: times between texts and between tokens (bare.py has them of the engine alone), what was
refused and how fast, the server's memory before and after, and whether the engine is empty at the end; exit code 1
where something was left behind. Sockets are read raw, so that the client costs little on the machine that also serves.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

CHUNK = b"data: {"
TEXTS = re.compile(rb'"delta":\{"(?:reasoning_)?content":')
"""What begins the text of a chunk; the first chunk of an answer, which has a role, is not one."""
DRAWN = re.compile(rb'"completion_tokens": ?(\d+)')

KEPT = 2000
"""Bytes of an answer's end, which hold its usage."""


@dataclass
class Seen:
    """What one kind of load met."""

    statuses: dict[int, int] = field(default_factory=dict)
    first: list[float] = field(default_factory=list)
    """Seconds from the request to its first text."""
    between: list[float] = field(default_factory=list)
    """Seconds between two reads of a stream that brought text."""
    each: list[float] = field(default_factory=list)
    """Seconds from an answer's first text to its last, over the tokens after the first."""
    refused: list[float] = field(default_factory=list)
    """Seconds until a refusal was told."""
    chunks: int = 0
    ended: int = 0

    def count(self, status: int) -> None:
        self.statuses[status] = self.statuses.get(status, 0) + 1

    def told(self) -> dict[str, object]:
        return {
            "statuses": self.statuses, "chunks": self.chunks, "answers_to_the_end": self.ended,
            "first_text_seconds": shares(self.first), "between_texts_seconds": shares(self.between),
            "between_tokens_seconds": shares(self.each), "refused_after_seconds": shares(self.refused),
        }  # fmt: skip


def shares(values: list[float]) -> dict[str, float] | None:
    if not values:
        return None
    values = sorted(values)
    return {f"p{p}": round(values[min(len(values) - 1, len(values) * p // 100)], 5) for p in (50, 90, 99, 100)}


def question(number: int) -> str:
    return f"Make {10 + number % 90} from 3, 7, 25"


class Told:
    """The times of one answer."""

    def __init__(self, seen: Seen, started: float) -> None:
        self._seen, self._started = seen, started
        self._first = self._last = 0.0

    def hear(self, piece: bytes, now: float) -> None:
        self._seen.chunks += piece.count(CHUNK)
        if not TEXTS.search(piece):
            return
        if self._first:
            self._seen.between.append(now - self._last)
        else:
            self._seen.first.append(now - self._started)
            self._first = now
        self._last = now

    def end(self, tail: bytes) -> None:
        """`tail`: the last bytes of the answer."""
        if b"[DONE]" not in tail:
            return
        self._seen.ended += 1
        drawn = DRAWN.search(tail)
        if self._first and drawn is not None and int(drawn[1]) > 1:
            self._seen.each.append((self._last - self._first) / (int(drawn[1]) - 1))


class Load:
    def __init__(self, url: str, tokens: int, key: str) -> None:
        parts = urlsplit(url)
        self.host, self.port, self.tokens = parts.hostname or "127.0.0.1", parts.port or 80, tokens
        self._key = f"Authorization: Bearer {key}\r\n" if key else ""

    def _request(self, path: str, body: bytes = b"") -> bytes:
        kind = "POST" if body else "GET"
        head = f"{kind} {path} HTTP/1.1\r\nHost: {self.host}\r\n{self._key}Connection: close\r\n"
        return f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body

    def asked(self, number: int, **more: object) -> bytes:
        messages = [{"role": "user", "content": question(number)}]
        fields = {"messages": messages, "stream": True, "max_tokens": self.tokens}
        usage = {"stream_options": {"include_usage": True}}
        return self._request("/v1/chat/completions", json.dumps({**fields, **usage, "seed": number, **more}).encode())

    async def get(self, path: str) -> str:
        reader, writer = await asyncio.open_connection(self.host, self.port)
        writer.write(self._request(path))
        text = (await reader.read()).decode("utf-8", "replace")
        writer.close()
        return text

    async def stream(self, number: int, seen: Seen, until: int | None = None) -> None:
        """One answer, read to its end, or to so many bytes."""
        started = time.perf_counter()
        reader, writer = await asyncio.open_connection(self.host, self.port)
        writer.write(self.asked(number))
        status, read, tail, told = 0, 0, b"", Told(seen, started)
        while until is None or read < until:
            piece = await reader.read(1 << 16)
            now = time.perf_counter()
            if not piece:
                break
            if not status:
                status = int(piece[9:12])
                seen.count(status)
            if status != 200:
                seen.refused.append(now - started)
                break
            told.hear(piece, now)
            read, tail = read + len(piece), (tail + piece)[-KEPT:]
        told.end(tail)
        writer.close()

    async def crowd(self, clients: int, seconds: float) -> Seen:
        """So many clients who ask again as soon as they have their answer."""
        seen, ends = Seen(), time.monotonic() + seconds

        async def one(number: int) -> None:
            while time.monotonic() < ends:
                await self.stream(number, seen)
                number += clients

        await asyncio.gather(*(one(i) for i in range(clients)))
        return seen

    async def storm(self, count: int, at_once: int = 100) -> Seen:
        """Clients who hang up: before an answer, at its first bytes, in the middle."""
        seen, numbers, gate = Seen(), random.Random(0), asyncio.Semaphore(at_once)

        async def one(number: int) -> None:
            async with gate:
                await self.stream(number, seen, numbers.choice((0, 1, 500, 3000)))

        await asyncio.gather(*(one(i) for i in range(count)))
        return seen

    async def slow(self, count: int, seconds: float) -> None:
        """Clients who ask for much and read nothing for a while."""
        open_ones = []
        for number in range(count):
            reader, writer = await asyncio.open_connection(self.host, self.port, limit=1024)
            writer.write(self.asked(number, n=16))
            open_ones.append((reader, writer))
        await asyncio.sleep(seconds)
        for _, writer in open_ones:
            writer.close()

    async def overload(self, count: int) -> Seen:
        """So many at the same moment."""
        seen = Seen()
        await asyncio.gather(*(self.stream(i, seen) for i in range(count)), return_exceptions=True)
        return seen

    async def quiet(self, seconds: float = 60) -> bool:
        """Whether the engine becomes empty."""
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            values = [line for line in (await self.get("/metrics")).splitlines() if line.startswith("raison:")]
            gauges = {
                line.partition("{")[0]: float(line.rpartition(" ")[2]) for line in values if "_bucket" not in line
            }
            watched = ("num_requests_running", "num_requests_waiting", "num_sequences_running", "kv_cache_usage_perc")
            if not any(gauges[f"raison:{name}"] for name in watched):
                return True
            await asyncio.sleep(0.2)
        return False


def memory(pid: int) -> int | None:
    """Resident bytes of a process."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return None
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))


async def run(arguments: argparse.Namespace) -> dict[str, object]:
    load = Load(arguments.url, arguments.tokens, arguments.key)
    await load.crowd(8, 3)  # warm
    told: dict[str, object] = {"memory_before": memory(arguments.pid)}
    told["crowd"] = (await load.crowd(arguments.clients, arguments.seconds)).told()
    told["memory_after_crowd"] = memory(arguments.pid)
    told["storm"] = (await load.storm(arguments.storm)).told()
    told["quiet_after_storm"] = await load.quiet()
    slow = asyncio.create_task(load.slow(20, 10))
    told["crowd_beside_slow_readers"] = (await load.crowd(16, 8)).told()
    await slow
    told["overload"] = (await load.overload(arguments.overload)).told()
    told["quiet_at_the_end"] = await load.quiet()
    told["memory_at_the_end"] = memory(arguments.pid)
    return told


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--pid", type=int, default=0, help="the server's, to watch its memory")
    parser.add_argument("--key", default="")
    for name, default in (("clients", 200), ("storm", 5000), ("overload", 7000), ("tokens", 200)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--seconds", type=float, default=300.0)
    told = asyncio.run(run(parser.parse_args()))
    print(json.dumps(told, indent=1))
    return 0 if told["quiet_after_storm"] and told["quiet_at_the_end"] else 1


if __name__ == "__main__":
    sys.exit(main())

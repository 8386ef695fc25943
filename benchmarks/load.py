"""A load of many clients over one connection each, light enough not to compete with the server it loads."""

import asyncio
import json
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import psutil

WARMUP_SECONDS = 3.0
SAMPLE_SECONDS = 1.0


@dataclass
class Tally:
    """What happened while the load lasted."""

    seconds: float
    latencies: list[float] = field(default_factory=list)
    """Of answers with status 200."""
    statuses: Counter[str] = field(default_factory=Counter)
    memory: list[tuple[float, float]] = field(default_factory=list)
    """(seconds since the start, GiB of the server and its children)."""

    @property
    def per_second(self) -> float:
        return len(self.latencies) / self.seconds

    def percentile(self, share: float) -> float:
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    def mean_memory(self, begin: float, end: float) -> float:
        """GiB between two moments."""
        return statistics.mean(gib for at, gib in self.memory if begin <= at < end)

    def line(self) -> str:
        """For people."""
        codes = ", ".join(f"{status}: {number}" for status, number in sorted(self.statuses.items()))
        return (
            f"{self.per_second:6.1f} pictures/s   p50 {1000 * self.percentile(0.5):5.0f} ms   "
            f"p95 {1000 * self.percentile(0.95):5.0f} ms   {self.memory[-1][1]:.2f} GiB   ({codes})"
        )


def run_load(
    port: int, pid: int, *, clients: int, seconds: float, ask: Callable[[int], dict[str, Any]]
) -> Tally:
    """Keep `clients` requests open for `seconds`; `ask` is the payload of the n-th."""
    return asyncio.run(_run(port, pid, clients=clients, seconds=seconds, ask=ask))


async def _run(
    port: int, pid: int, *, clients: int, seconds: float, ask: Callable[[int], dict[str, Any]]
) -> Tally:
    tally = Tally(seconds)
    begin = time.monotonic() + WARMUP_SECONDS
    numbers = count()
    tasks = [
        asyncio.create_task(_client(port, numbers, ask, tally, begin, begin + seconds))
        for _ in range(clients)
    ]
    while (now := time.monotonic()) < begin + seconds:
        if now >= begin:
            tally.memory.append((now - begin, resident_gib(pid)))
        await asyncio.sleep(SAMPLE_SECONDS)
    await asyncio.wait(tasks, timeout=120)
    stuck = sum(not task.done() for task in tasks)
    if stuck:
        tally.statuses["hangs"] += stuck
    return tally


async def _client(
    port: int,
    numbers: Iterator[int],
    ask: Callable[[int], dict[str, Any]],
    tally: Tally,
    begin: float,
    end: float,
) -> None:
    connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
    while time.monotonic() < end:
        started = time.monotonic()
        try:
            connection = connection or await asyncio.open_connection("127.0.0.1", port)
            status, retry_seconds, keep = await _post(*connection, ask(next(numbers)))
        except (OSError, asyncio.IncompleteReadError, ValueError):
            status, retry_seconds, keep = 0, 1.0, False
        if not keep and connection is not None:
            connection[1].close()
            connection = None
        finished = time.monotonic()
        if begin <= finished < end:
            tally.statuses[str(status) if status else "broken"] += 1
            if status == 200:
                tally.latencies.append(finished - started)
        if status != 200:
            await asyncio.sleep(retry_seconds)
    if connection is not None:
        connection[1].close()


async def _post(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, payload: dict[str, Any]
) -> tuple[int, float, bool]:
    """Status, seconds to wait before the next try, and whether the connection may be used again."""
    body = json.dumps(payload).encode()
    head = (
        "POST /invocations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    writer.write(head.encode() + body)
    await writer.drain()
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines[1:])
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    await reader.readexactly(int(headers.get("content-length", 0)))
    keep = headers.get("connection") != "close"
    return int(lines[0].split()[1]), float(headers.get("retry-after", 1)), keep


def resident_gib(pid: int) -> float:
    """Memory of a process and its descendants."""
    total = 0
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        for each in [process, *process.children(recursive=True)]:
            with suppress(psutil.Error):
                total += each.memory_info().rss
    return total / 2**30

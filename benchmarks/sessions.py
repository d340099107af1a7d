"""``python -m benchmarks.sessions``: one small application under uvicorn, on Forebay and on starsessions, under the same load.

Each application is a process of its own, and starsessions has a private Valkey of its own too. Beside them run the same application
without sessions, and with nothing but the commands of one. The load is 32 connections that send a request as soon as the last one
was answered. CPU is that of the application's process, for each request.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import psutil

from benchmarks.session_apps import APPS
from forebay import AsyncForebay, EmbeddedServer

CONNECTIONS = 32
PATHS = {"/read": "session read", "/both": "session read and a cached read"}
TARGETS = {"/read": 3.5, "/both": 4.0}
COOKIELESS_US = 5.0


@contextmanager
def application(name: str, url: str) -> Iterator[tuple[int, psutil.Process]]:
    """Serve one application, and end it."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.session_apps", name, str(port), url])
    try:
        limit = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                assert time.monotonic() < limit, f"{name} did not start"
                assert process.poll() is None, f"{name} ended"
                time.sleep(0.05)
        yield port, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(10)


async def request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, packed: bytes) -> bytes:
    """Send one request and return the head of its answer; the body is read."""
    writer.write(packed)
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
    await reader.readexactly(length)
    return head


async def log_in(port: int) -> str:
    """Return the cookie of a new session; empty where there are none."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = (await request(reader, writer, b"GET /login HTTP/1.1\r\nHost: x\r\n\r\n")).decode("latin-1")
    writer.close()
    return next((line.split(":", 1)[1].strip().split(";")[0] for line in head.split("\r\n") if line.lower().startswith("set-cookie:")), "")


async def load(port: int, path: str, cookie: str, seconds: float) -> int:
    """Return how many requests were answered well within so many seconds."""
    packed = f"GET {path} HTTP/1.1\r\nHost: x\r\n{f'Cookie: {cookie}' if cookie else 'X: y'}\r\n\r\n".encode()
    until = time.monotonic() + seconds

    async def client() -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        answered = 0
        while time.monotonic() < until:
            head = await request(reader, writer, packed)
            assert head.startswith(b"HTTP/1.1 200"), head
            answered += 1
        writer.close()
        return answered

    return sum(await asyncio.gather(*(client() for _ in range(CONNECTIONS))))


def measure(port: int, process: psutil.Process, path: str, cookie: str, seconds: float) -> tuple[float, float]:
    """Return requests per second, and microseconds of CPU for each."""
    before, began = sum(process.cpu_times()[:2]), time.perf_counter()
    answered = asyncio.run(load(port, path, cookie, seconds))
    spent, took = sum(process.cpu_times()[:2]) - before, time.perf_counter() - began
    return answered / took, spent / answered * 1e6


async def cookieless(url: str, rounds: int) -> float:
    """Return the microseconds that the middleware adds to a request without a cookie whose session is not asked for."""
    from forebay.web.asgi import SessionMiddleware

    async def app(scope: object, receive: object, send: object) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})  # type: ignore[operator]

    async def send(message: object) -> None:
        """Take it."""

    async def timed(served: object) -> float:
        times = []
        for _ in range(rounds):
            began = time.perf_counter()
            for _ in range(5_000):
                scope = {"type": "http", "scheme": "http", "headers": [(b"host", b"x"), (b"user-agent", b"y"), (b"accept", b"*/*")]}
                await served(scope, None, send)  # type: ignore[operator]
            times.append((time.perf_counter() - began) / 5_000 * 1e6)
        return statistics.median(times)

    bay = AsyncForebay(url)
    bare, with_it = await timed(app), await timed(SessionMiddleware(app, bay.sessions()))  # type: ignore[arg-type]
    await bay.close()
    return with_it - bare


def sessions(rounds: int, seconds: float) -> dict[str, object]:
    """Measure, print, and return every round's figures."""
    with EmbeddedServer(port=0) as one, EmbeddedServer(port=0) as two:
        print(f"sessions under uvicorn, {CONNECTIONS} connections: medians of {rounds} rounds of {seconds:g} s, and of their ratios")
        results: dict[tuple[str, str], list[tuple[float, float]]] = {}
        with ExitStack() as running:
            servers = {name: two if name == "starsessions" else one for name in APPS}
            served = {name: running.enter_context(application(name, server.url)) for name, server in servers.items()}
            cookies = {name: asyncio.run(log_in(port)) for name, (port, _) in served.items()}
            assert all(cookies[name] for name in ("forebay", "starsessions"))
            for _ in range(rounds):
                for path in PATHS:
                    for name, (port, process) in served.items():
                        results.setdefault((name, path), []).append(measure(port, process, path, cookies[name], seconds))
        for path, what in PATHS.items():
            print(f"{what}")
            for name in APPS:
                rates = results[name, path]
                rate, cpu = statistics.median(r for r, _ in rates), statistics.median(c for _, c in rates)
                print(f"  {name:14} {rate:9,.0f} requests/s   {cpu:7.1f} us of CPU each")
            pairs = list(zip(results["forebay", path], results["starsessions", path], strict=True))
            ratio = statistics.median(a / b for (a, _), (b, _) in pairs)
            cheaper = statistics.median(b / a for (_, a), (_, b) in pairs)
            verdict = "met" if ratio >= TARGETS[path] else "MISSED"
            print(
                f"  forebay answers {ratio:.2f} times as many (target {TARGETS[path]:g}: {verdict}), with {cheaper:.2f} times less CPU each"
            )
        cost = asyncio.run(cookieless(one.url, max(5, rounds)))
        verdict = "met" if cost < COOKIELESS_US else "MISSED"
        print(f"a request without a cookie: the middleware adds {cost:.2f} us (target {COOKIELESS_US:g}: {verdict})\n")
    return {f"{name} {path}": figures for (name, path), figures in results.items()} | {"cookieless_us": cost}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=21)
    options.add_argument("--seconds", type=float, default=0.6)
    chosen = options.parse_args()
    sessions(chosen.rounds, chosen.seconds)


if __name__ == "__main__":
    main()

"""``python -m benchmarks.cache_figures``: what a cache does beside single reads, against peers in one run: near hits, many keys,
tags, patterns, and a server that hangs.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any

from benchmarks.cache_bulk import VALUE, bytes_each, patterns, tags
from benchmarks.measure import measure_async
from benchmarks.report import table
from benchmarks.scenarios import SCENARIOS
from benchmarks.workload import Server
from forebay import AsyncForebay, EmbeddedServer, Forebay

LEAST_RATIO, LEAST_RATE = 5, 1_200_000  # of near hits
Call = Callable[[], Awaitable[Any]]


async def rates(calls: dict[str, Call], number: int, rounds: int, *, weight: int = 1) -> dict[str, float]:
    """Return the median rate of each call, in rounds that take turns."""
    seen: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            began = time.perf_counter()
            for _ in range(number):
                await call()
            seen[name].append(number * weight / (time.perf_counter() - began))
    return {name: statistics.median(each) for name, each in seen.items()}


def verdict(met: bool) -> str:
    return "met" if met else "MISSED"


def show(title: str, found: dict[str, float], unit: str) -> None:
    first = next(iter(found.values()))
    print(f"\n{title}")
    for name, value in found.items():
        print(f"  {name:<44} {value:>14,.0f} {unit}   {first / value:.2f} x")


async def near(url: str, rounds: int) -> None:
    import cashews

    async with AsyncForebay(url) as bay:
        frozen, mutable = bay.cache("near.int", type=int, ttl="1h", near=10_000), bay.cache("near.json", ttl="1h", near=10_000)
        other = cashews.Cache()
        other.setup(url, client_side=True)
        await other.init()
        await frozen.set("k", 5)
        await mutable.set("k", VALUE)
        await other.set("k", 5, expire=3600)
        await asyncio.sleep(0.2)
        calls: dict[str, Call] = {
            "forebay, near hit, frozen": lambda: frozen.get("k"),
            "forebay, near hit, decoded for each": lambda: mutable.get("k"),
            "cashews, client side": lambda: other.get("k"),
        }
        for call in calls.values():
            await call()
            await call()
        found = await rates(calls, 20_000, rounds)
        show("Near hits, one caller, asyncio", found, "hits/s")
        get, bare = frozen.get, []
        for _ in range(rounds):
            began = time.perf_counter()
            for _ in range(100_000):
                await get("k")
            bare.append(100_000 / (time.perf_counter() - began))
        ratio, rate = found["forebay, near hit, frozen"] / found["cashews, client side"], statistics.median(bare)
        print(f"  {'forebay, frozen, no lambda around it':<44} {rate:>14,.0f} hits/s")
        met = verdict(ratio >= LEAST_RATIO), verdict(rate >= LEAST_RATE)
        print(f"  {LEAST_RATIO:g} times cashews {met[0]}; {LEAST_RATE:,} hits/s {met[1]}")
        assert frozen.stats().near_hits > 100_000
        await other.close()


async def hung(server: EmbeddedServer, rounds: int) -> None:
    """Stop the server's process, and measure what a request pays for asking it."""
    import cashews
    from aiocache import RedisCache

    address = server.address()
    async with AsyncForebay(server.url) as bay:
        info = (await bay.execute("INFO", "server")).decode()
    pid = next(int(line.split(":")[1]) for line in info.splitlines() if line.startswith("process_id"))
    logging.disable()  # what a library says of it fills pages
    print(f"\nA server that hangs: what {rounds} requests in a row pay each (the database is free)")

    async def measure(name: str, request: Call) -> None:
        await request()
        os.kill(pid, signal.SIGSTOP)
        took = []
        try:
            for _ in range(rounds):
                began = time.perf_counter()
                try:
                    async with asyncio.timeout(8):
                        await request()
                except Exception as error:  # noqa: BLE001 - whatever a library does then, its request took so long
                    name_of = type(error).__name__
                else:
                    name_of = "answered"
                took.append((time.perf_counter() - began) * 1000)
                if sum(took) > 20_000:
                    break
        finally:
            os.kill(pid, signal.SIGCONT)
        print(f"  {name:<20} median {statistics.median(took):9.2f} ms, worst {max(took):9.2f} ms of {len(took)} ({name_of})", flush=True)
        await asyncio.sleep(1)

    async with AsyncForebay(server.url) as bay:
        cache = bay.cache("hung", ttl="1h")
        await measure("forebay", lambda: cache.get_or_set("k", lambda: 1))
    other = cashews.Cache()
    other.setup(server.url, client_side=False)
    await other.init()
    await measure("cashews", lambda: other.get_or_set("k", 1))
    await other.close()
    third = RedisCache(endpoint=address.host, port=address.port)
    await measure("aiocache", lambda: third.get("k"))


def threads(url: str, rounds: int) -> None:
    with Forebay(url) as bay:
        cache = bay.cache("near.threads", type=int, ttl="1h", near=10_000)
        cache.set("k", 5)
        deadline = time.monotonic() + 5
        while not cache.stats().near_hits and time.monotonic() < deadline:
            cache.get("k")
        seen = []
        for _ in range(rounds):
            began = time.perf_counter()
            for _ in range(50_000):
                cache.get("k")
            seen.append(50_000 / (time.perf_counter() - began))
        print(f"\nNear hits, one thread: {statistics.median(seen):,.0f} hits/s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--quick", action="store_true", help="fewer keys")
    options = parser.parse_args()
    count = 10_000 if options.quick else 100_000
    with EmbeddedServer(port=0) as server:
        asyncio.run(near(server.url, options.rounds))
        threads(server.url, options.rounds)
        address = server.address()
        for scenario in SCENARIOS:
            if scenario.group in ("many", "reads"):
                where = Server(address.host, address.port)
                seconds = 0.15 if options.quick else 0.4
                series = asyncio.run(measure_async(scenario.peers, where, scenario.callers, options.rounds, seconds, scenario.expect))
                print(f"\n{table(scenario, series)[0]}", flush=True)
    tags(count)
    patterns(count * 10)
    bytes_each(count)
    with EmbeddedServer(port=0) as server:
        asyncio.run(hung(server, 40))


if __name__ == "__main__":
    main()

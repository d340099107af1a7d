"""``python -m benchmarks.cache_figures``: what a cache does beside single reads, against peers in one run: near hits, many keys,
tags, patterns, and a server that hangs.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any

from forebay import AsyncForebay, EmbeddedServer, Forebay

VALUE = {"id": 42, "name": "Ada Lovelace", "email": "ada@example.org", "tags": ["a", "b", "c"]}
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
        show("Near hits, one caller, asyncio", await rates(calls, 20_000, rounds), "hits/s")
        get = frozen.get
        began = time.perf_counter()
        for _ in range(500_000):
            await get("k")
        print(f"  forebay, near hit, without a function around it {500_000 / (time.perf_counter() - began):>11,.0f} hits/s")
        assert frozen.stats().near_hits > 500_000
        await other.close()


async def many(url: str, rounds: int) -> None:
    from aiocache import RedisCache
    from aiocache.serializers import JsonSerializer

    host, port = url.removeprefix("redis://").split("/")[0].split(":")
    async with AsyncForebay(url) as bay:
        cache = bay.cache("many", ttl="1h")
        other = RedisCache(endpoint=host, port=int(port), serializer=JsonSerializer(), namespace="aiocache")
        keys = [f"k{number}" for number in range(100)]
        await cache.set_many(dict.fromkeys(keys, VALUE))
        await other.multi_set([(key, VALUE) for key in keys])
        calls: dict[str, Call] = {"forebay get_many": lambda: cache.get_many(keys), "aiocache multi_get": lambda: other.multi_get(keys)}
        show("100 keys at once", await rates(calls, 200, rounds, weight=100), "keys/s")
        await other.close()


async def tags(url: str, count: int) -> None:
    import cashews

    print(f"\nInvalidation of a tag on {count:,} entries")
    async with AsyncForebay(url) as bay:
        cache = bay.cache("tagged", ttl="1h")
        keys = list(range(count))
        for first in range(0, count, 5_000):
            await cache.set_many(dict.fromkeys(keys[first : first + 5000], 1), tags=["all"])
        assert await cache.get(7) == 1
        before = await calls_of(bay)
        began = time.perf_counter()
        await cache.invalidate_tags("all")
        took = time.perf_counter() - began
        print(f"  forebay            {took * 1000:10.2f} ms, {await calls_of(bay) - before - 1} command")
        assert await cache.get(7) is None
        assert await cache.get(count - 1) is None
        await cache.clear()
    other = cashews.Cache()
    other.setup(url, client_side=False)
    await other.init()
    other.register_tag("all", "tagged:{key}")
    for first in range(0, count, 1_000):
        await asyncio.gather(*(other.set(f"tagged:{key}", 1, expire=3600, tags=("all",)) for key in keys[first : first + 1_000]))
    began = time.perf_counter()
    await other.delete_tags("all")
    print(f"  cashews            {(time.perf_counter() - began) * 1000:10.2f} ms")
    await other.close()


async def calls_of(bay: AsyncForebay) -> int:
    info = (await bay.execute("INFO", "commandstats")).decode()
    return sum(int(line.split("calls=")[1].split(",")[0]) for line in info.splitlines() if "calls=" in line)


async def pattern(url: str, count: int) -> None:
    async with AsyncForebay(url) as bay:
        cache = bay.cache("pattern", ttl="1h")
        for first in range(0, count, 10_000):
            await cache.set_many({f"{number % 10}:{number}": 1 for number in range(first, first + 10_000)})
        await bay.execute("CONFIG", "SET", "slowlog-log-slower-than", "0")
        await bay.execute("CONFIG", "SET", "slowlog-max-len", "100000")
        await bay.execute("SLOWLOG", "RESET")
        began = time.perf_counter()
        removed = await cache.delete_matching("7:*")
        took = time.perf_counter() - began
        slowest = max(entry[2] for entry in await bay.execute("SLOWLOG", "GET", -1))
        await bay.execute("CONFIG", "SET", "slowlog-log-slower-than", "10000")
        print(
            f"\ndelete_matching: {removed:,} of {count:,} keys in {took:.2f} s; the server's slowest command took {slowest / 1000:.2f} ms"
        )
        assert removed == count // 10
        await cache.clear()


async def hung(server: EmbeddedServer, rounds: int) -> None:
    """Stop the server's process, and measure what a request pays for asking it."""
    import cashews
    from aiocache import RedisCache

    address = server.address()
    async with AsyncForebay(server.url) as bay:
        info = (await bay.execute("INFO", "server")).decode()
    pid = next(int(line.split(":")[1]) for line in info.splitlines() if line.startswith("process_id"))
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
        asyncio.run(many(server.url, options.rounds))
        asyncio.run(tags(server.url, count))
        asyncio.run(pattern(server.url, count * 10))
        asyncio.run(hung(server, 40))


if __name__ == "__main__":
    main()

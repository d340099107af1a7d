"""What is done to many entries at once, and what an entry takes in Redis: tags, patterns, bytes, beside peers in one run.

Each peer gets a private server of its own, so that tables of the server are of one size for all.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from forebay import AsyncForebay, EmbeddedServer, Forebay

VALUE = {"id": 42, "name": "Ada Lovelace", "email": "ada@example.org", "tags": ["a", "b", "c"]}
CHUNK = 5_000
SLOWEST_MS = 5.0


# peers, each as its own documentation sets it up


@contextmanager
def cashews_of(url: str) -> Iterator[tuple[asyncio.Runner, Any]]:
    from cashews import Cache

    cache = Cache()
    cache.setup(url, client_side=False)
    with asyncio.Runner() as runner:
        runner.run(cache.init())
        yield runner, cache
        runner.run(cache.close())


def django_of(url: str) -> Any:
    from django.conf import settings
    from django_redis.cache import RedisCache

    if not settings.configured:
        settings.configure()
    return RedisCache(url, {"OPTIONS": {"CLIENT_CLASS": "django_redis.client.DefaultClient"}})


async def set_with_cashews(cache: Any, numbers: range, prefix: str, **options: Any) -> None:
    for first in range(0, len(numbers), 1000):
        await asyncio.gather(*(cache.set(f"{prefix}{n}", VALUE, expire=3600, **options) for n in numbers[first : first + 1000]))


async def set_with_aiocache(url: str, numbers: range) -> None:
    from aiocache import RedisCache
    from aiocache.serializers import JsonSerializer

    host, port = url.removeprefix("redis://").split("/")[0].split(":")
    cache = RedisCache(endpoint=host, port=int(port), serializer=JsonSerializer(), namespace="user:")
    for first in range(0, len(numbers), CHUNK):
        await cache.multi_set([(str(n), VALUE) for n in numbers[first : first + CHUNK]], ttl=3600)
    await cache.close()


def set_with_forebay(url: str, numbers: range, tags: list[str] | None = None, **options: Any) -> None:
    with Forebay(url) as bay:
        cache = bay.cache("user", ttl="1h", **options)
        for first in range(0, len(numbers), CHUNK):
            cache.set_many(dict.fromkeys(numbers[first : first + CHUNK], VALUE), tags=tags or [])


def set_with_django(url: str, numbers: range) -> None:
    cache = django_of(url)
    for first in range(0, len(numbers), CHUNK):
        cache.set_many({f"user:{n}": VALUE for n in numbers[first : first + CHUNK]}, timeout=3600)
    cache.close()


# the server's own figures


def info(bay: Forebay, section: str) -> dict[str, str]:
    lines = bay.execute("INFO", section).decode().splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


def commands(bay: Forebay) -> int:
    """How many commands from clients the server has run; those inside of a script are none."""
    return int(info(bay, "stats")["total_commands_processed"])


def timed(url: str, work: Callable[[], Any]) -> tuple[float, int, Any]:
    """Return the milliseconds that *work* takes, how many commands it sends, and what it returns."""
    with Forebay(url) as bay:
        before = commands(bay)
        began = time.perf_counter()
        outcome = work()
        took = (time.perf_counter() - began) * 1000
        return took, commands(bay) - before - 1, outcome


# what is measured


def bytes_each(count: int) -> dict[str, dict[str, float]]:
    """Measure what *count* equal entries take in Redis, keys, lifetimes and the server's own tables included."""
    numbers = range(1_000_000, 1_000_000 + count)

    def with_cashews(url: str, **options: Any) -> None:
        with cashews_of(url) as (runner, cache):
            if options:
                cache.register_tag("all", "user:{key}")
            runner.run(set_with_cashews(cache, numbers, "user:", **options))

    ways: dict[str, Callable[[str], Any]] = {
        "forebay": lambda url: set_with_forebay(url, numbers),
        "forebay, stale_while_revalidate": lambda url: set_with_forebay(url, numbers, stale_while_revalidate="5m"),
        "forebay, one tag": lambda url: set_with_forebay(url, numbers, ["all"]),
        "cashews": with_cashews,
        "cashews, one tag": lambda url: with_cashews(url, tags=("all",)),
        "aiocache, JSON": lambda url: asyncio.run(set_with_aiocache(url, numbers)),
        "django-redis": lambda url: set_with_django(url, numbers),
    }
    print(f"\nBytes in Redis: {count:,} entries of one small dict, ttl of an hour, keys such as user:{numbers[0]}")
    print(f"  {'':34}{'value':>8}{'each entry':>12}   forebay's is")
    record: dict[str, dict[str, float]] = {}
    for name, fill in ways.items():
        with EmbeddedServer(port=0) as server, Forebay(server.url) as bay:
            before = int(info(bay, "memory")["used_memory"])
            fill(server.url)
            each = (int(info(bay, "memory")["used_memory"]) - before) / count
            key = next(key for key in _keys(bay) if key.endswith(b"7"))
            value = bay.execute("STRLEN", key)
        record[name] = {"value": value, "each": each}
        print(f"  {name:34}{value:>8}{each:>12.1f}   {record['forebay']['each'] / each:.2f} of it", flush=True)
    return record


def _keys(bay: Forebay) -> list[bytes]:
    _, keys = bay.execute("SCAN", 0, "COUNT", 100, "TYPE", "string")
    return list(keys)


def tags(count: int) -> dict[str, dict[str, float]]:
    """Measure the invalidation of *count* entries that share a tag."""
    print(f"\nInvalidation of {count:,} entries that share a tag (django-redis has none: delete_pattern, as its users do)")
    record: dict[str, dict[str, float]] = {}

    def show(name: str, took: float, sent: int) -> None:
        record[name] = {"ms": took, "commands": sent}
        print(f"  {name:34}{took:>12.2f} ms{sent:>10,} command{'s' * (sent != 1)}", flush=True)

    with EmbeddedServer(port=0) as server, Forebay(server.url) as bay:
        set_with_forebay(server.url, range(count), ["all"])
        cache = bay.cache("user", ttl="1h")
        assert cache.get(7) == cache.get(count - 1) == VALUE
        show("forebay", *timed(server.url, lambda: cache.invalidate_tags("all"))[:2])
        assert not cache.get_many(range(0, count, max(1, count // 1000)))
    with EmbeddedServer(port=0) as server, cashews_of(server.url) as (runner, other):
        other.register_tag("all", "user:{key}")
        runner.run(set_with_cashews(other, range(count), "user:", tags=("all",)))
        show("cashews", *timed(server.url, lambda: runner.run(other.delete_tags("all")))[:2])
        assert runner.run(other.get("user:7")) is None
    with EmbeddedServer(port=0) as server:
        set_with_django(server.url, range(count))
        third = django_of(server.url)
        show("django-redis", *timed(server.url, lambda: third.delete_pattern("user:*"))[:2])
        assert third.get("user:7") is None
        third.close()
    return record


def patterns(count: int) -> dict[str, dict[str, float]]:
    """Measure the removal of every tenth of *count* keys by a pattern, and the server's slowest command meanwhile."""
    print(f"\nA pattern that matches {count // 10:,} of {count:,} keys (the server's own slow log, of all commands)")
    record: dict[str, dict[str, float]] = {}

    def forebay(url: str) -> int:
        async def remove() -> int:
            async with AsyncForebay(url) as bay:
                return await bay.cache("user", ttl="1h").delete_matching("7:*")

        return asyncio.run(remove())

    def cashews(url: str) -> None:
        with cashews_of(url) as (runner, cache):
            runner.run(cache.delete_match("user:7:*"))

    def django(url: str) -> None:
        cache = django_of(url)
        cache.delete_pattern("user:7:*")
        cache.close()

    for name, head, remove in (
        ("forebay", "user:", forebay),
        ("cashews", "user:", cashews),
        ("django-redis", ":1:user:", django),
    ):
        with EmbeddedServer(port=0) as server, Forebay(server.url) as bay:
            for first in range(0, count, 10_000):  # what is stored does not matter to who removes it
                bay.execute("MSET", *(part for n in range(first, first + 10_000) for part in (f"{head}{n % 10}:{n}", "1")), timeout=30)
            assert bay.execute("DBSIZE") == count
            bay.execute("CONFIG", "SET", "slowlog-log-slower-than", "0", "slowlog-max-len", "2000000")
            bay.execute("SLOWLOG", "RESET")
            took, sent, _ = timed(server.url, lambda url=server.url, remove=remove: remove(url))  # type: ignore[misc]
            bay.execute("CONFIG", "SET", "slowlog-log-slower-than", "-1")
            most = bay.execute("EVAL", _SLOWEST, 0, timeout=60)
            left = bay.execute("DBSIZE")
            assert left == count - count // 10, left
        slowest = most[0] / 1000
        record[name] = {"ms": took, "commands": sent, "slowest_ms": slowest}
        verdict = "" if name != "forebay" else f"   under {SLOWEST_MS:g} ms {'met' if slowest < SLOWEST_MS else 'MISSED'}"
        print(f"  {name:20}{took / 1000:>8.2f} s{sent:>10,} commands, slowest {slowest:.2f} ms ({most[1].decode()}){verdict}", flush=True)
    return record


# in the server, for a log of all commands is too much to send
_SLOWEST = """
local most, name, ours = 0, '', {INFO = true, CONFIG = true, SLOWLOG = true}
for _, entry in ipairs(redis.call('SLOWLOG', 'GET', -1)) do
    if entry[3] > most and not ours[entry[4][1]] then most, name = entry[3], entry[4][1] end
end
return {most, name}
"""

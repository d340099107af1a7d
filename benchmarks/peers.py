"""Each peer as its own documentation sets it up, reduced to one function that reads one key. None is tuned, up or down."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

from benchmarks.floor import connect
from forebay import AsyncForebay, Forebay

KEY = "42"
VALUE = {
    "id": 42,
    "email": "ada.lovelace@example.org",
    "name": "Ada Lovelace",
    "created_at": "2026-01-01T00:00:00Z",
    "bio": "Wrote the first program, for a machine that was never built, in the notes to a translation.",
}

AsyncRead = Callable[[], Awaitable[Any]]
SyncRead = Callable[[], Any]


@dataclass(frozen=True)
class Server:
    """Where the benchmark's own server listens."""

    host: str
    port: int

    @property
    def url(self) -> str:
        return f"redis://{self.host}:{self.port}/0"


@dataclass(frozen=True)
class Peer:
    """A name for the table, and a context manager that yields the function to measure (once per thread, if it takes one)."""

    name: str
    open: Callable[[Server, int], Any]


def expect(read: Any) -> Any:
    """A benchmark that reads misses is worthless: check what a peer returns, and return it."""
    value = json.loads(read) if isinstance(read, bytes) else read
    if value != VALUE:
        raise RuntimeError(f"a peer returned {read!r} instead of the value")
    return read


@asynccontextmanager
async def forebay_get(server: Server, callers: int) -> AsyncIterator[AsyncRead]:
    async with AsyncForebay(server.url) as bay:
        cache = bay.cache("bench", ttl=None)
        await cache.set(KEY, VALUE)
        yield lambda: cache.get(KEY)


@asynccontextmanager
async def floor(server: Server, callers: int) -> AsyncIterator[AsyncRead]:
    connection = await connect(server.host, server.port)
    await connection.execute("SET", f"floor:{KEY}", json.dumps(VALUE))

    yield lambda: connection.execute("GET", f"floor:{KEY}")
    connection.transport.close()


@asynccontextmanager
async def redis_py(server: Server, callers: int) -> AsyncIterator[AsyncRead]:
    from redis.asyncio import Redis

    async with Redis(host=server.host, port=server.port) as client:
        await client.set(f"redis-py:{KEY}", json.dumps(VALUE))
        yield lambda: client.get(f"redis-py:{KEY}")


@asynccontextmanager
async def cashews(server: Server, callers: int) -> AsyncIterator[AsyncRead]:
    from cashews import Cache

    cache = Cache()
    cache.setup(server.url, client_side=False)
    await cache.init()
    await cache.set(f"cashews:{KEY}", VALUE, expire=3600)
    yield lambda: cache.get(f"cashews:{KEY}")
    await cache.close()


@asynccontextmanager
async def aiocache(server: Server, callers: int) -> AsyncIterator[AsyncRead]:
    from aiocache import RedisCache
    from aiocache.serializers import JsonSerializer

    cache = RedisCache(endpoint=server.host, port=server.port, serializer=JsonSerializer(), namespace="aiocache")
    await cache.set(KEY, VALUE)
    yield lambda: cache.get(KEY)
    await cache.close()


@contextmanager
def forebay_sync(server: Server, threads: int) -> Iterator[SyncRead]:
    """Room for as many sockets as threads, which is what redis-py's default pool opens."""
    with Forebay(f"{server.url}?pool_size={threads}&min_idle={threads}") as bay:
        cache = bay.cache("bench", ttl=None)
        cache.set(KEY, VALUE)
        yield lambda: cache.get(KEY)


@contextmanager
def redis_py_sync(server: Server, threads: int) -> Iterator[SyncRead]:
    from redis import Redis

    with Redis(host=server.host, port=server.port) as client:
        client.set(f"redis-py:{KEY}", json.dumps(VALUE))
        yield lambda: client.get(f"redis-py:{KEY}")


ASYNC_PEERS = (
    Peer("forebay get", forebay_get),
    Peer("floor (raw GET)", floor),
    Peer("redis-py (raw GET)", redis_py),
    Peer("cashews get", cashews),
    Peer("aiocache get", aiocache),
)
SYNC_PEERS = (Peer("forebay get", forebay_sync), Peer("redis-py (raw GET)", redis_py_sync))

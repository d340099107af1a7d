"""asyncio caches, which encode and decode, each as its own documentation sets it up. None is tuned, up or down."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from benchmarks.workload import KEY, VALUE, AsyncCall, Peer, Server, expect_value
from forebay import AsyncForebay

FOREBAY_GET = "forebay get"
FOREBAY_SET = "forebay set"


@asynccontextmanager
async def forebay_get(server: Server, callers: int) -> AsyncIterator[AsyncCall]:
    async with AsyncForebay(server.url) as bay:
        cache = bay.cache("bench", ttl=None)
        await cache.set(KEY, VALUE)
        yield partial(cache.get, KEY)


@asynccontextmanager
async def forebay_set(server: Server, callers: int) -> AsyncIterator[AsyncCall]:
    async with AsyncForebay(server.url) as bay:
        cache = bay.cache("bench.set", ttl=None)
        yield partial(cache.set, KEY, VALUE)
        expect_value(await cache.get(KEY))


@asynccontextmanager
async def cashews(server: Server, callers: int) -> AsyncIterator[AsyncCall]:
    from cashews import Cache

    cache = Cache()
    cache.setup(server.url, client_side=False)
    await cache.init()
    await cache.set(f"cashews:{KEY}", VALUE, expire=3600)
    yield partial(cache.get, f"cashews:{KEY}")
    await cache.close()


@asynccontextmanager
async def aiocache(server: Server, callers: int) -> AsyncIterator[AsyncCall]:
    from aiocache import RedisCache
    from aiocache.serializers import JsonSerializer

    cache = RedisCache(endpoint=server.host, port=server.port, serializer=JsonSerializer(), namespace="aiocache")
    await cache.set(KEY, VALUE)
    yield partial(cache.get, KEY)
    await cache.close()


GET = Peer(FOREBAY_GET, forebay_get)
GET_WITH_64 = Peer(f"{FOREBAY_GET}, 64 callers", forebay_get, 64)
SET = Peer(FOREBAY_SET, forebay_set)
CASHEWS = Peer("cashews get", cashews)
AIOCACHE = Peer("aiocache get", aiocache)

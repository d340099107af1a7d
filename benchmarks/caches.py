"""asyncio caches, which encode and decode, each as its own documentation sets it up. None is tuned, up or down."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import msgspec

from benchmarks.floor import Floor
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


MANY_KEYS = [f"k{number}" for number in range(100)]


@asynccontextmanager
async def forebay_get_many(server: Server, callers: int) -> AsyncIterator[AsyncCall]:
    async with AsyncForebay(server.url) as bay:
        cache = bay.cache("bench.many", ttl="1h")
        await cache.set_many(dict.fromkeys(MANY_KEYS, VALUE))
        yield partial(cache.get_many, MANY_KEYS)


@asynccontextmanager
async def aiocache_many(server: Server, callers: int) -> AsyncIterator[AsyncCall]:
    from aiocache import RedisCache
    from aiocache.serializers import JsonSerializer

    cache = RedisCache(endpoint=server.host, port=server.port, serializer=JsonSerializer(), namespace="aiocache:")
    await cache.multi_set([(key, VALUE) for key in MANY_KEYS])
    yield partial(cache.multi_get, MANY_KEYS)
    await cache.close()


@asynccontextmanager
async def cashews_many(server: Server, callers: int) -> AsyncIterator[AsyncCall]:
    from cashews import Cache

    cache = Cache()
    cache.setup(server.url, client_side=False)
    await cache.init()
    keys = [f"cashews:many:{key}" for key in MANY_KEYS]
    await cache.set_many(dict.fromkeys(keys, VALUE), expire=3600)
    yield partial(cache.get_many, *keys)
    await cache.close()


@asynccontextmanager
async def floor_many(server: Server, callers: int) -> AsyncIterator[AsyncCall]:
    """The least that it can cost in Python: names that are made already, one MGET, each value decoded."""
    transport, floor = await asyncio.get_running_loop().create_connection(Floor, server.host, server.port)
    names = [f"floor:{key}" for key in MANY_KEYS]
    for name in names:
        await floor.execute("SET", name, msgspec.json.encode(VALUE))
    decode = msgspec.json.Decoder().decode

    async def call() -> Any:
        return [decode(data) for data in await floor.execute("MGET", *names)]

    yield call
    transport.close()


def expect_many(reply: Any) -> Any:
    """Return *reply* if it is all values, in a list or under their keys."""
    values = list(reply.values()) if isinstance(reply, dict) else list(reply)
    if values != [VALUE] * len(MANY_KEYS):
        raise RuntimeError("a peer returned something else than all values")
    return reply


GET = Peer(FOREBAY_GET, forebay_get)
GET_WITH_64 = Peer(f"{FOREBAY_GET}, 64 callers", forebay_get, 64)
SET = Peer(FOREBAY_SET, forebay_set)
CASHEWS = Peer("cashews get", cashews)
AIOCACHE = Peer("aiocache get", aiocache)
MANY = (
    Peer("forebay get_many", forebay_get_many),
    Peer("MGET and decode (floor)", floor_many),
    Peer("aiocache multi_get", aiocache_many),
    Peer("cashews get_many", cashews_many),
)

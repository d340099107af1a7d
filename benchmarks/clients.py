"""asyncio clients without a cache on top, each as its own documentation sets it up, reduced to GET and SET of raw bytes.

None is tuned, up or down. What is measured is a `functools.partial` of the client's own method: no layer of ours is in between.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from benchmarks.floor import connect
from benchmarks.workload import AsyncCall, Peer, Server
from forebay import AsyncForebay

FOREBAY = "forebay execute"
FLOOR = "floor"
REDIS_PY = "redis-py"
GLIDE = "glide"
COREDIS = "coredis"


@dataclass(frozen=True)
class Raw:
    """GET and SET of one client, under a prefix of its own."""

    prefix: str
    get: Callable[[str], Awaitable[Any]]
    set: Callable[[str, bytes], Awaitable[Any]]


@asynccontextmanager
async def forebay(server: Server, callers: int) -> AsyncIterator[Raw]:
    async with AsyncForebay(server.url) as bay:
        yield Raw("forebay:", partial(bay.execute, "GET"), partial(bay.execute, "SET"))


@asynccontextmanager
async def floor(server: Server, callers: int) -> AsyncIterator[Raw]:
    connection = await connect(server.host, server.port)
    yield Raw("floor:", partial(connection.execute, "GET"), partial(connection.execute, "SET"))
    connection.transport.close()


@asynccontextmanager
async def redis_py(server: Server, callers: int) -> AsyncIterator[Raw]:
    """Its pool of 100 sockets raises when there are more callers: it is then made as large as they are many."""
    from redis.asyncio import Redis

    async with Redis(host=server.host, port=server.port, max_connections=max(100, callers)) as client:
        yield Raw("redis-py:", client.get, client.set)


@asynccontextmanager
async def glide(server: Server, callers: int) -> AsyncIterator[Raw]:
    """One multiplexed client, with the request timeout of its documentation's example."""
    from glide import GlideClient, GlideClientConfiguration, NodeAddress

    client = await GlideClient.create(GlideClientConfiguration([NodeAddress(server.host, server.port)], request_timeout=500))
    yield Raw("glide:", client.get, client.set)
    await client.close()


@asynccontextmanager
async def coredis(server: Server, callers: int) -> AsyncIterator[Raw]:
    """One client, entered once and shared by all callers: its default pool multiplexes them over its connections."""
    from coredis import Redis

    async with Redis(host=server.host, port=server.port) as client:
        yield Raw("coredis:", client.get, client.set)


Client = Callable[[Server, int], AbstractAsyncContextManager[Raw]]
CLIENTS: dict[str, Client] = {FOREBAY: forebay, FLOOR: floor, REDIS_PY: redis_py, GLIDE: glide, COREDIS: coredis}


def reader(name: str, body: bytes, *, callers: int | None = None) -> Peer:
    """Return the peer that reads *body* with client *name*."""

    @asynccontextmanager
    async def open_(server: Server, callers: int) -> AsyncIterator[AsyncCall]:
        async with CLIENTS[name](server, callers) as raw:
            key = f"{raw.prefix}read:{len(body)}"
            await raw.set(key, body)
            yield partial(raw.get, key)

    return Peer(name if callers is None else f"{name}, {callers} callers", open_, callers)


def writer(name: str, body: bytes) -> Peer:
    """Return the peer that writes *body* with client *name*, and looks at the end whether it is there."""

    @asynccontextmanager
    async def open_(server: Server, callers: int) -> AsyncIterator[AsyncCall]:
        async with CLIENTS[name](server, callers) as raw:
            key = f"{raw.prefix}write:{len(body)}"
            yield partial(raw.set, key, body)
            if await raw.get(key) != body:
                raise RuntimeError(f"{name} did not store the value")

    return Peer(name, open_)

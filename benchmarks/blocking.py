"""The peers for threads: blocking clients, each as its own documentation sets it up. None is tuned, up or down."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from benchmarks.workload import BODY, KEY, VALUE, Peer, Server, SyncCall
from forebay import Forebay


def _sized(server: Server, threads: int) -> str:
    """Room for as many sockets as threads, which is what redis-py's default pool opens."""
    return f"{server.url}?pool_size={threads}&min_idle={threads}"


@contextmanager
def forebay_get(server: Server, threads: int) -> Iterator[SyncCall]:
    with Forebay(_sized(server, threads)) as bay:
        cache = bay.cache("bench", ttl=None)
        cache.set(KEY, VALUE)
        yield partial(cache.get, KEY)


@contextmanager
def forebay_execute(server: Server, threads: int) -> Iterator[SyncCall]:
    with Forebay(_sized(server, threads)) as bay:
        bay.execute("SET", f"forebay:{KEY}", BODY)
        yield partial(bay.execute, "GET", f"forebay:{KEY}")


@contextmanager
def redis_py(server: Server, threads: int) -> Iterator[SyncCall]:
    from redis import Redis

    with Redis(host=server.host, port=server.port) as client:
        client.set(f"redis-py:{KEY}", BODY)
        yield partial(client.get, f"redis-py:{KEY}")


PEERS = (Peer("forebay get", forebay_get), Peer("forebay execute", forebay_execute), Peer("redis-py", redis_py))

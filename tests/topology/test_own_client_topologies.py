"""A client from a Sentinel, and one of a cluster, under a bay: they follow what moves, and the bay splits what spans slots."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from forebay import CrossSlot, InvalidCommand, NoScript, ServerError, Unavailable
from tests.clusters import ClusterSet
from tests.either import as_either
from tests.own_clients import BOTH, Kind, appearance, ended, result
from tests.sentinels import SERVICE, SentinelSet
from tests.servers import HOST

BINARY = bytes(range(256))


@pytest.fixture(params=BOTH, ids=str)
def kind(request: pytest.FixtureRequest) -> Kind:
    """Asyncio clients decode, and redis-py's speak RESP3. (valkey-py's own parser of RESP3 does not know MOVED for what it is.)"""
    kind: Kind = request.param
    return kind._replace(protocol=3 if kind.family == "redis" else 2, decodes=True) if kind.colour == "asyncio" else kind


# behind sentinels


@pytest.fixture
async def found(kind: Kind, sentinels: SentinelSet) -> AsyncIterator[Any]:
    """A client that asks the sentinels for the primary."""
    module = importlib.import_module(f"{kind.module.__name__}.sentinel")
    asked = module.Sentinel([(HOST, sentinel.port) for sentinel in sentinels.sentinels], socket_timeout=1)
    client = asked.master_for(SERVICE, socket_timeout=1, **kind.options(**kind.patient))
    yield client
    await ended(client)
    for sentinel in asked.sentinels:
        await ended(sentinel)


async def test_a_client_from_a_sentinel_follows_the_primary(kind: Kind, found: Any, sentinels: SentinelSet, prefix: str) -> None:
    before = appearance(found)
    bay = await as_either(kind.bay(found, prefix=prefix)).connect()
    cache = bay.cache("user", ttl=60)
    assert await cache.get_or_set(1, lambda: "loaded") == "loaded"
    assert f"+sentinel://{HOST}" in bay.settings.where
    assert bay.settings.where.endswith(f"/{SERVICE}/0")
    sentinels.failover()
    assert await until_served(lambda: cache.delete(2)) == 0
    await cache.set(1, "new")
    assert await cache.get(1) == "new"
    await bay.close()
    assert appearance(found) == before
    assert await result(found.ping()) is True


async def until_served(call: Callable[[], Awaitable[Any]]) -> Any:
    """Return what *call* returns once the client has found the new primary."""
    async with asyncio.timeout(20):
        while True:
            try:
                return await call()
            except Unavailable:
                await asyncio.sleep(0.02)


# in a cluster


@pytest.fixture
async def client(kind: Kind, cluster: ClusterSet) -> AsyncIterator[Any]:
    made = kind.cluster(cluster.nodes[0].port)
    yield made
    await ended(made)


@pytest.fixture
async def bay(kind: Kind, client: Any, prefix: str) -> AsyncIterator[Any]:
    opened = await as_either(kind.bay(client, prefix=prefix)).connect()
    yield opened
    await opened.close()


async def test_a_cache_spans_the_slots(bay: Any, client: Any) -> None:
    before = appearance(client)
    cache = bay.cache("user", ttl=60)
    values = {number: {"n": number} for number in range(300)}
    await cache.set_many(values)
    assert await cache.get_many([*range(300), 1000]) == values
    assert await cache.get_or_set(0, lambda: pytest.fail("loaded")) == {"n": 0}
    assert await cache.expire(1, None) is True
    assert await cache.delete(*range(100), 2000) == 100
    assert await cache.delete_matching("1??") == 100
    assert await cache.clear() == 100
    assert await cache.clear() == 0
    assert appearance(client) == before


async def test_one_cursor_walks_all_primaries(bay: Any, cluster: ClusterSet, prefix: str) -> None:
    names = {f"{prefix}{number}" for number in range(500)}
    await bay.pipeline([("SET", name, BINARY) for name in names])
    seen, cursor = [], b"0"
    while True:
        cursor, found = await bay.execute("SCAN", cursor, "MATCH", f"{prefix}*", "COUNT", 50)
        seen += [name.decode() for name in found]
        if cursor == b"0":
            break
    assert set(seen) == names
    assert await bay.execute("DBSIZE") >= 500
    assert await bay.execute("UNLINK", *names) == 500
    with pytest.raises(InvalidCommand, match="cursor"):
        await bay.execute("SCAN", "x")


async def test_commands_find_their_node_and_replies_are_bytes(bay: Any, cluster: ClusterSet, prefix: str) -> None:
    for node in cluster.masters():
        key = cluster.key_in(node, f"{prefix}k")
        assert await bay.execute("SET", key, BINARY) == b"OK"
        assert await bay.execute("GET", key) == BINARY
        assert await bay.execute("OBJECT", "ENCODING", key) == b"raw"
        assert await bay.execute("MEMORY", "USAGE", key) > 256
        assert await bay.execute("HSET", f"{key}{{{key}}}", "f", BINARY) == 1
        assert await bay.execute("HGETALL", f"{key}{{{key}}}") == {b"f": BINARY}
        assert await bay.execute("XREAD", "COUNT", 1, "STREAMS", f"{key}x", 0) is None
        with pytest.raises(ServerError) as caught:
            await bay.execute("INCR", key)
        assert caught.value.code == "ERR"
        for name in (key, f"{key}{{{key}}}"):
            assert await bay.execute("DEL", name) == 1
    assert await bay.execute("ECHO", BINARY) == BINARY


async def test_keys_of_several_slots_are_split_or_refused(bay: Any, prefix: str) -> None:
    a, b, c = (f"{prefix}{name}" for name in "abc")
    assert await bay.execute("MSET", a, 1, b, BINARY) == b"OK"
    assert await bay.execute("MGET", a, c, b) == [b"1", None, BINARY]
    assert await bay.pipeline([("MGET", b, a), ("PING",), ("EXISTS", a, b, c), ("EVALSHA", "0" * 40, 1, a)], errors="return") == [
        [BINARY, b"1"],
        b"PONG",
        2,
        Refusal(NoScript),
    ]
    for refused in (lambda: bay.execute("RENAME", a, b), lambda: bay.transaction([("GET", a), ("GET", b)])):
        with pytest.raises(CrossSlot, match=r"common \{tag\}"):
            await refused()
    assert await bay.execute("DEL", a, b, c) == 2


class Refusal:
    """Equal to any error of a class."""

    def __init__(self, cls: type[Exception]) -> None:
        self.cls = cls

    def __eq__(self, other: object) -> bool:
        return isinstance(other, self.cls)

    def __hash__(self) -> int:
        return hash(self.cls)


async def test_a_moved_slot_is_followed_by_everything(bay: Any, cluster: ClusterSet, prefix: str) -> None:
    script = getattr(bay, "wrapped", bay).script("return redis.call('GET', KEYS[1])")

    async def run(key: str) -> Any:
        return await result(script([key]))

    # Always the same way round: a slot that comes back before the nodes have heard of its leaving may be nobody's.
    source, target = cluster.masters()[0], cluster.masters()[-1]
    for number, (call, reply) in enumerate(
        (
            (lambda key: bay.execute("GET", key), BINARY),
            (lambda key: bay.transaction([("SET", key, BINARY), ("GET", key)]), [b"OK", BINARY]),
            (lambda key: bay.pipeline([("GET", key), ("EXISTS", key)]), [BINARY, 1]),
            (run, BINARY),
        )
    ):
        key = cluster.key_in(source, f"{prefix}{number}")
        await bay.execute("SET", key, BINARY)
        cluster.move_slot(cluster.slot_of(key), target)
        assert await call(key) == reply
        await bay.execute("DEL", key)


async def test_messages_of_a_cluster(bay: Any, prefix: str) -> None:
    subscribe = getattr(bay, "wrapped", bay).subscribe
    messages = subscribe(f"{prefix}news")
    await result(messages.__enter__() if hasattr(messages, "__enter__") else messages.__aenter__())
    await bay.execute("PUBLISH", f"{prefix}news", BINARY)
    message = await result(messages.get(5))
    assert message.data == BINARY
    await result(messages.close())


async def test_stats_name_the_nodes(bay: Any, cluster: ClusterSet) -> None:
    assert {node.address for node in bay.stats().wire.nodes} == {f"{HOST}:{node.port}" for node in cluster.nodes}
    assert "redis+cluster://" in repr(getattr(bay, "wrapped", bay))

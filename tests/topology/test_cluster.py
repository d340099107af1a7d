"""In a cluster every key finds its node, what spans slots is put together again, and what cannot be is refused by name."""

from __future__ import annotations

from typing import Any

import hiredis
import pytest

from forebay import AsyncForebay, CrossSlot, Forebay, ForebayError, Settings
from tests.clusters import ClusterNode, ClusterSet
from tests.servers import caught_up, free_ports
from tests.topology.load import script


@pytest.fixture
async def bay(cluster: ClusterSet, make_either: Any, prefix: str) -> Any:
    return await make_either(cluster.url, prefix=prefix).connect()


def names(prefix: str, count: int) -> list[str]:
    """Return keys, so many that every node has some of them."""
    return [f"{prefix}{number}" for number in range(count)]


def on_each(cluster: ClusterSet, keys: list[str]) -> list[list[str]]:
    """Return which of *keys* each master holds, by its own account."""
    return [[key for key in keys if holds(master, key)] for master in cluster.masters()]


def holds(master: ClusterNode, key: str) -> bool:
    try:
        return bool(master.call("EXISTS", key))
    except hiredis.ReplyError as error:
        assert str(error).startswith("MOVED")
        return False


async def test_every_key_finds_its_node(cluster: ClusterSet, bay: Any, prefix: str) -> None:
    keys = names(prefix, 60)
    for key in keys:
        assert await bay.execute("SET", key, f"{key}=") == b"OK"
    for key in keys:
        assert await bay.execute("GET", key) == f"{key}=".encode()
    held = on_each(cluster, keys)
    assert all(held)
    assert sorted(key for part in held for key in part) == sorted(keys)


async def test_a_pipeline_goes_to_every_node_and_answers_in_order(bay: Any, prefix: str) -> None:
    keys = names(prefix, 60)
    assert await bay.pipeline([("SET", key, f"{key}=") for key in keys]) == [b"OK"] * 60
    assert await bay.pipeline([("GET", key) for key in reversed(keys)]) == [f"{key}=".encode() for key in reversed(keys)]
    mixed = await bay.pipeline([("MGET", *keys), ("DEL", *keys[:10]), ("EXISTS", *keys), ("GET", keys[-1])])
    assert mixed == [[f"{key}=".encode() for key in keys], 10, 50, f"{keys[-1]}=".encode()]


async def test_a_cache_works_as_on_one_server(bay: Any) -> None:
    cache = bay.cache("ns", ttl=60)
    await cache.set_many({number: {"n": number} for number in range(40)})
    assert await cache.get_many(range(50)) == {number: {"n": number} for number in range(40)}
    await cache.set("one", 1)
    assert await cache.get("one") == 1
    assert await cache.delete(*range(5), 1000) == 5
    assert await cache.delete_matching("1*") == 10
    assert await cache.get_many(range(40)) == {number: {"n": number} for number in range(40) if number >= 20 or 5 <= number < 10}
    other = bay.cache("other", ttl=60)
    await other.set("kept", 1)
    await cache.clear()
    assert await cache.get_many([*range(40), "one"]) == {}
    assert await other.get("kept") == 1


async def test_commands_over_many_slots_are_split_and_put_together(bay: Any, prefix: str) -> None:
    keys = names(prefix, 50)
    assert await bay.execute("MSET", *(word for key in keys for word in (key, f"{key}="))) == b"OK"
    asked = [*keys[::2], f"{prefix}missing", keys[0], *keys[1::2]]
    expected = [None if key.endswith("missing") else f"{key}=".encode() for key in asked]
    assert await bay.execute("MGET", *asked) == expected
    assert await bay.execute("EXISTS", *keys, keys[0], f"{prefix}missing") == 51
    assert await bay.execute("TOUCH", *keys, f"{prefix}missing") == 50
    assert await bay.execute("DEL", *keys[:20], f"{prefix}missing") == 20
    assert await bay.execute("UNLINK", *keys) == 30
    assert await bay.execute("EXISTS", *keys) == 0


async def test_a_malformed_command_writes_nothing(bay: Any, prefix: str) -> None:
    await bay.execute("MSET", f"{prefix}a", 1, f"{prefix}b", 2)
    with pytest.raises(ForebayError):
        await bay.execute("MSET", f"{prefix}a", 3, f"{prefix}b")
    assert await bay.execute("MGET", f"{prefix}a", f"{prefix}b") == [b"1", b"2"]


async def test_what_cannot_be_split_is_refused_and_names_the_keys(cluster: ClusterSet, bay: Any, prefix: str) -> None:
    one, two = (cluster.key_in(master, prefix) for master in cluster.masters()[:2])
    await bay.execute("SET", one, "1")
    sent = sum(master.calls("rename") for master in cluster.masters())
    for work in (
        lambda: bay.execute("RENAME", one, two),
        lambda: bay.execute("SUNIONSTORE", one, two),
        lambda: bay.transaction([("SET", one, 1), ("SET", two, 2)]),
        lambda: script(bay, "return 1", [one, two], []),
        lambda: bay.pipeline([("SET", one, 2), ("RENAME", one, two)]),
    ):
        with pytest.raises(CrossSlot) as failure:
            await work()
        assert one in str(failure.value)
        assert two in str(failure.value)
    assert sum(master.calls("rename") for master in cluster.masters()) == sent
    assert await bay.execute("GET", one) == b"1"
    tagged = [f"{{{prefix}}}a", f"{{{prefix}}}b"]
    await bay.execute("SET", tagged[0], "x")
    assert await bay.execute("RENAME", *tagged) == b"OK"
    assert await bay.transaction([("GET", tagged[1]), ("DEL", *tagged)]) == [b"x", 1]


@pytest.mark.parametrize("count", [7, 1000])
async def test_scan_walks_over_every_master(bay: Any, prefix: str, count: int) -> None:
    keys = names(prefix, 200)
    await bay.execute("MSET", *(word for key in keys for word in (key, "1")))
    found: list[bytes] = []
    cursor: Any = 0
    for _ in range(100_000):
        cursor, page = await bay.execute("SCAN", cursor, "MATCH", f"{prefix}*", "COUNT", count)
        found += page
        if int(cursor) == 0:
            break
    assert sorted(found) == sorted(key.encode() for key in keys)
    assert await bay.execute("DBSIZE") >= 200


async def test_a_script_runs_on_every_node_also_after_one_forgot_it(cluster: ClusterSet, bay: Any, prefix: str) -> None:
    source = f"return redis.call('INCRBY', KEYS[1], ARGV[1]) -- {prefix}"
    keys = [cluster.key_in(master, prefix) for master in cluster.masters()]
    for key in keys:
        assert await script(bay, source, [key], ["2"]) == 2
    cluster.masters()[1].call("SCRIPT", "FLUSH")
    for key in keys:
        assert await script(bay, source, [key], ["3"]) == 5


async def test_one_living_seed_is_enough(cluster: ClusterSet, make_either: Any, prefix: str) -> None:
    seeds = f"redis+cluster://127.0.0.1:{free_ports(1)[0]},127.0.0.1:{cluster.masters()[2].port}"
    bay = await make_either(seeds).connect()
    keys = names(prefix, 30)
    await bay.pipeline([("SET", key, key) for key in keys])
    assert await bay.execute("MGET", *keys) == [key.encode() for key in keys]


async def test_replicas_answer_reads_that_allow_it(cluster_with_replicas: ClusterSet, make_either: Any, prefix: str) -> None:
    cluster = cluster_with_replicas
    bay = await make_either(cluster.url).connect()
    masters = cluster.masters()
    replicas = [replica for master in masters for replica in cluster.replicas_of(master)]
    keys = [cluster.key_in(master, prefix) for master in masters]
    for master, key in zip(masters, keys, strict=True):
        await bay.execute("SET", key, key)
        caught_up(master, cluster.replicas_of(master))
    before = {node: node.calls("get") for node in cluster.nodes}
    for key in keys:
        for _ in range(5):
            assert await bay.execute("GET", key, replica=True) == key.encode()
    assert await bay.pipeline([("GET", key) for key in keys], replica=True) == [key.encode() for key in keys]
    assert [node.calls("get") - before[node] for node in replicas] == [6] * 3
    assert [node.calls("get") - before[node] for node in masters] == [0] * 3
    assert await bay.execute("GET", keys[0]) == keys[0].encode()
    assert masters[0].calls("get") == before[masters[0]] + 1


async def test_nodes_behind_a_translated_address_are_reached_by_a_host_map(
    natted: ClusterSet, monkeypatch: pytest.MonkeyPatch, prefix: str
) -> None:
    where = {f"{host}:{port}": f"127.0.0.1:{node.port}" for node in natted.nodes for host, port in [node.announced]}
    keys = [natted.key_in(master, prefix) for master in natted.masters()]
    async with AsyncForebay(settings=Settings.from_url(natted.url).replace(host_map=where)) as bay:
        for key in keys:
            await bay.execute("SET", key, key)
        assert await bay.execute("MGET", *keys) == [key.encode() for key in keys]
    monkeypatch.setenv("REDIS_HOST_MAP", ",".join(f"{announced}={real}" for announced, real in where.items()))
    with Forebay(natted.url) as sync:
        assert sync.execute("MGET", *keys) == [key.encode() for key in keys]
        slot, source, target = natted.slot_of(keys[0]), *natted.masters()
        natted.move_slot(slot, target)  # the redirection is translated as well
        assert sync.execute("GET", keys[0]) == keys[0].encode()
        natted.move_slot(slot, source)
        assert sync.execute("DEL", *keys) == 2

"""Tags and namespaces are versions: what was invalidated is served to nobody who asks afterwards, in any process."""

import asyncio
import threading

import pytest

from forebay import AsyncForebay, InvalidKey
from tests.either import Either
from tests.proxy import Drop, proxy_to
from tests.server.test_near import calls, until


@pytest.fixture
def cache(either):
    return either.cache("user", ttl=60)


@pytest.fixture
async def other(url, prefix):
    async with AsyncForebay(url, prefix=prefix) as bay:
        yield bay


def of_team(user):
    return [f"team:{user['team']}"]


async def test_an_invalidated_tag_ends_its_entries_alone(either, cache):
    await cache.set(1, {"team": 1}, tags=["team:1", "all"])
    await cache.set(2, {"team": 2}, tags=of_team)
    await cache.set_many({3: {"team": 3}, 4: {"team": 2}}, tags=of_team)
    await cache.set(5, {"team": 2})
    assert sorted(await cache.get_many(range(1, 6))) == [1, 2, 3, 4, 5]
    await cache.invalidate_tags("team:2")
    assert sorted(await cache.get_many(range(1, 6))) == [1, 3, 5]
    assert await cache.get(2) is None
    assert await cache.exists(2) is False
    assert await cache.ttl(2) is None
    assert await cache.expire(2, 10) is False
    await cache.invalidate_tags()
    await cache.invalidate_tags("all", "team:3")
    assert sorted(await cache.get_many(range(1, 6))) == [5]
    assert cache.stats().errors == 0


async def test_a_tag_belongs_to_its_namespace(either, cache):
    twin = either.cache("other", ttl=60)
    await cache.set(1, "mine", tags=["t"])
    await twin.set(1, "other", tags=["t"])
    await cache.invalidate_tags("t")
    assert (await cache.get(1), await twin.get(1)) == (None, "other")


@pytest.mark.parametrize("tags", ["t", [1], [""], ["a\nb"], lambda _: "t"], ids=["text", "number", "empty", "control", "function"])
async def test_a_bad_tag_is_refused_and_nothing_is_stored(cache, tags):
    with pytest.raises(InvalidKey):
        await cache.set(1, 1, tags=tags)
    with pytest.raises(InvalidKey):
        await cache.get_or_set(1, lambda: 1, tags=tags)
    assert await cache.get(1) is None


async def test_what_is_gone_from_the_server_is_dead_and_never_revived(either, cache, prefix):
    await cache.set(1, 1, tags=["t"])
    assert await cache.get(1) == 1
    await either.execute("DEL", f"{prefix}user:#tag:t")  # by anybody, or evicted
    assert await cache.get(1) is None
    await cache.set(2, 2, tags=["t"])
    assert await cache.get_many([1, 2]) == {2: 2}
    await either.execute("SET", f"{prefix}user:#tag:t", "whatever")
    assert await cache.get_many([1, 2]) == {}


async def test_add_and_get_or_set_replace_a_dead_entry(cache):
    for write in (lambda: cache.add(1, "new", tags=["t"]), lambda: cache.get_or_set(1, lambda: "new", tags=["t"])):
        await cache.set(1, "old", tags=["t"])
        assert not await cache.add(1, "new", tags=["t"])
        await cache.invalidate_tags("t")
        assert await write()
        assert await cache.get(1) == "new"
        assert await cache.get_or_set(1, lambda: pytest.fail("loaded")) == "new"


async def test_versions_live_at_least_as_long_as_entries(either, other, cache, prefix):
    async def lives(name):
        left = await either.execute("PTTL", f"{prefix}user:#{name}")
        return float("inf") if left == -1 else left / 3_600_000

    await cache.set(1, 1, tags=["t"])
    assert await lives("tag:t") > 23
    await cache.set(2, 1, tags=["t"], ttl="30d", stale_if_error="10d")
    assert await lives("tag:t") >= 24 * 40
    await cache.set(3, 1, tags=["t"])
    assert await lives("tag:t") >= 24 * 40
    assert sorted(await cache.get_many([1, 2, 3])) == [1, 2, 3]
    await other.cache("user", ttl=60).invalidate_tags("t")
    await other.cache("user", ttl=60).set(4, 1, tags=["t"])  # a shorter one now
    assert await cache.get(4) == 1
    await cache.set(2, 1, tags=["t"], ttl="30d")
    assert await lives("tag:t") >= 24 * 30
    await cache.set(2, 1, tags=["t"], ttl=None)
    assert await lives("tag:t") == float("inf")
    await cache.set(3, 1, tags=["t"])
    assert await lives("tag:t") == float("inf")
    await cache.get_or_set(9, lambda: 1, tags=lambda _: ["u"], ttl=None)
    assert await cache.get(9) == 1
    assert await lives("tag:u") == float("inf")


# a tag changes while a value is loaded


@pytest.mark.parametrize("when", ["before", "during", "after"])
@pytest.mark.parametrize("tags", [["team:1"], of_team], ids=["static", "computed"])
@pytest.mark.parametrize("by", ["us", "them"])
async def test_no_value_from_before_an_invalidation_is_served_after_it(either, other, cache, when, tags, by):
    theirs = other.cache("user", ttl=60)
    invalidator = cache if by == "us" else theirs
    database = {"team": 1, "name": "old"}
    await cache.set(0, database, tags=["team:1"])
    assert await cache.get(0)  # the version is known

    async def change():
        database["name"] = "new"
        await invalidator.invalidate_tags("team:1")

    loop = asyncio.get_running_loop()

    def read():
        """Load on a thread, or on the loop; the tag is invalidated after the database was read."""
        value = dict(database)
        if when == "during":
            if isinstance(either, Either):
                other_loop_done.clear()
                loop.call_soon_threadsafe(lambda: asyncio.ensure_future(changed_on_loop()))
                assert other_loop_done.wait(5)
            else:

                async def slow():
                    await change()
                    return value

                return slow()
        return value

    other_loop_done = threading.Event()

    async def changed_on_loop():
        await change()
        other_loop_done.set()

    if when == "before":
        await change()
    if isinstance(either, Either):
        await asyncio.to_thread(either.wrapped.cache("user", ttl=60).get_or_set, 1, read, tags=tags)
    else:
        await cache.get_or_set(1, read, tags=tags)
    if when == "after":
        await change()
    for reader in (cache, theirs):
        assert (await reader.get(1) or database)["name"] == "new"
        assert (await reader.get_many([1])).get(1, database)["name"] == "new"
        assert (await reader.get_or_set(1, lambda: dict(database), tags=tags))["name"] == "new"


async def test_a_version_whose_making_was_not_acknowledged_never_rises_again(server, prefix, other):
    direct = other.cache("user", ttl=60)
    with proxy_to(server.address()) as proxy:
        async with AsyncForebay(proxy.url, prefix=prefix) as bay:
            cache = bay.cache("user", ttl=60)
            await cache.set(0, 0, tags=["warm"])
            proxy.fault = Drop(to_client=True)
            writing = asyncio.create_task(cache.set(1, 1, tags=["t"]))
            await until(lambda: other.execute("EXISTS", f"{prefix}user:#tag:t"))
            await direct.set(2, "old", tags=["t"])
            await direct.invalidate_tags("t")
            proxy.heal()
            await writing
            assert await direct.get(2) is None


# what it costs


async def test_a_warm_tagged_read_is_one_command(bay):
    cache = bay.cache("user", ttl=60)
    await cache.set(1, 1, tags=["a", "b"])
    assert await cache.get(1) == await cache.get(1) == 1
    await bay.execute("CONFIG", "RESETSTAT")
    for _ in range(20):
        assert await cache.get(1) == 1
    assert await calls(bay) == {"get": 20}


@pytest.mark.parametrize("near", [None, 1000])
async def test_a_hundred_tagged_entries_are_two_round_trips(either, near):
    cache = either.cache("user", ttl=60, near=near)
    await cache.set_many({n: n for n in range(100)}, tags=lambda n: ["all", f"of:{n % 7}"])
    await either.execute("CONFIG", "RESETSTAT")
    assert len(await cache.get_many(range(100))) == 100
    assert (await calls(either))["mget"] == 2
    assert "get" not in await calls(either)


# namespaces


async def test_clearing_a_versioned_namespace_is_one_command_and_takes_nested_ones_with_it(either):
    outer, inner, beside = (either.cache(name, ttl=60, versioned=True) for name in ("a", "a:b", "ab"))
    for cache in (outer, inner, beside):
        await cache.set_many({"k": 1, "l": 2})
        assert await cache.get_many(["k", "l"]) == {"k": 1, "l": 2}
    await either.execute("CONFIG", "RESETSTAT")
    assert await inner.clear() == 1
    assert await calls(either) == {"unlink": 1}
    assert [await cache.get("k") for cache in (outer, inner, beside)] == [1, None, 1]
    await inner.set("k", 3)
    assert await outer.clear() == 1
    assert [await cache.get("k") for cache in (outer, inner, beside)] == [None, None, 1]
    assert await inner.get_or_set("k", lambda: 4) == 4
    assert await inner.get_or_set("k", lambda: pytest.fail("loaded")) == 4
    assert await inner.add("l", 5)


async def test_damaged_and_foreign_bytes_are_reported_misses_and_replaced(either, prefix):
    cache = either.cache("v", ttl=60, versioned=True)
    await cache.set("k", 1, tags=["t"])
    whole = await either.execute("GET", f"{prefix}v:k")
    await cache.get("k")
    stored = [
        b"",
        b"5",
        b"\x01",
        b"\x07future",
        whole[:50],
        whole[:60],
        whole[:-1],
        whole[:17] + b"\xff" * 8 + whole[25:],
        b"\x00",
        b"\xff",
    ]
    for number, data in enumerate(stored, 1):
        await either.execute("SET", f"{prefix}v:k", data)
        assert await cache.get("k") is None, data
        assert await cache.get_many(["k"]) == {}
        assert await cache.exists("k") is False
        assert await cache.ttl("k") is None
        assert cache.stats().errors >= 4 * number
        assert await cache.get_or_set("k", lambda: "new", tags=["t"]) == "new"
        assert await cache.get("k") == "new"

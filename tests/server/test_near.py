"""The near tier: a hit costs nothing, and no value is older than what this process or a push said, in both colours."""

import asyncio
import subprocess
import sys
import time

import msgspec
import pytest

from forebay import AsyncForebay, Forebay, NearTierOff, SettingsError
from tests.either import Either
from tests.own_clients import Kind, ended


class Point(msgspec.Struct, frozen=True):
    x: int
    y: int


async def until(condition, seconds=5.0):
    limit = time.monotonic() + seconds
    while True:
        found = condition()
        if hasattr(found, "__await__"):
            found = await found
        if found:
            return
        assert time.monotonic() < limit, "not in time"
        await asyncio.sleep(0.005)


async def hits_near(cache, key):
    before = cache.stats().near_hits
    await cache.get(key)
    return cache.stats().near_hits > before


async def calls(bay):
    """Return how many commands of caches the server ran."""
    lines = (await bay.execute("INFO", "commandstats")).decode().splitlines()
    counts = {line.split(":")[0].removeprefix("cmdstat_"): int(line.split("calls=")[1].split(",")[0]) for line in lines if "calls=" in line}
    return {name: count for name, count in counts.items() if name not in ("info", "config|resetstat", "ping", "client|caching")}


@pytest.fixture
async def cache(either):
    cache = either.cache("n", ttl=60, near=100)
    await cache.set("k", 1)
    await until(lambda: hits_near(cache, "k"))
    return cache


@pytest.fixture
async def other(url, prefix):
    async with AsyncForebay(url, prefix=prefix) as bay:
        yield bay


async def test_a_hit_costs_no_round_trip(either, cache):
    await either.execute("CONFIG", "RESETSTAT")
    before = cache.stats().near_hits
    for _ in range(50):
        assert await cache.get("k") == 1
        assert await cache.get_many(["k"]) == {"k": 1}
        assert await cache.get_or_set("k", lambda: pytest.fail("loaded")) == 1
        assert await cache.fetch("k") == 1
    assert await calls(either) == {}
    assert cache.stats().near_hits - before == 200


async def test_no_own_change_leaves_an_old_value(cache):
    async def near_again():
        await until(lambda: hits_near(cache, "k"))

    await cache.set("k", 2)
    assert await cache.get("k") == 2
    await near_again()
    await cache.set_many({"k": 3, "l": 3})
    assert await cache.get("k") == 3
    await near_again()
    await cache.delete("k")
    assert await cache.get("k") is None
    assert await cache.add("k", 4)
    assert await cache.get("k") == 4
    await near_again()
    await cache.delete_matching("k*")
    assert await cache.get("k") is None
    await cache.set("k", 5)
    await near_again()
    await cache.clear()
    assert await cache.get("k") is None
    await cache.set("k", 6)
    await near_again()
    await cache.expire("k", 0.001)
    await asyncio.sleep(0.01)
    assert await cache.get("k") is None


async def test_own_changes_through_another_cache_object_count(either, cache):
    twin = either.cache("n", ttl=60, near=100)
    plain = either.cache("n", ttl=60)
    for writer in (twin, plain):
        await until(lambda: hits_near(cache, "k"))
        await writer.set("k", "new")
        assert await cache.get("k") == "new"
        await writer.delete("k")
        assert await cache.get("k") is None
        await cache.set("k", 1)


async def test_tagged_and_versioned_values_are_held_too(either):
    cache = either.cache("v:w", ttl=60, near=100, versioned=True)
    await cache.set("k", 1, tags=["t"])
    await until(lambda: hits_near(cache, "k"))
    await cache.invalidate_tags("t")
    assert await cache.get("k") is None
    await cache.set("k", 2, tags=["t"])
    await until(lambda: hits_near(cache, "k"))
    await cache.clear()
    assert await cache.get("k") is None
    await cache.set("k", 3, tags=["t"])
    await until(lambda: hits_near(cache, "k"))
    await either.cache("v", ttl=60, versioned=True).clear()
    assert await cache.get("k") is None
    assert await cache.get_many(["k"]) == {}


@pytest.mark.parametrize("change", ["delete", "set", "tags", "outer", "raw", "version"])
async def test_what_another_process_changes_is_dropped_when_the_push_comes(either, other, prefix, change):
    cache = either.cache("v:w", ttl=60, near=100, versioned=True)
    theirs = other.cache("v:w", ttl=60, versioned=True)
    await cache.set_many({"k": 1, "l": 1}, tags=["t"])
    await until(lambda: hits_near(cache, "k"))
    await until(lambda: hits_near(cache, "l"))
    if change == "delete":
        await theirs.delete("k")
    elif change == "set":
        await theirs.set("k", None)
    elif change == "tags":
        await theirs.invalidate_tags("t")
    elif change == "outer":
        await other.cache("v", ttl=60, versioned=True).clear()
    elif change == "raw":
        await other.execute("DEL", f"{prefix}v:w:k")
    else:
        await other.execute("DEL", f"{prefix}v:#version")

    async def gone():
        return await cache.get("k") is None

    await until(gone)
    assert (await cache.get("l") is None) == (change in ("tags", "outer", "version"))


async def test_a_flush_drops_everything(either, other, cache):
    await other.execute("FLUSHALL")

    async def gone():
        return await cache.get("k") is None

    await until(gone)


async def test_a_lost_connection_drops_everything_and_near_works_again(either, other, cache, prefix):
    wrapped = getattr(cache, "wrapped", cache)
    store = getattr(wrapped, "_core", wrapped)._near.store
    await other.execute("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    await until(lambda: not store.held)
    await other.execute("SET", f"{prefix}n:k", "2")

    async def changed():
        return await cache.get("k") == 2

    await until(changed)
    await until(lambda: hits_near(cache, "k"))
    assert await cache.get("k") == 2


async def test_no_value_outlives_the_servers_ttl(either, cache, prefix):
    await either.execute("SET", f"{prefix}n:short", "1", "PX", 150)
    assert await cache.get("short") == 1
    assert await cache.get("short") == 1
    wrapped = getattr(cache, "wrapped", cache)
    held = getattr(wrapped, "_core", wrapped)._near.store.held[f"{prefix}n:short"]
    assert held.until <= time.monotonic() + 0.15
    await asyncio.sleep(0.16)
    assert await cache.get("short") is None


async def test_mutable_values_are_not_shared_and_frozen_ones_are(either):
    lists = either.cache("lists", ttl=60, near=10)
    await lists.set("k", [1])
    await until(lambda: hits_near(lists, "k"))
    first = await lists.get("k")
    first.append(2)
    (await lists.get_many(["k"]))["k"].append(3)
    (await lists.get_or_set("k", list)).append(4)
    assert await lists.get("k") == [1]
    points = either.cache("points", type=Point, ttl=60, near=10)
    await points.set("k", Point(1, 2))
    await until(lambda: hits_near(points, "k"))
    assert await points.get("k") is await points.get("k")


async def test_it_is_bounded(either):
    cache = either.cache("bound", ttl=60, near=10)
    small = either.cache("small", ttl=60, near="4kb")
    await cache.set_many(dict.fromkeys(map(str, range(100)), 1))
    await small.set_many(dict.fromkeys(map(str, range(100)), "x" * 100))
    await small.set("huge", "x" * 5000)
    await asyncio.sleep(0.1)
    for one in (cache, small):
        for number in range(100):
            assert await one.get(number)
        await one.get_many(map(str, range(100)))
        await one.get("huge")
        wrapped = getattr(one, "wrapped", one)
        store = getattr(wrapped, "_core", wrapped)._near.store
        assert store.entries <= 10
        assert one is cache or store.bytes <= 4096
    for bad in (0, -1, True, "0", "many", 1.5):
        with pytest.raises(SettingsError, match="near="):
            either.cache("bad", near=bad)


@pytest.mark.parametrize("key", ["", "a\nb", None, True, 1.5])
async def test_a_key_that_is_none_finds_nothing(either, cache, key):
    for held in ("True", "1.5", "None"):
        await cache.set(held, 1)
        await until(lambda held=held: hits_near(cache, held))
    with pytest.raises(Exception, match="key"):
        await cache.get(key)


async def test_escaped_keys_find_their_own(cache):
    await cache.set("#k", "one")
    await cache.set("##k", "two")
    for _ in range(3):
        assert await cache.get("#k") == "one"
        assert await cache.get("##k") == "two"


# an own change while a read is under way, at each of its steps


@pytest.mark.parametrize("when", ["before it is sent", "after the reply", "after it was judged"])
@pytest.mark.parametrize("change", ["delete", "set", "tags", "clear"])
async def test_a_read_under_way_never_brings_back_what_was_changed(bay, monkeypatch, when, change):
    cache = bay.cache("r", ttl=60, near=100, versioned=True)
    await cache.set("k", "old", tags=["t"])
    reached, go = asyncio.Event(), asyncio.Event()
    port = cache._port
    track, judged = port.track, cache._judged

    async def slow_track(key, commands, **options):
        if commands[0][0] != "get":
            return await track(key, commands, **options)
        if when == "before it is sent":
            reached.set()
            await go.wait()
        result = await track(key, commands, **options)
        if when == "after the reply":
            reached.set()
            await go.wait()
        return result

    async def slow_judged(*args, **options):
        seen = await judged(*args, **options)
        if when == "after it was judged":
            reached.set()
            await go.wait()
        return seen

    with monkeypatch.context() as patch:
        patch.setattr(port, "track", slow_track)
        patch.setattr(cache, "_judged", slow_judged)
        reading = asyncio.create_task(cache.get("k"))
        await reached.wait()
        if change == "delete":
            await cache.delete("k")
        elif change == "set":
            await cache.set("k", "new")
        elif change == "tags":
            await cache.invalidate_tags("t")
        else:
            await cache.clear()
        go.set()
        await reading
    expected = "new" if change == "set" else None
    for _ in range(3):
        assert await cache.get("k") == expected
        assert await cache.get_many(["k"]) == ({} if expected is None else {"k": expected})


@pytest.mark.parametrize("step", ["sent", "acknowledged"])
async def test_a_whole_read_within_a_change_is_not_kept(bay, monkeypatch, step):
    cache = bay.cache("r", ttl=60, near=100)
    await cache.set("k", "old")
    execute = cache._execute

    async def with_a_read(*args, **options):
        if step == "sent":
            assert await cache.get("k") == "old"
        result = await execute(*args, **options)
        if step == "acknowledged":
            await cache.get("k")
        return result

    monkeypatch.setattr(cache, "_execute", with_a_read)
    await cache.delete("k")
    monkeypatch.undo()
    assert await cache.get("k") is None


# where nobody tells


@pytest.mark.parametrize("kind", [Kind("redis", "asyncio", protocol=3), Kind("redis", "threads", protocol=2)], ids=str)
async def test_over_a_client_of_ones_own_it_is_off_and_that_is_reported(url, prefix, kind):
    events = []
    client = kind.client(url)
    kind_of = AsyncForebay if kind.colour == "asyncio" else Forebay
    bay = kind_of(client=client, prefix=prefix, on_event=events.append)
    bay = bay if kind_of is AsyncForebay else Either(bay)
    try:
        cache = bay.cache("n", ttl=60, near=100)
        assert [type(event) for event in events] == [NearTierOff]
        await cache.set("k", 1)
        assert await cache.get("k") == 1
        assert cache.stats().near_hits == 0
        with pytest.raises(SettingsError, match="wire"):
            getattr(cache, "wrapped", cache).on_invalidated(print)
    finally:
        await bay.close()
        await ended(client)


FORK = """
import os, sys, time
from forebay import Forebay
bay = Forebay(sys.argv[1], prefix=sys.argv[2]).connect()
cache = bay.cache("n", ttl=60, near=100)
cache.set("k", "old")
def near(value):
    limit = time.monotonic() + 10
    while time.monotonic() < limit:
        before = cache.stats().near_hits
        if cache.get("k") == value and cache.stats().near_hits > before:
            return True
        time.sleep(0.005)
assert near("old")
child = os.fork()
if child == 0:
    code = 3
    try:
        cache.set("k", "new")
        code = 0 if cache.get("k") == "new" and near("new") else 2
        bay.close()
    finally:
        os._exit(code)
code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
print(code, near("new"))
bay.close()
"""


def test_a_forked_child_has_a_near_tier_of_its_own(url, prefix):
    done = subprocess.run([sys.executable, "-c", FORK, url, prefix], capture_output=True, text=True, check=False, timeout=15)
    assert done.stdout == "0 True\n", done.stdout + done.stderr

"""``near_strict``: once an invalidation has returned, no process serves what it removed, whatever has become of the process."""

import asyncio
import contextlib
import signal
import subprocess
import sys
import threading

import pytest

from forebay import AsyncForebay, Forebay, SettingsError

OPTIONS = {"ttl": 60, "near": 100, "near_strict": True}
MEMBER = """
import sys
from forebay import Forebay
url, prefix = sys.argv[1:]
bay = Forebay(url, prefix=prefix).connect()
cache = bay.cache("c", ttl=60, near=100, near_strict=True)
while not cache.stats().near_hits:
    assert cache.get("k") == "old"
print("near", flush=True)
for line in sys.stdin:
    print(cache.get("k"), flush=True)
"""


async def held_by(cache, key, value):
    """Read until *cache* serves *key* from its near tier."""
    before = cache.stats().near_hits
    while cache.stats().near_hits == before:
        assert await cache.get(key) == value
        await asyncio.sleep(0.001)


@contextlib.contextmanager
def member_of(url, prefix):
    """Start another process that holds "k" near, says so, and reads it again for each line that it is sent."""
    member = subprocess.Popen([sys.executable, "-c", MEMBER, url, prefix], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with member:
        try:
            yield member
        finally:
            member.kill()


INVALIDATIONS = {
    "delete": lambda cache: cache.delete("k"),
    "tag": lambda cache: cache.invalidate_tags("t"),
    "pattern": lambda cache: cache.delete_matching("k*"),
    "clear": lambda cache: cache.clear(),
    "mark stale": lambda cache: cache.mark_stale("k"),
}


@pytest.mark.parametrize("how", INVALIDATIONS.values(), ids=INVALIDATIONS)
@pytest.mark.parametrize("versioned", [False, True], ids=["bare", "versioned"])
async def test_when_an_invalidation_returns_no_other_near_tier_serves(make_either, url, prefix, how, versioned):
    bays = [make_either(url, prefix=prefix) for _ in range(3)]
    writer, *readers = [bay.cache("c", versioned=versioned, stale_while_revalidate=10, **OPTIONS) for bay in bays]
    for round_ in range(20):
        await writer.set("k", round_, tags=["t"])
        for reader in readers:
            await held_by(reader, "k", round_)
        await how(writer)
        assert [await reader.get("k") for reader in readers] == [None, None]


async def test_an_outer_namespace_is_heard_in_the_inner(make_either, url, prefix):
    outer = make_either(url, prefix=prefix).cache("shop", near_strict=True, versioned=True)
    inner = make_either(url, prefix=prefix).cache("shop:user", versioned=True, **OPTIONS)
    for round_ in range(20):
        await inner.set("k", round_)
        await held_by(inner, "k", round_)
        await outer.clear()
        assert await inner.get("k") is None


async def test_who_is_stopped_is_waited_for_and_serves_nothing_when_it_goes_on(url, prefix):
    async with AsyncForebay(url, prefix=prefix) as bay:
        cache = bay.cache("c", ttl=60, near_strict=True)
        await cache.set("k", "old")
        with member_of(url, prefix) as member:
            assert await asyncio.to_thread(member.stdout.readline) == "near\n"
            member.send_signal(signal.SIGSTOP)
            assert await asyncio.wait_for(cache.delete("k"), 10) == 1
            await cache.set("k", "new")
            member.stdin.write("read\n")
            member.stdin.flush()
            member.send_signal(signal.SIGCONT)
            assert await asyncio.to_thread(member.stdout.readline) == "new\n"


async def test_who_was_killed_is_waited_for_no_longer_than_its_lease(url, prefix):
    async with AsyncForebay(url, prefix=prefix) as bay:
        cache = bay.cache("c", ttl=60, near_strict=True)
        await cache.set("k", "old")
        with member_of(url, prefix) as member:
            assert await asyncio.to_thread(member.stdout.readline) == "near\n"
            member.kill()
            assert await asyncio.wait_for(cache.delete("k"), 10) == 1
        assert 0 < await bay.execute("PTTL", f"{prefix}#near:c") <= 10_000


async def test_who_left_is_not_waited_for(make_either, url, prefix):
    cache = make_either(url, prefix=prefix).cache("c", **OPTIONS)
    leaver = make_either(url, prefix=prefix)
    other = leaver.cache("c", **OPTIONS)
    await cache.set("k", 1)
    await held_by(other, "k", 1)
    await leaver.close()
    members = await make_either(url).execute("ZCARD", f"{prefix}#near:c")
    assert members <= 1  # the writer itself, if it has read


async def test_a_member_whose_connection_was_cut_serves_nothing_until_it_listens_again(make_either, url, prefix):
    writer = make_either(url, prefix=prefix).cache("c", **OPTIONS)
    bay = make_either(url, prefix=prefix)
    reader = bay.cache("c", **OPTIONS)
    for round_ in range(5):
        await writer.set("k", round_)
        await held_by(reader, "k", round_)
        await bay.execute("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await writer.delete("k")
        assert await reader.get("k") is None


async def test_a_cluster_is_refused_by_name(prefix):
    bay = Forebay("redis+cluster://127.0.0.1:1", prefix=prefix, required=False)
    with pytest.raises(SettingsError, match="near_strict of cache 'c'"):
        bay.cache("c", near_strict=True)


async def test_many_invalidations_at_once(make_either, url, prefix):
    writer = make_either(url, prefix=prefix).cache("c", **OPTIONS)
    readers = [make_either(url, prefix=prefix).cache("c", **OPTIONS) for _ in range(2)]
    keys = [f"k{n}" for n in range(50)]
    await writer.set_many(dict.fromkeys(keys, "old"))
    for reader in readers:
        await held_by(reader, "k0", "old")
        await reader.get_many(keys)
    await asyncio.gather(*(writer.delete(key) for key in keys))
    for reader in readers:
        assert await reader.get_many(keys) == {}


def test_threads_that_invalidate_while_others_read(url, prefix):
    database = {"k": 0}
    behind = []
    over = threading.Event()
    with Forebay(url, prefix=prefix) as one, Forebay(url, prefix=prefix) as two:
        writer, reader = one.cache("c", **OPTIONS), two.cache("c", **OPTIONS)
        acknowledged = [0]

        def read():
            while not over.is_set():
                least = acknowledged[0]
                value = reader.get_or_set("k", lambda: database["k"])
                if value < least:
                    behind.append((value, least))

        threads = [threading.Thread(target=read) for _ in range(3)]
        for thread in threads:
            thread.start()
        for step in range(1, 200):
            database["k"] = step
            writer.delete("k")
            acknowledged[0] = step
        over.set()
        for thread in threads:
            thread.join()
        assert behind == []
        assert reader.stats().near_hits > 0

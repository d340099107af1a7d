"""A near tier, tags and leases across a change of primary: what was invalidated before or after it is served by nobody."""

import asyncio

from tests.patience import served_again
from tests.server.test_near import until


async def held_near(cache, key):
    before = cache.stats().near_hits
    await cache.get(key)
    return cache.stats().near_hits > before


async def test_what_is_invalidated_after_a_failover_is_gone_everywhere(sentinels, make_either, prefix):
    one, two = (make_either(sentinels.url, prefix=prefix).cache("c", ttl=600, near=10) for _ in range(2))
    await one.set("k", "old", tags=["t"])
    await one.set("l", "old")
    for cache in (one, two):
        for key in ("k", "l"):
            await until(lambda cache=cache, key=key: held_near(cache, key))
    await asyncio.to_thread(sentinels.failover)
    await served_again(lambda: one.invalidate_tags("t"))
    await served_again(lambda: one.delete("l"))
    assert await one.get_many(["k", "l"]) == {}
    for key in ("k", "l"):
        assert await two.get_or_set(key, lambda: "new") in ("old", "new")  # its connection may learn of it only now

        async def new(key=key):
            return await two.get_or_set(key, lambda: "new") == "new"

        await until(new)
        assert await one.get_or_set(key, lambda: "new") == "new"

"""Readers with a near tier in both colours, one writer, and connections that are killed: at the end nobody holds anything old."""

import asyncio
import random
import threading

from forebay import AsyncForebay, Forebay
from tests.server.test_near import until

KEYS = [f"k{number}" for number in range(20)]


async def test_nothing_stale_remains(url, prefix):
    chance = random.Random(7)
    database = dict.fromkeys(KEYS, 0)
    over = threading.Event()
    behind: list[str] = []
    options = {"ttl": 60, "near": 15, "versioned": True}

    def tags_of(value):
        return [f"parity:{value % 2}", "all"]

    async with AsyncForebay(url, prefix=prefix) as one, AsyncForebay(url, prefix=prefix) as two, AsyncForebay(url, prefix=prefix) as writer:
        readers = [bay.cache("c", **options) for bay in (one, two)]
        plain = writer.cache("c", ttl=60, versioned=True)

        async def read(cache):
            while not over.is_set():
                for key in chance.sample(KEYS, 5):
                    await cache.get_or_set(key, lambda key=key: database[key], tags=tags_of)
                await cache.get_many(KEYS)
                await asyncio.sleep(0)

        with Forebay(url, prefix=prefix) as blocking:
            theirs = blocking.cache("c", **options)

            def read_blocking():
                try:
                    while not over.is_set():
                        for key in KEYS:
                            theirs.get_or_set(key, lambda key=key: database[key], tags=tags_of)
                        theirs.get_many(KEYS)
                except Exception as error:  # noqa: BLE001 - it fails the test
                    behind.append(repr(error))

            thread = threading.Thread(target=read_blocking)
            thread.start()
            tasks = [asyncio.create_task(read(cache)) for cache in readers]
            for step in range(150):
                key = chance.choice(KEYS)
                old = database[key]
                database[key] = step
                while True:
                    try:
                        if step % 10 == 0:
                            await plain.clear()
                        elif step % 3:
                            await plain.delete(key)
                        else:
                            await plain.invalidate_tags(f"parity:{old % 2}")
                        break
                    except Exception:  # noqa: BLE001 - its own connection was killed: again, until it is acknowledged
                        await asyncio.sleep(0.01)
                if step % 25 == 10:
                    await writer.execute("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
                await asyncio.sleep(0.005)
            over.set()
            await asyncio.gather(*tasks)
            await asyncio.to_thread(thread.join)
            assert behind == []

            def stale():
                for cache in (theirs._core, *readers):
                    for held in list(cache._near.store.held.values()):
                        if cache._may_use(held):
                            key = held.name.rpartition(":")[2]
                            value = cache._value_of(held, held.name)
                            if value != database[key]:
                                yield key, value, database[key], cache

            await until(lambda: not list(stale()), 2)
            for cache in (*readers, theirs):
                found = await cache.get_many(KEYS) if cache is not theirs else cache.get_many(KEYS)
                assert {key: database[key] for key in found} == found
                assert cache.stats().near_hits > 0

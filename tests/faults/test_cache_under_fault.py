"""The cache while its server is stopped, full, failing over, or has forgotten: it answers, and never with what was invalidated."""

import os
import signal
import threading

import pytest

from forebay import AsyncForebay, EmbeddedServer, Forebay, ServerError, Settings, Unavailable
from tests.patience import served_again

BUDGET = 0.05


@pytest.fixture
def own():
    """A server that may be stopped and filled."""
    with EmbeddedServer(port=0) as server:
        yield server


def process_of(server):
    with Forebay(server.url) as bay:
        info = bay.execute("INFO", "server").decode()
    return int(next(line for line in info.splitlines() if line.startswith("process_id:")).split(":")[1])


async def test_a_stopped_server_costs_the_budget_and_then_nothing(make_either, own, prefix):
    bay = make_either(f"{own.url}?cache_budget=50ms", prefix=prefix)
    cache = bay.cache("c", ttl=60)
    await cache.set("k", "old")
    process = process_of(own)
    os.kill(process, signal.SIGSTOP)
    try:
        for number in range(30):
            assert await cache.get_or_set("k", lambda number=number: number) == number
        states = {node.breaker for node in bay.stats().wire.nodes}
        assert states & {"open", "half-open"}, "the breaker has learnt"
        with pytest.raises(Unavailable):
            await cache.delete("k")
    finally:
        os.kill(process, signal.SIGCONT)
    await served_again(lambda: cache.delete("k"))
    assert await cache.get("k") is None
    assert await cache.get_or_set("k", lambda: "new") == "new"


async def test_a_full_server_that_evicts_forgets_and_never_lies(make_either, own, prefix):
    """Versions of tags go too: what depended on them is dead, and does not rise when they are made anew."""
    bay = make_either(own.url, prefix=prefix)
    await bay.execute("CONFIG", "SET", "maxmemory-policy", "allkeys-random")
    cache = bay.cache("c", ttl=600, versioned=True)
    await cache.set_many({f"k{n}": ["old", n] for n in range(200)}, tags=["t"])
    await cache.invalidate_tags("t")
    used = int(
        dict(line.split(":", 1) for line in (await bay.execute("INFO", "memory")).decode().splitlines() if ":" in line)["used_memory"]
    )
    await bay.execute("CONFIG", "SET", "maxmemory", used + 300_000)
    filler = bay.cache("filler", ttl=600)
    for number in range(60):
        await filler.set(number, "x" * 10_000)
        found = await cache.get_many([f"k{n}" for n in range(200)])
        assert found == {}, "what was invalidated stays so, whatever was evicted"
        value = await cache.get_or_set("fresh", lambda number=number: ["new", number], tags=["t"])
        assert value[0] == "new"
    evicted = dict(line.split(":", 1) for line in (await bay.execute("INFO", "stats")).decode().splitlines() if ":" in line)["evicted_keys"]
    assert int(evicted) > 0
    await bay.execute("DEL", f"{prefix}c:#version", f"{prefix}c:#tag:t")
    assert await cache.get_many(["fresh", "k1"]) == {}


async def test_a_full_server_that_refuses_writes_still_lets_loaders_answer(make_either, own, prefix):
    events = []
    bay = make_either(own.url, prefix=prefix, on_event=events.append)
    cache = bay.cache("c", ttl=600)
    await cache.set("there", 1)
    await bay.execute("CONFIG", "SET", "maxmemory", 1)
    assert await cache.get("there") == 1
    assert await cache.get_or_set("k", lambda: 2) == 2
    await cache.set("k", 3)
    assert await cache.get("k") is None
    assert events, "that nothing was stored is reported"
    assert await cache.delete("there") == 1, "an invalidation needs no memory"
    assert await cache.get("there") is None
    with pytest.raises((Unavailable, ServerError)):
        await cache.add("k", 1)
    await bay.execute("CONFIG", "SET", "maxmemory", 0)
    assert await cache.get_or_set("k", lambda: 4) == 4
    assert await cache.get("k") == 4


async def test_everything_emptied_while_a_value_is_loaded(make_either, own, prefix):
    bay = make_either(own.url, prefix=prefix)
    cache = bay.cache("c", ttl=600, near=10, stale_if_error=600)

    def load():
        with Forebay(own.url) as other:
            other.execute("FLUSHALL")
        return "loaded before"

    assert await cache.get_or_set("k", load) == "loaded before"
    assert cache.stats().refused_fills == 1
    assert await cache.get("k") is None
    assert await cache.get_or_set("k", lambda: "loaded after") == "loaded after"


def test_two_writers_in_the_same_instant_leave_one_of_the_two_values(url, prefix):
    """`set` is the last writer's; a reader sees one of the two, and in the end every process the same."""
    bays = [Forebay(url, prefix=prefix) for _ in range(2)]
    caches = [bay.cache("c", ttl=60, near=10) for bay in bays]
    both = threading.Barrier(2)
    for round_ in range(100):

        def write(number, round_=round_):
            both.wait()
            caches[number].set("k", [round_, number])

        threads = [threading.Thread(target=write, args=(number,)) for number in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with Forebay(url, prefix=prefix) as fresh:
            stored = fresh.cache("c").get("k")
        assert stored[0] == round_
        for cache in caches:  # a near tier may lag for as long as the message travels, and no longer
            while (seen := cache.get("k")) != stored:
                assert seen in ([round_, 0], [round_, 1])
    for bay in bays:
        bay.close()


async def test_the_budget_is_that_of_the_settings():
    assert Settings.from_url("redis://localhost?cache_budget=50ms").cache_budget == BUDGET
    async with AsyncForebay("embedded://") as bay:
        assert await bay.cache("c", ttl=1).get_or_set("k", lambda: 1) == 1

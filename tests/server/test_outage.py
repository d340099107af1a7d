"""With the server away: reads miss and are reported, loaders are used, invalidations and add fail loudly."""

import logging

import pytest

from forebay import CacheMiss, EmbeddedServer, ReadFailed, Unavailable, WriteFailed


@pytest.fixture
def away():
    """The URL of a server that was there and is gone."""
    with EmbeddedServer(port=0) as server:
        url = server.url
    return url


@pytest.fixture
def events():
    return []


@pytest.fixture
async def bay(make_either, away, events):
    return await make_either(away, required=False, on_event=events.append).connect()


async def test_reads_answer_as_a_miss_and_report(bay, events):
    cache = bay.cache("user", ttl=60)
    assert await cache.get(1) is None
    assert await cache.get(1, "default") == "default"
    assert await cache.get_many([1, 2]) == {}
    assert await cache.exists(1) is False
    assert await cache.ttl(1) is None
    with pytest.raises(CacheMiss):
        await cache.fetch(1)
    assert [(type(event), event.operation) for event in events] == [
        (ReadFailed, operation) for operation in ("get", "get", "get_many", "exists", "ttl", "get")
    ]
    assert bay.stats().reported == {"ReadFailed": 6}
    assert cache.stats().errors == 6


async def test_writes_report_and_the_loader_is_used(bay, events):
    cache = bay.cache("user", ttl=60)
    await cache.set(1, "a")
    await cache.set_many({1: "a"})
    assert await cache.get_or_set(1, lambda: "loaded") == "loaded"
    assert [(type(event), event.operation) for event in events] == [
        (WriteFailed, "set"),
        (WriteFailed, "set_many"),
        (ReadFailed, "get_or_set"),
    ]


async def test_invalidations_and_add_fail_loudly(bay, events):
    cache = bay.cache("user", ttl=60)
    for call in (
        lambda: cache.delete(1),
        lambda: cache.delete_matching("*"),
        lambda: cache.clear(),
        lambda: cache.add(1, 1),
        lambda: cache.expire(1, 5),
        lambda: cache.expire(1, None),
    ):
        with pytest.raises(Unavailable, match="127.0.0.1"):
            await call()
    assert events == []


async def test_on_outage_raise_makes_all_raise(bay):
    cache = bay.cache("user", ttl=60, on_outage="raise")
    for call in (
        lambda: cache.get(1),
        lambda: cache.fetch(1),
        lambda: cache.get_many([1]),
        lambda: cache.exists(1),
        lambda: cache.ttl(1),
        lambda: cache.set(1, 1),
        lambda: cache.set_many({1: 1}),
        lambda: cache.get_or_set(1, lambda: pytest.fail("loaded")),
    ):
        with pytest.raises(Unavailable):
            await call()


async def test_usage_errors_are_told_also_then(bay):
    cache = bay.cache("user", ttl=60)
    with pytest.raises(ValueError, match="empty"):
        await cache.get("")
    with pytest.raises(ValueError, match="type="):
        await cache.set(1, (1, 2))


async def test_the_log_is_not_flooded(bay, caplog):
    cache = bay.cache("user", ttl=60)
    with caplog.at_level(logging.WARNING, "forebay"):
        for _ in range(50):
            await cache.get(1)
    assert 1 <= len(caplog.records) <= 3
    assert bay.stats().reported == {"ReadFailed": 50}


async def test_a_full_server_reads_and_reports_what_it_cannot_store(make_either, events):
    with EmbeddedServer(port=0, options=["--maxmemory-policy", "noeviction"]) as server:
        bay = make_either(server.url, on_event=events.append)
        await bay.execute("CONFIG", "SET", "maxmemory", 1)
        cache = bay.cache("user", ttl=60)
        assert await cache.get_or_set(1, lambda: "loaded") == "loaded"
        await cache.set(2, "x")
        assert await cache.get(2) is None
        with pytest.raises(Unavailable, match="OOM"):
            await cache.add(3, 1)
        assert await cache.delete(1) == 0
        assert [type(event) for event in events] == [WriteFailed, WriteFailed]


async def test_a_server_that_will_not_serve_yet_is_away(make_either, events):
    with EmbeddedServer(port=0) as server:
        bay = make_either(server.url, on_event=events.append)
        await bay.execute("CONFIG", "SET", "min-replicas-to-write", 1)
        cache = bay.cache("user", ttl=60)
        assert await cache.get_or_set(1, lambda: "loaded") == "loaded"
        with pytest.raises(Unavailable, match="NOREPLICAS"):
            await cache.delete(1)
        assert [type(event) for event in events] == [WriteFailed]

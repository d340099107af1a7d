"""What a hook hears of caches at work, record by record in both colours; and that the records add up to the counts."""

import asyncio
import functools
import logging
import sys
import threading
import time

import pytest

from forebay import (
    AsyncCache,
    CallbackFailed,
    FillRefused,
    Forebay,
    Hit,
    Invalidated,
    Loaded,
    LoadFailed,
    Miss,
    ReadFailed,
    Refreshed,
    RefreshFailed,
    StaleServed,
    Unavailable,
)
from forebay.cache.entry import placeholder
from tests.either import Either
from tests.proxy import Refuse, proxy_to
from tests.server.test_near import until

NAME = "c"


class Notes:
    """What both hooks heard."""

    def __init__(self):
        self.records = []
        self.events = []

    def of(self, kind):
        return [record for record in self.records if isinstance(record, kind)]

    def taken(self):
        """Return the records since the last call, with the times that cannot be foretold set to 0.5."""
        seconds = [record.seconds for record in self.records if isinstance(record, Loaded | LoadFailed)]
        assert all(0 <= one < 30 for one in seconds)
        taken = [shown(record) for record in self.records]
        self.all = [*getattr(self, "all", ()), *self.records]
        self.records.clear()
        return taken


def shown(record):
    """Return *record* without its namespace and its time."""
    assert record.namespace == NAME
    assert not isinstance(record, Invalidated) or type(record.count) in (int, type(None))
    fields = {name: getattr(record, name) for name in record.__struct_fields__ if name not in ("namespace", "seconds")}
    return type(record).__name__, *fields.values()


def hit(operation, key, *, near=False, stale=False):
    return "Hit", operation, key, near, stale


def miss(operation, key):
    return "Miss", operation, key


def loaded(operation, *keys, kind="Loaded"):
    return kind, operation, keys


@pytest.fixture
def notes():
    return Notes()


@pytest.fixture
async def heard(make_either, url, prefix, notes):
    """A bay with both hooks. At the end its counts are those of its records."""
    bay = await make_either(url, prefix=prefix, on_event=notes.events.append, on_operation=notes.records.append).connect()
    yield bay
    await bay.close()
    notes.taken()
    notes.records = notes.all
    stats = bay.stats().caches.get(NAME)
    if stats is not None:
        hits = notes.of(Hit)
        assert (stats.hits, stats.near_hits, stats.stale) == (len(hits), sum(one.near for one in hits), sum(one.stale for one in hits))
        assert (stats.misses, stats.loads) == (len(notes.of(Miss)), len(notes.of(Loaded)))
        assert (stats.load_errors, stats.refused_fills) == (len(notes.of(LoadFailed)), len(notes.of(FillRefused)))


@pytest.fixture
def eraser(url, prefix):
    """Somebody else, who changes things while a loader runs."""
    with Forebay(url, prefix=prefix) as bay:
        yield bay.cache(NAME, ttl=60)


async def until_let_go(bay, name):
    """Wait until the lease of a load that failed is given back, which happens behind the caller's back."""

    async def is_free():
        data = await bay.execute("GET", name)
        return data is None or not any(data[1:9])  # the token, at the same place in a placeholder and in a value

    await until(is_free)


def fails():
    raise ZeroDivisionError("no database")


async def test_plain_reads(heard, notes):
    cache = heard.cache(NAME, ttl=60)
    await cache.set("k", 1)
    assert await cache.get("k") == await cache.fetch("k") == 1
    assert await cache.get(2, "default") == "default"
    assert await cache.get_many([2, "k", 3, "k"]) == {"k": 1}
    assert await cache.exists("k")
    assert await cache.ttl("k") > 0
    assert notes.taken() == [
        hit("get", "k"),
        hit("get", "k"),
        miss("get", 2),
        hit("get_many", "k"),
        miss("get_many", 2),
        miss("get_many", 3),
    ]


@pytest.mark.parametrize("kind", [int, dict], ids=["shared", "decoded"])
async def test_near_hits_are_said_to_be_near_by_every_read(heard, notes, kind):
    cache = heard.cache(NAME, type=kind, ttl=60, near=10)
    value = kind()
    await cache.set("k", value)
    limit = time.monotonic() + 5
    while not any(record.near for record in notes.of(Hit)):
        assert await cache.get("k") == value
        assert time.monotonic() < limit
    notes.taken()
    assert await cache.get("k") == await cache.get_or_set("k", fails) == value
    assert await cache.get_many(["k", "l"]) == {"k": value}
    assert await cache.get_or_set_many(["k"], fails) == {"k": value}
    near = [hit(operation, "k", near=True) for operation in ("get", "get_or_set", "get_many", "get_or_set_many")]
    assert notes.taken() == [*near[:3], miss("get_many", "l"), near[3]]


async def test_a_miss_a_load_and_a_hit(heard, notes):
    cache = heard.cache(NAME, ttl=60)
    assert await cache.get_or_set("k", lambda: 1) == 1
    assert await cache.get_or_set("k", fails) == 1
    assert notes.taken() == [miss("get_or_set", "k"), loaded("get_or_set", "k"), hit("get_or_set", "k")]


async def test_how_long_a_load_took(heard, notes):
    cache = heard.cache(NAME, ttl=60)
    await cache.get_or_set("k", lambda: time.sleep(0.02))
    await cache.get_or_set_many([1, 2], lambda keys: time.sleep(0.02) or dict.fromkeys(keys, 1))
    with pytest.raises(ZeroDivisionError):
        await cache.get_or_set("l", lambda: time.sleep(0.02) or fails())
    times = [record.seconds for record in notes.of(Loaded | LoadFailed)]
    assert len(times) == 3
    assert min(times) >= 0.02


async def test_a_load_that_fails_carries_the_error_that_the_caller_gets(heard, notes, prefix):
    cache = heard.cache(NAME, ttl=60)
    await heard.execute("SCRIPT", "FLUSH", "SYNC")
    with pytest.raises(ZeroDivisionError) as one:
        await cache.get_or_set("k", fails)
    await until_let_go(heard, f"{prefix}{NAME}:k")  # a server that does not know the script yet takes two round trips for that
    with pytest.raises(ZeroDivisionError) as many:
        await cache.get_or_set_many(["k", "l"], lambda keys: fails())
    with pytest.raises(TypeError) as wrong:
        await cache.get_or_set_many(["m"], lambda keys: [1])
    assert notes.taken() == [
        miss("get_or_set", "k"),
        ("LoadFailed", "get_or_set", ("k",), one.value),
        miss("get_or_set_many", "k"),
        miss("get_or_set_many", "l"),
        ("LoadFailed", "get_or_set_many", ("k", "l"), many.value),
        miss("get_or_set_many", "m"),
        ("LoadFailed", "get_or_set_many", ("m",), wrong.value),
    ]
    assert notes.events == []


async def test_of_many_each_key_counts_once_and_the_loader_once(heard, notes):
    cache = heard.cache(NAME, ttl=60)
    await cache.set("b", "there")
    assert await cache.get_or_set_many("abc", lambda keys: dict.fromkeys(keys, "loaded")) == {"a": "loaded", "b": "there", "c": "loaded"}
    name = "get_or_set_many"
    assert notes.taken() == [hit(name, "b"), miss(name, "a"), miss(name, "c"), loaded(name, "a", "c")]


async def test_a_key_that_somebody_else_loads_counts_once_too(heard, notes, prefix):
    cache = heard.cache(NAME, ttl=60)
    await heard.execute("SET", f"{prefix}{NAME}:a", placeholder(b"somebody"), "PX", 200)
    assert await cache.get_or_set_many("ab", lambda keys: dict.fromkeys(keys, 1)) == {"a": 1, "b": 1}
    assert notes.taken() == [
        miss("get_or_set_many", "b"),
        loaded("get_or_set_many", "b"),
        miss("get_or_set", "a"),
        loaded("get_or_set", "a"),
    ]


async def test_many_callers_of_one_load(heard, notes):
    cache = heard.cache(NAME, ttl=60)
    if isinstance(cache, AsyncCache):
        gate = asyncio.Event()

        async def load():
            await gate.wait()
            return 1

        calls = [asyncio.ensure_future(cache.get_or_set("k", load)) for _ in range(5)]
    else:
        gate = threading.Event()
        calls = [asyncio.ensure_future(asyncio.to_thread(cache.wrapped.get_or_set, "k", lambda: gate.wait() and 1)) for _ in range(5)]
    await until(lambda: len(notes.records) == 5)
    gate.set()
    assert await asyncio.gather(*calls) == [1] * 5
    assert notes.taken() == [*[miss("get_or_set", "k")] * 5, loaded("get_or_set", "k")]


async def test_one_who_comes_too_late_and_looks_again_counts_once(heard, notes, monkeypatch):
    cache = heard.cache(NAME, ttl=60)
    core = cache if isinstance(cache, AsyncCache) else cache.wrapped._core

    async def late(load, seen, patience=None):
        await core.set("k", "meanwhile")
        return

    monkeypatch.setattr(core._loading, "share", late)
    assert await cache.get_or_set("k", fails) == "meanwhile"
    assert notes.taken() == [miss("get_or_set", "k")]


@pytest.mark.parametrize("how", ["key", "tag"])
async def test_a_value_whose_key_was_invalidated_meanwhile_is_not_stored(heard, notes, eraser, how):
    cache = heard.cache(NAME, ttl=60)

    def change(key):
        eraser.delete(key) if how == "key" else eraser.invalidate_tags("t")
        return 1

    tags = (lambda value: ["t"]) if how == "tag" else ()
    assert await cache.get_or_set("k", lambda: change("k"), tags=tags) == 1
    assert await cache.get_or_set_many("mn", lambda keys: dict.fromkeys(keys, change("m")), tags=tags) == {"m": 1, "n": 1}
    assert await cache.get("k") is None
    name = "get_or_set_many"
    refused = [("FillRefused", name, key) for key in ("m" if how == "key" else "mn")]
    assert notes.taken() == [
        miss("get_or_set", "k"),
        loaded("get_or_set", "k"),
        ("FillRefused", "get_or_set", "k"),
        miss(name, "m"),
        miss(name, "n"),
        loaded(name, "m", "n"),
        *refused,
        miss("get", "k"),
    ]


async def test_a_stale_hit_and_its_refresh(heard, notes):
    cache = heard.cache(NAME, ttl=60, stale_while_revalidate=60)
    await cache.set("k", "old")
    await cache.mark_stale("k")
    assert await cache.get_or_set("k", lambda: "new") == "old"
    await until(lambda: notes.of(Refreshed))
    assert notes.taken() == [
        ("Invalidated", "mark_stale", ("k",), 1),
        hit("get_or_set", "k", stale=True),
        loaded("refresh", "k", kind="Refreshed"),
    ]
    assert notes.events == []


async def test_a_refresh_that_fails(heard, notes):
    cache = heard.cache(NAME, ttl=60, stale_while_revalidate=60)
    await cache.set("k", "old")
    await cache.mark_stale("k")
    notes.taken()
    assert await cache.get_or_set("k", fails) == "old"
    await until(lambda: notes.events)
    (event,) = notes.events
    assert isinstance(event, RefreshFailed)
    assert notes.taken() == [hit("get_or_set", "k", stale=True), ("LoadFailed", "refresh", ("k",), event.cause)]


async def test_an_early_refresh_serves_what_is_fresh(heard, notes):
    cache = heard.cache(NAME, ttl=60, early_refresh=1e9)
    await cache.get_or_set("k", lambda: time.sleep(0.002) or 1)
    notes.taken()
    assert await cache.get_or_set("k", lambda: 2) == 1
    await until(lambda: notes.of(Refreshed))
    assert notes.taken() == [hit("get_or_set", "k"), loaded("refresh", "k", kind="Refreshed")]


async def test_a_stale_value_in_place_of_a_load_that_failed(heard, notes, prefix):
    cache = heard.cache(NAME, ttl=60, stale_if_error=60)
    await cache.set("k", "old")
    await cache.mark_stale("k")
    notes.taken()
    assert await cache.get_or_set("k", fails) == "old"
    (event,) = notes.events
    assert isinstance(event, StaleServed)
    await until_let_go(heard, f"{prefix}{NAME}:k")
    assert await cache.get_or_set("k", lambda: "new") == "old"  # the loader is left alone for a moment
    assert notes.taken() == [
        ("LoadFailed", "get_or_set", ("k",), event.cause),
        hit("get_or_set", "k", stale=True),
        hit("get_or_set", "k", stale=True),
    ]
    assert notes.events == [event]


async def test_a_stale_value_that_could_be_loaded_anew_is_a_miss(heard, notes):
    cache = heard.cache(NAME, ttl=60, stale_if_error=60)
    await cache.set_many({"k": "old", "l": "old"})
    await cache.mark_stale("k")
    await cache.mark_stale("l")
    notes.taken()
    assert await cache.get_or_set("k", lambda: "new") == "new"
    assert await cache.get_or_set_many("lm", lambda keys: dict.fromkeys(keys, "new")) == {"l": "new", "m": "new"}
    name = "get_or_set_many"
    assert notes.taken() == [loaded("get_or_set", "k"), miss("get_or_set", "k"), miss(name, "m"), loaded(name, "m", "l"), miss(name, "l")]


async def test_stale_values_in_place_of_many(heard, notes):
    cache = heard.cache(NAME, ttl=60, stale_if_error=60)
    await cache.set("k", "old")
    await cache.mark_stale("k")
    notes.taken()
    name = "get_or_set_many"
    with pytest.raises(ZeroDivisionError) as failed:
        await cache.get_or_set_many("kl", lambda keys: fails())
    assert notes.taken() == [miss(name, "l"), ("LoadFailed", name, ("l", "k"), failed.value), miss(name, "k")]
    assert notes.events == []
    await heard.cache(NAME, ttl=60, stale_if_error=60).set("k", "old")
    await cache.mark_stale("k")
    notes.taken()
    assert await cache.get_or_set_many("k", lambda keys: fails()) == {"k": "old"}
    (event,) = notes.events
    assert notes.taken() == [("LoadFailed", name, ("k",), event.cause), hit(name, "k", stale=True)]


async def test_a_stale_value_in_place_of_a_slow_load(heard, notes):
    cache = heard.cache(NAME, ttl=60, stale_if_error=60)
    await cache.set("k", "old")
    await cache.mark_stale("k")
    notes.taken()
    if isinstance(cache, AsyncCache):
        gate = asyncio.Event()

        async def load():
            await gate.wait()
            return "new"
    else:
        gate = threading.Event()

        def load():
            gate.wait()
            return "new"

    assert await cache.get_or_set("k", load, soft_timeout=0.05) == "old"
    assert notes.taken() == [hit("get_or_set", "k", stale=True)]
    assert [type(event) for event in notes.events] == [StaleServed]
    gate.set()
    await until(lambda: notes.records)
    assert notes.taken() == [loaded("get_or_set", "k")]


@pytest.mark.parametrize("versioned", [False, True])
async def test_invalidations(heard, notes, versioned):
    cache = heard.cache(NAME, ttl=60, versioned=versioned)
    await cache.set_many({1: "a", 2: "b", 3: "c"}, tags=["t"])
    assert await cache.delete(1, "x") == 1
    assert await cache.delete() == 0
    assert await cache.mark_stale(2) is True  # without a stale copy to keep it is a delete
    await cache.invalidate_tags("t", "u")
    await cache.invalidate_tags()
    await cache.delete_matching("3*")
    removed = await cache.clear()
    assert notes.taken() == [
        ("Invalidated", "delete", (1, "x"), 1),
        ("Invalidated", "delete", (2,), 1),
        ("Invalidated", "invalidate_tags", ("t", "u"), None),
        ("Invalidated", "delete_matching", ("3*",), 1),
        ("Invalidated", "clear", ("*",), removed),
    ]


async def test_an_invalidation_that_waits_is_told_when_it_was_sent(make_either, server, prefix, notes):
    with proxy_to(server.address()) as proxy:
        bay = await make_either(proxy.url, prefix=prefix, on_operation=notes.records.append).connect()
        cache = bay.cache(NAME, ttl=60, outbox=True)
        await cache.set("k", 1)
        proxy.fault = Refuse()
        assert await cache.delete("k") == 0
        assert notes.taken() == []
        proxy.heal()
        await until(lambda: not bay.stats().pending_invalidations)
        assert notes.taken() == [("Invalidated", "delete", ("k",), 1)]
        await bay.close()


async def test_without_a_server_reads_miss_and_what_failed_is_no_operation(make_either, notes):
    bay = make_either("redis://127.0.0.1:1", required=False, on_event=notes.events.append, on_operation=notes.records.append)
    cache = (await bay.connect()).cache(NAME, ttl=60)
    assert await cache.get("k") is None
    assert await cache.get_or_set("k", lambda: 1) == 1
    assert await cache.get_or_set_many("k", lambda keys: {"k": 1}) == {"k": 1}
    with pytest.raises(Unavailable):
        await cache.delete("k")
    name = "get_or_set_many"
    assert notes.taken() == [
        miss("get", "k"),
        miss("get_or_set", "k"),
        loaded("get_or_set", "k"),
        miss(name, "k"),
        loaded(name, "k"),
    ]
    assert [type(event) for event in notes.events[:2]] == [ReadFailed, ReadFailed]
    assert cache.stats().hit_rate == 0.0
    assert cache.stats().errors == len(notes.events)


async def test_a_hook_that_raises_harms_nobody_and_is_reported(make_either, url, prefix, notes, caplog):
    def hook(record):
        raise ValueError("bad hook")

    bay = await make_either(url, prefix=prefix, on_event=notes.events.append, on_operation=hook).connect()
    cache = bay.cache(NAME, ttl=60)
    with caplog.at_level(logging.WARNING, "forebay"):
        assert await cache.get_or_set("k", lambda: 1) == 1
        assert await cache.get("k") == 1
        assert await cache.delete("k") == 1
    assert [type(event) for event in notes.events] == [CallbackFailed] * 4
    assert [type(event.key) for event in notes.events] == [Miss, Loaded, Hit, Invalidated]
    assert bay.stats().reported == {"CallbackFailed": 4}
    assert caplog.messages == ["a callback of cache 'c' failed: bad hook"]
    assert (cache.stats().hits, cache.stats().misses, cache.stats().errors) == (1, 1, 0)


async def test_what_is_no_hook_is_refused(make_either, url):
    with pytest.raises(TypeError, match="on_operation takes a function of one record, not list"):
        make_either(url, on_operation=[])


def decorated(cache, function, **options):
    """Return *function* behind *cache*, to be awaited with its relatives in both colours."""
    if isinstance(cache, AsyncCache):

        @functools.wraps(function)
        async def awaited(number: int) -> int:
            return function(number)

        return cache.cached(awaited, **options)
    cached = cache.wrapped.cached(function, **options)

    class Awaited(Either):
        async def __call__(self, number):
            return cached(number)

    return Awaited(cached)


async def test_functions(heard, notes):
    cache = heard.cache(NAME, ttl=60)

    def double(number: int) -> int:
        return 2 * number

    cached = decorated(cache, double, key="d:{number}", unless=lambda found: found > 10, condition=lambda number: number >= 0)
    for number in (2, 2, 7, -1):
        assert await cached(number) == 2 * number
    assert notes.taken() == [
        miss("get_or_set", "d:2"),
        loaded("get_or_set", "d:2"),
        hit("get_or_set", "d:2"),
        miss("get_or_set", "d:7"),
        loaded("get_or_set", "d:7"),
    ]
    assert await cached.refresh(2) == 4
    assert await cached.invalidate(2) is True
    assert notes.taken() == [
        ("Invalidated", "delete", ("d:2",), 1),
        miss("get_or_set", "d:2"),
        loaded("get_or_set", "d:2"),
        ("Invalidated", "delete", ("d:2",), 1),
    ]


async def test_batched_reads_are_those_of_many(heard, notes):
    cache = heard.cache(NAME, ttl=60)
    if isinstance(cache, AsyncCache):
        read = cache.batched(lambda keys: dict.fromkeys(keys, 1))
        assert await asyncio.gather(read("a"), read("a"), read("b")) == [1, 1, 1]
    else:
        read = cache.wrapped.batched(lambda keys: dict.fromkeys(keys, 1))
        assert read.many("aab") == {"a": 1, "b": 1}
    name = "get_or_set_many"
    assert notes.taken() == [miss(name, "a"), miss(name, "b"), loaded(name, "a", "b")]


async def test_warming_tells_of_its_loads_and_not_of_its_looks(heard, notes):
    cache = heard.cache(NAME, ttl=60)
    await cache.set(1, "there")
    report = await cache.warm([0, 1, 2], lambda key: key or fails())
    assert (report.loaded, report.skipped, report.failed) == (1, 1, 1)
    taken = notes.taken()
    assert sorted(record[:3] for record in taken) == [("LoadFailed", "get_or_set_many", (0,)), ("Loaded", "get_or_set_many", (2,))]


@pytest.mark.parametrize("near", [None, 10], ids=["far", "near"])
async def test_the_counts_are_the_same_whether_somebody_listens_or_not(make_either, url, prefix, near):
    found = []
    for hook in (None, lambda record: None):
        bay = await make_either(url, prefix=f"{prefix}{hook is None}", on_operation=hook).connect()
        cache = bay.cache(NAME, ttl=60, near=near, stale_if_error=60)
        plain = bay.cache(NAME, ttl=60)
        await plain.set_many({"a": 1, "b": 2})
        await plain.get("a"), await plain.get("z"), await plain.get_many("abyz"), await plain.get_or_set("a", fails)
        await plain.get_or_set("n", lambda: 1), await plain.get_or_set_many("abm", lambda keys: dict.fromkeys(keys, 1))
        await bay.execute("LPUSH", f"{prefix}{hook is None}{NAME}:list", "x")
        await plain.get("list"), await plain.get_many(["list", "a"]), await plain.get_or_set("list", lambda: 1)
        await cache.set("s", 1), await cache.mark_stale("s")
        await cache.get("s"), await cache.get_many("sz"), await cache.get_or_set("s", fails)
        await cache.invalidate_tags("t"), await cache.get_or_set("t", lambda: 1, tags=["t"]), await cache.get("t")
        stats = cache.stats()
        found.append((stats.hits, stats.misses, stats.stale, stats.loads, stats.load_errors, stats.refused_fills, stats.errors))
        assert bay.stats().caches[NAME] == stats
    assert found[0] == found[1]
    assert all(found[0][:5])


def test_counts_are_exact_with_many_threads(url, prefix):
    records = []
    with Forebay(url, prefix=prefix, on_operation=records.append) as told, Forebay(url, prefix=prefix) as quiet:
        for bay in (told, quiet):
            cache = bay.cache(NAME, ttl=60)
            cache.set_many({"a": 1, "b": 2})

            def work(cache=cache):
                for _ in range(100):
                    cache.get_many("abz")
                    cache.get("a")

            threads = [threading.Thread(target=work) for _ in range(12)]
            interval = sys.getswitchinterval()
            sys.setswitchinterval(1e-6)
            try:
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
            finally:
                sys.setswitchinterval(interval)
            stats = cache.stats()
            assert (stats.hits, stats.misses) == (3600, 1200)
    assert (sum(isinstance(record, Hit) for record in records), len(records)) == (3600, 4800)

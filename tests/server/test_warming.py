"""A cache is filled ahead of its readers: what is loaded, skipped, counted, resumed and given up, in both colours."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from contextlib import aclosing

import pytest

from forebay import (
    AsyncForebay,
    CacheMiss,
    EncodeError,
    Forebay,
    InvalidKey,
    MissingTTL,
    SourceChanged,
    Unavailable,
)
from forebay.cache.pace import Pace
from forebay.cache.rows import Rows
from tests.servers import Node, free_ports

CHILD = """
import os, sys
from forebay import Forebay
url, prefix, log, stop_at = sys.argv[1:]
loads = 0
def load(key):
    global loads
    loads += 1
    if loads == int(stop_at):
        os.kill(os.getpid(), 9)
    with open(log, "a") as lines:
        lines.write(f"{key}\\n")
    return key
with Forebay(url, prefix=prefix) as bay:
    report = bay.cache("user", ttl="1h").warm(range(200), load, checkpoint="nightly", batch=20, concurrency=4)
    print(report.resumed, report.loaded, report.skipped, report.failed, report.done)
"""


@pytest.fixture
def cache(either):
    return either.cache("user", ttl="15m")


def loader_of(cache, seen=None):
    """Return a loader in the colour of *cache*."""

    def load(key):
        if seen is not None:
            seen.append(key)
        return {"id": key}

    async def load_later(key):
        await asyncio.sleep(0)
        return load(key)

    return load if is_sync(cache) else load_later


def is_sync(cache):
    return hasattr(cache, "wrapped")


async def test_missing_keys_are_loaded_and_the_others_skipped(either, cache):
    await cache.set(3, "there")
    seen = []
    report = await cache.warm((key for key in [1, 2, 3, 4, "4", 1]), loader_of(cache, seen))
    assert (report.loaded, report.skipped, report.failed, report.resumed, report.done) == (3, 3, 0, 0, True)
    assert report.handled == 6
    assert report.failures == ()
    assert report.checkpoint is None
    assert sorted(seen) == [1, 2, 4]
    assert await cache.get_many([1, 2, 3, 4]) == {1: {"id": 1}, 2: {"id": 2}, 3: "there", 4: {"id": 4}}
    assert 890 < await cache.ttl(1) <= 900


async def test_what_is_counted(cache):
    await cache.warm(range(5), loader_of(cache))
    await cache.warm(range(10), loader_of(cache))
    stats = cache.stats()
    assert (stats.hits, stats.misses, stats.loads) == (0, 0, 10)


async def test_pairs_are_stored_where_nothing_is(cache):
    await cache.set("b", "there")
    report = await cache.warm(iter([("a", 1), ("b", 2), ("c", None), ("a", 3)]), ttl="1h", batch=2)
    assert (report.loaded, report.skipped, report.failed) == (2, 2, 0)
    assert await cache.get_many("abc") == {"a": 1, "b": "there", "c": None}
    assert 3590 < await cache.ttl("a") <= 3600
    assert (await cache.warm({"d": 4, "e": 5})).loaded == 2
    assert await cache.get("e") == 5
    assert (await cache.warm({"d": 6, "b": 7}, overwrite=True)).loaded == 2
    assert await cache.get_many("bd") == {"b": 7, "d": 6}


async def test_the_later_of_two_pairs_with_one_key_counts_when_overwriting(cache):
    await cache.warm((("k", number) for number in range(100)), overwrite=True, batch=4)
    assert await cache.get("k") == 99


async def test_overwriting_loads_anew(cache):
    await cache.set(1, "old")
    report = await cache.warm([1, 2], loader_of(cache), overwrite=True)
    assert report.loaded == 2
    assert await cache.get(1) == {"id": 1}


async def test_options_of_entries(either):
    cache = either.cache("user")
    with pytest.raises(MissingTTL):
        await cache.warm(range(3), lambda key: pytest.fail("loaded"))
    await cache.warm([1], lambda key: key, ttl="1h", tags=lambda value: [f"team:{value}"])
    assert await cache.get(1) == 1
    await cache.invalidate_tags("team:1")
    assert await cache.get(1) is None
    assert (await cache.warm([1], lambda key: key, ttl="1h", tags=["t"])).loaded == 1, "what was invalidated is no entry"


async def test_a_key_that_fails_never_stops_the_rest(cache):
    def load(key):
        if key % 3 == 0:
            raise LookupError(f"no row {key}")
        return key

    report = await cache.warm(range(99), load, concurrency=4, batch=10)
    assert (report.loaded, report.failed, report.done) == (66, 33, True)
    assert len(report.failures) == 20
    assert all(isinstance(failure.error, LookupError) and str(failure.key) in str(failure.error) for failure in report.failures)
    assert cache.stats().load_errors == 33


async def test_what_cannot_be_a_key_or_a_value_fails_alone(cache):
    report = await cache.warm([("a", 1), ("", 2), (("b",), 3), ("c", {1, 2}), ("d", 4), ("e", b"bytes"), ("f", 6)])
    assert (report.loaded, report.failed) == (3, 4)
    assert {(failure.key, type(failure.error)) for failure in report.failures} == {
        ("", InvalidKey),
        (("b",), InvalidKey),
        ("c", EncodeError),
        ("e", EncodeError),
    }
    assert await cache.get_many("adf") == {"a": 1, "d": 4, "f": 6}
    assert (await cache.warm(["g", "h"], lambda key: {1} if key == "g" else 1)).failed == 1


async def test_an_unavailable_of_the_loader_is_its_own(cache):
    calls = Counter()

    def load(key):
        calls[key] += 1
        raise Unavailable("another server")

    report = await cache.warm([1, 2], load)
    assert (report.failed, set(calls.values())) == (2, {1})


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("text", "a str does not"),
        (5, "a int does not"),
        (lambda: [1], "call it, as in"),
        (["ab"], "item 0 of the source is a str, not a .key, value. pair"),
        ([("a", 1), ("b", 2, 3)], "item 1 of the source is a tuple"),
    ],
    ids=["text", "number", "function", "no-pair", "a-triple"],
)
async def test_what_is_no_source(cache, source, message):
    with pytest.raises(TypeError, match=message):
        await cache.warm(source)


@pytest.mark.parametrize("wrong", [{"concurrency": 0}, {"batch": 0}, {"rate": 0}, {"concurrency": True}], ids=str)
async def test_arguments_that_cannot_be_used(cache, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        await cache.warm([1], lambda key: key, **wrong)
    with pytest.raises(InvalidKey):
        await cache.warm([1], lambda key: key, checkpoint="")


async def test_a_source_is_read_a_batch_at_a_time(cache):
    read, ahead = [0], []

    def source():
        for number in range(1000):
            read[0] += 1
            yield number

    seen = []

    def load(key):
        seen.append(key)
        ahead.append(read[0] - len(seen))
        return key

    assert (await cache.warm(source(), load, batch=40, concurrency=2)).loaded == 1000
    assert max(ahead) <= 60, "two halves under way, and one more read"


async def test_an_error_of_the_source_comes_after_what_was_read_before_it(cache):
    closed = []

    def source():
        try:
            yield from range(30)
            raise ConnectionError("the database went away")
        finally:
            closed.append(True)

    with pytest.raises(ConnectionError, match="database"):
        await cache.warm(source(), lambda key: key, batch=20)
    assert len(await cache.get_many(range(30))) == 30
    assert closed


async def test_progress(cache):
    reports = []
    final = await cache.warm(range(100), lambda key: key, batch=20, on_progress=reports.append, checkpoint="n")
    assert reports[0].handled == 0
    assert reports[-1] == final
    assert [report.done for report in reports].index(True) == len(reports) - 1
    counts = [report.handled for report in reports]
    assert counts == sorted(counts)
    assert counts[-1] == 100

    def stop(report):
        if report.loaded:
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        await cache.warm(range(1000, 2000), lambda key: key, on_progress=stop)


async def test_one_round_trip_asks_for_half_a_batch(either, cache):
    await cache.warm({key: key for key in range(500)})
    before = int((await either.execute("INFO", "commandstats")).decode().partition("cmdstat_mget:calls=")[2].partition(",")[0])
    assert (await cache.warm(range(500), lambda key: pytest.fail("loaded"), batch=200)).skipped == 500
    after = int((await either.execute("INFO", "commandstats")).decode().partition("cmdstat_mget:calls=")[2].partition(",")[0])
    assert after - before == 5


# how many at once, and how fast


async def test_so_many_loads_at_once_and_not_one_more(either, cache):
    most, now, lock = [0], [0], threading.Lock()
    if is_sync(cache):
        barrier = threading.Barrier(4, timeout=30)  # breaks unless four loads are under way together

        def load(key):
            with lock:
                now[0] += 1
                most[0] = max(most[0], now[0])
            barrier.wait()
            with lock:
                now[0] -= 1
            return key
    else:
        barrier = asyncio.Barrier(4)

        async def load(key):
            now[0] += 1
            most[0] = max(most[0], now[0])
            async with asyncio.timeout(30):
                await barrier.wait()
            now[0] -= 1
            return key

    report = await cache.warm(range(40), load, concurrency=4, batch=8)
    assert (report.loaded, report.failed) == (40, 0)
    assert most[0] == 4


async def test_the_rate_holds_for_loads_and_pairs(either, cache, monkeypatch):
    now, lock = [0.0], threading.Lock()
    paces, pauses = [], []

    class Watched(Pace):
        def __init__(self, rate, clock):
            super().__init__(rate, lambda: now[0])
            paces.append(self)

        def turn(self, count=1):
            wait = super().turn(count)
            with lock:
                pauses.append(wait)
            return 0.0  # nobody waits here: the turns are what is looked at

    monkeypatch.setattr("forebay.cache.warmup.Pace", Watched)
    await cache.warm(range(50), lambda key: key, rate=10)
    assert sorted(pauses) == pytest.approx([number / 10 for number in range(50)]), "one tenth of a second apart, from the first on"
    pauses.clear()
    await cache.warm(((f"p{key}", key) for key in range(50)), rate=10)
    asked, booked = pauses[::2], pauses[1::2]  # when to look, and the turns of what is missing
    assert asked == booked == pytest.approx([number / 10 for number in range(50)]), "a tenth of a second's worth at a time"


async def test_a_slow_pace_does_not_hold_up_the_end(either, cache):
    class Enough(Exception):
        pass

    def stop(report):
        if report.seconds > 0.2:
            raise Enough

    with pytest.raises(Enough):
        await cache.warm(range(100), lambda key: key, rate=0.01, on_progress=stop)
    assert not leftovers()


async def test_stale_entries_are_loaded_in_place(either):
    """And not in the background, where neither concurrency nor rate would hold."""
    cache = either.cache("user", ttl="50ms", stale_while_revalidate="1h", stale_if_error="1h")
    await cache.set_many(dict.fromkeys(range(30), "old"))
    await asyncio.sleep(0.1)
    most, now, lock = [0], [0], threading.Lock()

    def load(key):
        if key == 29:
            raise LookupError("gone")
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        threading.Event().wait(0.002)
        with lock:
            now[0] -= 1
        return "new"

    report = await cache.warm(range(30), load, concurrency=2, ttl="1h")
    assert (report.loaded, report.skipped, report.failed) == (29, 0, 1)
    assert most[0] <= 2
    assert isinstance(report.failures[0].error, LookupError)
    assert set((await cache.get_many(range(29))).values()) == {"new"}


async def test_a_warming_is_nobodys_request_and_has_no_budget(make_either, url, prefix):
    """Not a byte of a large batch comes within a budget of 2 ms; a request would go without the cache."""
    bay = await make_either(f"{url}?cache_budget=2ms", prefix=prefix).connect()
    cache = bay.cache("user", ttl="1h")
    pairs = dict.fromkeys(range(200), "x" * 200_000)
    assert (await cache.warm(pairs)).loaded == 200
    assert (await cache.warm(pairs)).skipped == 200
    assert (await cache.warm(range(150, 250), lambda key: key)).loaded == 50


async def test_equal_keys_in_other_clothes_are_one_entry(cache):
    report = await cache.warm([(7, 1), ("7", 2), (7, 3)], overwrite=True)
    assert (report.loaded, report.skipped) == (1, 2)
    assert await cache.get(7) == 3


# sources and loads with await


async def test_async_sources_and_loaders(bay):
    cache = bay.cache("user", ttl=60)

    async def keys():
        for key in range(250):
            await asyncio.sleep(0)
            yield key

    async def pairs():
        for key in range(250, 300):
            yield key, key

    assert (await cache.warm(keys(), lambda key: key, batch=20)).loaded == 250
    assert (await cache.warm(pairs(), batch=20)).loaded == 50
    heard = []

    async def hear(report):
        heard.append(report.done)

    assert (await cache.warm(keys(), on_progress=hear, loader=lambda key: pytest.fail("loaded"))).skipped == 250
    assert heard[-1] is True


def test_threads_take_no_async_source_and_no_async_loader(sync_bay):
    cache = sync_bay.cache("user", ttl=60)

    async def keys():
        yield 1

    async def load(key):
        return key

    with pytest.raises(TypeError, match="async_generator: a sync cache needs a plain iterable"):
        cache.warm(keys(), lambda key: key)
    with pytest.raises(TypeError, match="a sync cache needs a plain function"):
        cache.warm(range(1000), load)
    assert not leftovers()
    assert cache.get_many(range(1000)) == {}


# the race


async def test_a_value_that_is_invalidated_while_it_is_loaded_is_not_stored(either, cache, url, prefix):
    with Forebay(url, prefix=prefix) as other:
        there = other.cache("user", ttl=60)

        def load(key):
            if key == 2:
                there.delete(2)  # somebody commits a change, in another process
            return key

        report = await cache.warm([1, 2, 3], load)
        assert report.loaded == 3
        with pytest.raises(CacheMiss):
            there.fetch(2)
        assert there.get_many([1, 3]) == {1: 1, 3: 3}


# checkpoints


async def test_a_run_that_ended_early_is_gone_on_with(either, cache, prefix):
    seen = []

    def source(last):
        yield from range(last)
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError):
        await cache.warm(source(55), loader_of(cache, seen), checkpoint="nightly", batch=20)
    assert 890 < await either.execute("TTL", f"{prefix}user:#warm:nightly") <= 900, "as long as an entry"
    await cache.delete(*range(55))
    report = await cache.warm(range(100), loader_of(cache, seen), checkpoint="nightly", batch=20)
    assert (report.resumed, report.loaded, report.handled, report.checkpoint) == (50, 50, 100, "nightly")
    assert sorted(key for key, times in Counter(seen).items() if times == 2) == []
    assert await either.execute("EXISTS", f"{prefix}user:#warm:nightly") == 0
    assert (await cache.warm(range(100), loader_of(cache), checkpoint="nightly")).resumed == 0


async def stopped_at_half(cache, checkpoint="n"):
    """Leave a checkpoint after 50 items."""
    with pytest.raises(ConnectionError):
        await cache.warm(broken(range(50)), lambda key: key, checkpoint=checkpoint, batch=20)


def broken(items):
    yield from items
    raise ConnectionError("gone")


@pytest.mark.parametrize("changed", [range(1, 101), range(30), [*range(25), "new", *range(25, 99)]], ids=["shifted", "shorter", "inserted"])
async def test_a_source_that_changed_is_an_error_once_and_then_a_new_beginning(cache, changed):
    await stopped_at_half(cache)
    with pytest.raises(SourceChanged, match="first 50 items.*checkpoint 'n'.*call again to start from the beginning"):
        await cache.warm(changed, lambda key: key, checkpoint="n")
    report = await cache.warm(changed, lambda key: key, checkpoint="n")
    assert (report.resumed, report.handled, report.done) == (0, len(changed), True)


async def test_a_source_that_only_grew_at_its_end_goes_on(cache):
    await stopped_at_half(cache)
    assert (await cache.warm(range(200), lambda key: key, checkpoint="n")).resumed == 50


async def test_a_damaged_checkpoint_is_none(either, cache, prefix):
    await either.execute("SET", f"{prefix}user:#warm:n", "\x01nonsense")
    assert (await cache.warm(range(5), lambda key: key, checkpoint="n")).loaded == 5


async def test_clear_removes_the_checkpoint_with_the_entries(cache):
    await stopped_at_half(cache)
    await cache.clear()
    report = await cache.warm(range(100), lambda key: key, checkpoint="n")
    assert (report.resumed, report.loaded) == (0, 100)


def test_after_sigkill_at_most_one_batch_is_looked_at_again(url, prefix, tmp_path, sync_bay):
    log = tmp_path / "loads"
    command = [sys.executable, "-c", CHILD, url, prefix, str(log)]
    killed = subprocess.run([*command, "101"], check=False, capture_output=True, text=True, timeout=60)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    before = {int(line) for line in log.read_text().split()}
    assert len(before) >= 90
    stored = sync_bay.cache("user", ttl="1h").get_many(range(200))
    done = subprocess.run([*command, "0"], check=True, capture_output=True, text=True, timeout=60)
    resumed, loaded, skipped, failed, whole = done.stdout.split()
    assert (failed, whole) == ("0", "True")
    assert len(before) - 20 <= int(resumed) <= len(before)
    assert int(resumed) + int(skipped) + int(loaded) == 200
    loads = Counter(log.read_text().split())
    assert set(loads) == {str(key) for key in range(200)}
    assert sum(loads.values()) - 200 <= 4, "only what was under way when it was killed is loaded twice"
    assert set(range(int(resumed))) <= set(stored), "everything before the mark was stored before the mark"
    assert len(sync_bay.cache("user", ttl="1h").get_many(range(200))) == 200


# ends


def leftovers():
    return [thread for thread in threading.enumerate() if thread.name.startswith("forebay-warm") and thread.is_alive()]


async def test_cancellation_ends_all_loads_and_keeps_the_checkpoint(bay, prefix):
    cache = bay.cache("user", ttl=60)
    started, ended, closed = [], [], []
    reached = asyncio.Event()

    async def load(key):
        if key < 40:
            return key
        started.append(key)
        reached.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(key)

    async def source():
        try:
            for key in range(1000):
                yield key
        finally:
            closed.append(True)

    task = asyncio.create_task(cache.warm(source(), load, concurrency=8, batch=20, checkpoint="n"))
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert closed
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "forebay-warm"]
    async with asyncio.timeout(10):  # the leases of those loads are given back at once, and nothing is left then
        while [task for task in asyncio.all_tasks() if task.get_name() == "forebay-load"]:
            await asyncio.sleep(0.01)
    assert sorted(started) == sorted(ended)
    report = await cache.warm(range(1000), lambda key: key, checkpoint="n")
    assert 30 <= report.resumed <= 40
    assert report.done


async def test_cancellations_that_are_swallowed_are_asked_for_again(bay):
    cache = bay.cache("user", ttl=60)
    reached = asyncio.Event()

    async def load(key):
        reached.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:  # as redis-py does, at times
            await asyncio.Event().wait()

    task = asyncio.create_task(cache.warm(range(10), load))
    await reached.wait()
    task.cancel()
    async with asyncio.timeout(30):
        with pytest.raises(asyncio.CancelledError):
            await task
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "forebay-warm"]

    class Deaf:  # a source that swallows the cancellation of the warming itself
        def __aiter__(self):
            return self

        async def __anext__(self):
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                return 1

    task = asyncio.create_task(cache.warm(Deaf(), lambda key: key, batch=2))
    await asyncio.sleep(0.01)
    task.cancel()
    ended, _ = await asyncio.wait([task], timeout=10)  # and not cancelled a second time
    assert ended == {task}
    assert task.cancelled()


def test_ctrl_c_ends_the_threads_and_keeps_the_checkpoint(sync_bay):
    cache = sync_bay.cache("user", ttl=60)

    def load(key):
        if key == 50:
            os.kill(os.getpid(), signal.SIGINT)
        return key

    with pytest.raises(KeyboardInterrupt):
        cache.warm(range(100_000), load, concurrency=4, batch=20, checkpoint="n")
        pytest.fail("it went on")
    assert not leftovers()
    report = cache.warm(range(200), lambda key: key, checkpoint="n")
    assert report.resumed >= 30
    assert report.done


async def test_a_server_that_goes_away_stops_it_and_says_how_to_go_on(make_either):
    node = Node(free_ports(1)[0])
    node.launch()
    node.ready()
    try:
        bay = await make_either(f"redis://127.0.0.1:{node.address[1]}").connect()
        cache = bay.cache("user", ttl=60)

        def load(key):
            if key == 60:
                node.kill()
            return key

        with pytest.raises(Unavailable) as caught:
            await cache.warm(range(1000), load, batch=20, concurrency=2, checkpoint="n")
        assert "call again with the same checkpoint" in "".join(caught.value.__notes__)
        assert not leftovers()
    finally:
        node.stop()


async def test_a_row_source_gives_back_what_it_holds():
    async def keys():
        yield 1

    rows = Rows(keys(), awaits=True, pairs=False, check=lambda: None)
    async with aclosing(rows._stream):
        assert await rows.take(5) == [1]
        assert await rows.take(5) == []
    await rows.close()


async def test_two_warmings_of_one_source_share_the_work(url, prefix):
    async with AsyncForebay(url, prefix=prefix) as one, AsyncForebay(url, prefix=prefix) as other:
        seen = []

        async def load(key):
            seen.append(key)
            await asyncio.sleep(0)
            return key

        reports = await asyncio.gather(*(bay.cache("user", ttl=60).warm(range(300), load, batch=50) for bay in (one, other)))
        assert sorted(seen) == list(range(300)), "a lease for each"
        assert sum(report.loaded for report in reports) == 300

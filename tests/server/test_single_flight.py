"""Single flight in one process: one load for all, every end of it, and no stale value past an invalidation."""

import asyncio
import threading

import pytest

from forebay import LoaderCancelled, RecursiveLoad


class Gate:
    """A loader that says when it began and waits until it is let go; it counts its calls."""

    def __init__(self, *values):
        self.values = list(values) or ["value"]
        self.calls = 0
        self.began = asyncio.Event()
        self.go = asyncio.Event()

    async def __call__(self):
        value = self.values[min(self.calls, len(self.values) - 1)]
        self.calls += 1
        self.began.set()
        await self.go.wait()
        if isinstance(value, BaseException):
            raise value
        return value


@pytest.fixture
def cache(bay):
    return bay.cache("user", ttl=60)


async def started(*coroutines):
    """Start tasks and let each reach its wait."""
    return [asyncio.ensure_future(coroutine) for coroutine in coroutines]


async def aboard(cache, count):
    """Wait until *count* callers share flights."""
    while cache._shared.flights.waiting < count:
        await asyncio.sleep(0)


async def test_many_callers_share_one_load(cache):
    gate = Gate({"n": []})
    tasks = await started(*(cache.get_or_set("k", gate) for _ in range(90)))  # as many as redis-py's pool has connections for
    await gate.began.wait()
    gate.go.set()
    values = await asyncio.gather(*tasks)
    assert values == [{"n": []}] * 90
    assert gate.calls == 1
    assert len({id(value) for value in values}) == 90, "callers must not share one mutable value"
    assert cache.stats().loads == 1


async def test_the_loaders_error_reaches_every_waiter_and_the_next_call_loads_again(cache):
    gate = Gate(KeyError("row"), "second")
    tasks = await started(*(cache.get_or_set("k", gate) for _ in range(5)))
    await aboard(cache, 5)
    gate.go.set()
    assert [type(error) for error in await asyncio.gather(*tasks, return_exceptions=True)] == [KeyError] * 5
    assert await cache.get_or_set("k", gate) == "second"
    assert gate.calls == 2


@pytest.mark.parametrize("who", [0, 2], ids=["the leader", "a follower"])
async def test_cancelling_one_leaves_the_others(cache, who):
    gate = Gate()
    tasks = await started(*(cache.get_or_set("k", gate) for _ in range(5)))
    await aboard(cache, 5)
    tasks[who].cancel()
    await asyncio.wait([tasks[who]])
    gate.go.set()
    rest = [task for number, task in enumerate(tasks) if number != who]
    assert await asyncio.gather(*rest) == ["value"] * 4
    assert tasks[who].cancelled()
    assert gate.calls == 1
    assert await cache.get("k") == "value"


async def test_when_all_leave_the_load_is_cancelled(cache):
    began, ended = asyncio.Event(), asyncio.Event()

    async def loader():
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    tasks = await started(*(cache.get_or_set("k", loader) for _ in range(3)))
    await aboard(cache, 3)
    await began.wait()
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    await ended.wait()
    assert len(cache._shared.flights) == 0
    assert await cache.get_or_set("k", lambda: "again") == "again"


async def test_a_loader_that_cancels_itself_does_not_cancel_its_waiters(cache):
    async def loader():
        raise asyncio.CancelledError

    with pytest.raises(LoaderCancelled, match="key 'k'"):
        await cache.get_or_set("k", loader)


async def test_closing_the_bay_ends_loads_and_tells_their_waiters(url, prefix):
    from forebay import AsyncForebay

    bay = AsyncForebay(url, prefix=prefix)
    gate = Gate()
    (task,) = await started(bay.cache("user", ttl=60).get_or_set("k", gate))
    await gate.began.wait()
    await bay.close()
    with pytest.raises(LoaderCancelled):
        await task


async def test_a_loader_that_asks_for_its_own_key_is_refused(either):
    cache = either.cache("user", ttl=60)

    if hasattr(cache, "wrapped"):

        def loader():
            return cache.wrapped.get_or_set("k", lambda: 1)
    else:

        async def loader():
            return await asyncio.create_task(cache.get_or_set("k", lambda: 1))

    with pytest.raises(RecursiveLoad, match="key 'k'"):
        await cache.get_or_set("k", loader)
    assert await cache.get_or_set("k", lambda: 2) == 2


async def test_a_loader_may_ask_for_other_keys(cache):
    async def loader():
        return await cache.get_or_set("inner", lambda: 20) + 1

    assert await cache.get_or_set("outer", loader) == 21


@pytest.mark.parametrize(
    "invalidate",
    [
        lambda cache: cache.delete("k"),
        lambda cache: cache.delete_matching("k*"),
        lambda cache: cache.clear(),
        lambda cache: cache.set("k", "new"),
        lambda cache: cache.add("k", "new"),
        lambda cache: cache.set_many({"k": "new"}),
    ],
    ids=["delete", "delete_matching", "clear", "set", "add", "set_many"],
)
async def test_a_load_that_began_before_an_invalidation_stores_nothing_and_takes_nobody_aboard(cache, invalidate):
    old, new = Gate("old"), Gate("new")
    (first,) = await started(cache.get_or_set("k", old))
    await old.began.wait()
    await invalidate(cache)
    (second,) = await started(cache.get_or_set("k", new))
    old.go.set()
    assert await first == "old"
    new.go.set()
    assert await second == "new"
    assert await cache.get("k", "new") == "new"


async def test_other_keys_are_not_disturbed_by_an_invalidation(cache):
    gate = Gate()
    (task,) = await started(cache.get_or_set("k", gate))
    await gate.began.wait()
    await cache.delete("other")
    gate.go.set()
    await task
    assert await cache.get("k") == "value"


async def test_caches_of_different_types_do_not_share_a_load(bay):
    numbers, texts = bay.cache("n", type=int, ttl=60), bay.cache("n", type=str, ttl=60)
    one, other = Gate(1), Gate("1")
    tasks = await started(numbers.get_or_set("k", one), texts.get_or_set("k", other))
    await one.began.wait()
    one.go.set()
    other.go.set()  # which loads after it, for what the first one stored is no text
    assert await asyncio.gather(*tasks) == [1, "1"]


def test_threads_share_one_load(sync_bay):
    cache = sync_bay.cache("user", ttl=60)
    for round_ in range(30):
        calls, results = [], []
        together = threading.Barrier(16)

        def loader(calls=calls):
            calls.append(1)
            return "value"

        def work(round_=round_, together=together, results=results, loader=loader):
            together.wait()
            results.append(cache.get_or_set(round_, loader))

        threads = [threading.Thread(target=work) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results == ["value"] * 16
        assert len(calls) == 1


def test_threads_get_the_loaders_error(sync_bay):
    cache = sync_bay.cache("user", ttl=60)
    entered, go, errors = threading.Event(), threading.Event(), []

    def loader():
        entered.set()
        go.wait()
        raise KeyError("row")

    def work():
        try:
            cache.get_or_set("k", loader)
        except KeyError as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    threads[0].start()
    entered.wait()
    for thread in threads[1:]:
        thread.start()
    while cache._core._shared.flights.waiting < 4:
        threading.Event().wait(0.001)
    go.set()
    for thread in threads:
        thread.join()
    assert len(errors) == 4


def test_a_thread_that_is_interrupted_while_loading_frees_its_waiters(sync_bay):
    cache = sync_bay.cache("user", ttl=60)

    def loader():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.get_or_set("k", loader)
    assert len(cache._core._shared.flights) == 0
    assert cache.get_or_set("k", lambda: 1) == 1


def test_counts_are_exact_with_many_threads(sync_bay):
    cache = sync_bay.cache("user", ttl=60)
    cache.set("k", 1)

    def work():
        for _ in range(200):
            cache.get("k")

    threads = [threading.Thread(target=work) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cache.stats().hits == 3200

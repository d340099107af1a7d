"""Single keys that are read together, on a real server: who goes along with whom, and that nobody hears of the others."""

import asyncio
import contextvars
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from forebay import AsyncForebay, InvalidKey, LoaderCancelled, RecursiveLoad, SettingsError

WHO = contextvars.ContextVar("who", default="nobody")


class Loader:
    """Loads ``{"id": key}`` for every key but those that *lacks* names; remembers what it was asked for, and waits for its gate."""

    def __init__(self, *, lacks=(), error=None):
        self.asked = []
        self.lacks = lacks
        self.error = error
        self.began = threading.Event()
        self.go = threading.Event()
        self.go.set()

    def __call__(self, keys):
        self.asked.append(list(keys))
        self.began.set()
        assert self.go.wait(10)
        if self.error is not None:
            raise self.error
        return {key: {"id": key} for key in keys if key not in self.lacks}

    def later(self):
        """The same for a loop, which it does not stop."""

        async def load(keys):
            self.asked.append(list(keys))
            self.began.set()
            while not self.go.is_set():
                await asyncio.sleep(0.001)
            if self.error is not None:
                raise self.error
            return {key: {"id": key} for key in keys if key not in self.lacks}

        return load


@pytest.fixture
def cache(bay):
    return bay.cache("user", ttl=60)


@pytest.fixture
def sync_cache(sync_bay):
    return sync_bay.cache("user", ttl=60)


async def begun(loader):
    while not loader.began.is_set():
        await asyncio.sleep(0.001)


# asyncio


async def test_keys_of_one_turn_are_one_load_and_each_has_its_own_value(cache):
    loader = Loader(lacks={3})
    user = cache.batched(loader.later())
    found = await asyncio.gather(*(user(key) for key in [1, 2, 3, 1, 2]))
    assert found == [{"id": 1}, {"id": 2}, None, {"id": 1}, {"id": 2}]
    assert loader.asked == [[1, 2, 3]]
    assert len({id(value) for value in found if value is not None}) == 4, "callers must not share what can change"
    assert await asyncio.gather(user(1), user(4)) == [{"id": 1}, {"id": 4}]
    assert loader.asked[1:] == [[4]]
    assert await user(3) is None, "what was left out is a stored None"


async def test_other_turns_are_other_batches(cache):
    loader = Loader()
    user = cache.batched(loader.later())
    first = asyncio.ensure_future(user(1))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await asyncio.gather(first, user(2))
    assert loader.asked == [[1], [2]]


async def test_a_full_batch_goes_at_once_in_the_first_callers_context(cache):
    seen = []

    async def load(keys):
        seen.append((WHO.get(), list(keys)))
        return {key: key for key in keys}

    user = cache.batched(load, max_batch=2)

    async def ask(who, key):
        WHO.set(who)
        return await user(key)

    assert await asyncio.gather(*(ask(name, key) for key, name in enumerate("abcde"))) == [0, 1, 2, 3, 4]
    assert sorted(seen) == [("a", [0, 1]), ("c", [2, 3]), ("e", [4])]
    assert await user.many(range(5, 10)) == {key: key for key in range(5, 10)}
    assert [keys for _, keys in seen[3:]] == [[5, 6], [7, 8], [9]]


async def test_a_wrong_key_fails_its_own_caller(cache):
    loader = Loader()
    user = cache.batched(loader.later())
    good, bad = await asyncio.gather(user(1), user(""), return_exceptions=True)
    assert good == {"id": 1}
    assert isinstance(bad, InvalidKey)
    assert loader.asked == [[1]]


async def test_an_error_reaches_every_waiter_and_is_not_kept(cache):
    loader = Loader(error=KeyError("row"))
    user = cache.batched(loader.later())
    found = await asyncio.gather(*(user(key) for key in [1, 2, 1]), return_exceptions=True)
    assert [type(error) for error in found] == [KeyError] * 3
    loader.error = None
    assert await user(1) == {"id": 1}


async def test_who_is_cancelled_leaves_the_others_alone(cache):
    loader = Loader()
    loader.go.clear()
    user = cache.batched(loader.later())
    first, second, third = (asyncio.ensure_future(user(key)) for key in [1, 1, 2])
    await begun(loader)
    first.cancel()
    await asyncio.sleep(0)
    loader.go.set()
    assert await asyncio.gather(second, third) == [{"id": 1}, {"id": 2}]
    assert first.cancelled()


async def test_who_is_cancelled_before_the_batch_goes_takes_the_key_along(cache):
    loader = Loader()
    user = cache.batched(loader.later())
    leaving, staying = asyncio.ensure_future(user(1)), asyncio.ensure_future(user(2))
    await asyncio.sleep(0)
    leaving.cancel()
    assert await staying == {"id": 2}
    assert loader.asked == [[2]]


async def test_the_batch_ends_when_nobody_waits(cache):
    ended = asyncio.Event()
    began = asyncio.Event()

    async def load(keys):
        began.set()
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    user = cache.batched(load)
    waiting = [asyncio.ensure_future(user(key)) for key in [1, 2]]
    await began.wait()
    for waiter in waiting:
        waiter.cancel()
    await asyncio.wait_for(ended.wait(), 5)
    loader = Loader()
    assert await asyncio.wait_for(cache.batched(loader.later())(1), 5) == {"id": 1}, "its lease was given back"


async def test_a_loader_that_cancels_itself_cancels_nobody_else(cache):
    async def load(keys):
        raise asyncio.CancelledError

    user = cache.batched(load)
    found = await asyncio.gather(user(1), user(2), return_exceptions=True)
    assert [type(error) for error in found] == [LoaderCancelled] * 2


async def test_a_loader_may_ask_its_own_batcher_for_another_key(cache):
    async def load(keys):
        return {key: 0 if key == 0 else 1 + await user(key - 1) for key in keys}

    user = cache.batched(load)
    assert await asyncio.wait_for(user(3), 5) == 3
    await cache.delete(*range(4))
    with pytest.raises(RecursiveLoad):  # one load of 3 and 0, in which 3 needs 0
        await asyncio.wait_for(asyncio.gather(user(3), user(0)), 5)


def test_each_loop_has_batches_of_its_own(url, prefix):
    bay = AsyncForebay(url, prefix=prefix)
    user = bay.cache("user", ttl=60).batched(lambda keys: {key: key for key in keys})

    async def ask(*keys):
        found = await asyncio.gather(*map(user, keys))
        await bay.close()
        return found

    assert asyncio.run(ask(1, 2)) == [1, 2]


@pytest.mark.parametrize("most", [0, -1, True, 1.5, "10"], ids=repr)
async def test_a_batch_has_a_size(cache, most):
    with pytest.raises(SettingsError, match="max_batch="):
        cache.batched(lambda keys: {}, max_batch=most)


async def test_a_loader_can_be_called(cache, sync_cache):
    with pytest.raises(TypeError, match="a function of a list of keys"):
        cache.batched({})
    with pytest.raises(TypeError, match="make it a plain def"):
        sync_cache.batched(Loader().later())


# threads


def together(user, keys, loader, pool):
    """Let a first caller begin its batch, and all of *keys* arrive while it is under way; return their futures."""
    loader.go.clear()
    first = pool.submit(user, 0)
    assert loader.began.wait(5)
    return first, [pool.submit(user, key) for key in keys]


def test_a_lone_caller_waits_for_nobody(sync_cache):
    user = sync_cache.batched(Loader())
    user(1)
    began = time.monotonic()
    for _ in range(20):
        assert user(1) == {"id": 1}
    assert time.monotonic() - began < 0.5


def test_who_comes_while_a_batch_is_under_way_goes_with_the_next(sync_cache):
    loader = Loader(lacks={3})
    user = sync_cache.batched(loader)
    with ThreadPoolExecutor(8) as pool:
        first, others = together(user, [1, 2, 3, 1], loader, pool)
        while user._next is None or sum(user._next.callers.values()) < 4:
            time.sleep(0.0005)
            if len(loader.asked) > 1:  # a machine so busy that the next batch has gone already
                break
        loader.go.set()
        assert first.result(5) == {"id": 0}
        assert [other.result(5) for other in others] == [{"id": 1}, {"id": 2}, None, {"id": 1}]
    assert sorted(key for keys in loader.asked for key in keys) == [0, 1, 2, 3]
    assert len(loader.asked) < 5


def test_a_slow_load_does_not_hold_up_a_hit(sync_cache):
    loader = Loader()
    user = sync_cache.batched(loader)
    assert user(7) == {"id": 7}
    loader.began.clear()
    with ThreadPoolExecutor(2) as pool:
        first, (hit,) = together(user, [7], loader, pool)
        assert hit.result(2) == {"id": 7}
        assert not first.done()
        loader.go.set()
        assert first.result(5) == {"id": 0}


def test_threads_never_share_what_can_change(sync_cache):
    user = sync_cache.batched(lambda keys: {key: {"id": key} for key in keys})

    def ask(_):
        value = user("x")
        seen = dict(value)
        value["id"] = "changed"
        return seen

    with ThreadPoolExecutor(8) as pool:
        for _ in range(40):
            sync_cache.delete("x")
            assert list(pool.map(ask, range(8))) == [{"id": "x"}] * 8


def test_an_error_reaches_every_thread_of_its_batch_alone(sync_cache):
    loader = Loader()
    user = sync_cache.batched(loader)
    with ThreadPoolExecutor(4) as pool:
        loader.error = KeyError("row")
        first, others = together(user, [1, 2], loader, pool)
        loader.go.set()
        assert isinstance(first.exception(5), KeyError)
        assert all(isinstance(other.exception(5), KeyError) for other in others)
    loader.error = None
    assert user(1) == {"id": 1}
    with pytest.raises(InvalidKey):
        user("")


def test_who_is_interrupted_leaves_the_others_to_go_on(sync_cache):
    class Interrupted(BaseException):
        """As a KeyboardInterrupt, in the thread that leads."""

    seen = []

    def load(keys):
        seen.append(list(keys))
        if len(seen) == 2:
            raise Interrupted
        if len(seen) == 1:
            loader.began.set()
            assert loader.go.wait(5)
        return {key: {"id": key} for key in keys}

    loader = Loader()
    user = sync_cache.batched(load)
    with ThreadPoolExecutor(4) as pool:
        first, others = together(user, [1, 1, 1], loader, pool)
        time.sleep(0.02)
        loader.go.set()
        assert first.result(5) == {"id": 0}
        ends = [other.exception(5) or other.result() for other in others]
    assert sum(isinstance(end, Interrupted) for end in ends) == 1
    assert [end for end in ends if not isinstance(end, Interrupted)] == [{"id": 1}] * 2


def test_a_threads_loader_may_ask_its_own_batcher_for_another_key(sync_cache):
    def load(keys):
        return {key: 0 if key == 0 else 1 + user(key - 1) for key in keys}

    user = sync_cache.batched(load, max_batch=2)
    assert user(3) == 3
    assert user.many(range(4)) == {key: key for key in range(4)}

"""Callbacks hear of every change of a namespace's keys, by whomever, in both colours."""

import asyncio

import pytest

from forebay import AsyncForebay, CallbackFailed, InvalidKey
from tests.server.test_near import until


class Heard(list):
    """What a callback was called with."""

    async def has(self, key):
        await until(lambda: key in self)


@pytest.fixture
async def other(url, prefix):
    async with AsyncForebay(url, prefix=prefix) as bay:
        yield bay


def listen(cache, heard):
    return getattr(cache, "wrapped", cache).on_invalidated(heard.append)


async def test_it_hears_of_every_change_of_its_own_namespace(either, other, prefix):
    cache, heard = either.cache("user", ttl=60), Heard()
    stop = listen(cache, heard)
    await heard.has(None)  # it listens
    heard.clear()
    await cache.set(1, 1)
    await heard.has("1")
    await other.cache("user", ttl=60).set("#odd", 1)
    await heard.has("#odd")
    await other.execute("SET", f"{prefix}user:raw", 1, "PX", 5)
    await heard.has("raw")
    await other.cache("users", ttl=60).set("not mine", 1)
    heard.clear()
    await other.execute("DEL", f"{prefix}user:1")
    await heard.has("1")
    assert "not mine" not in heard
    stop()
    stop()
    heard.clear()
    await cache.set(2, 2)
    await asyncio.sleep(0.05)
    assert heard == []


@pytest.mark.parametrize("how", ["tag", "clear", "outer", "flush", "killed"])
async def test_none_says_that_any_may_have_changed(either, other, how):
    cache, heard = either.cache("a:b", ttl=60, versioned=True), Heard()
    listen(cache, heard)
    await heard.has(None)
    await cache.set(1, 1, tags=["t"])
    await heard.has("1")
    heard.clear()
    if how == "tag":
        await other.cache("a:b").invalidate_tags("t")
    elif how == "clear":
        await other.cache("a:b", versioned=True).clear()
    elif how == "outer":
        await other.cache("a", versioned=True).clear()
    elif how == "flush":
        await other.execute("FLUSHALL")
    else:
        await other.execute("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await until(lambda: heard.count(None) >= 2)  # lost, and back
        await cache.set("after", 1)
        await heard.has("after")
    await heard.has(None)


async def test_one_that_raises_is_reported_and_disturbs_nobody(make_either, url, prefix):
    events, heard = [], Heard()
    bay = make_either(url, prefix=prefix, on_event=events.append)
    cache = bay.cache("user", ttl=60, near=10)

    def bad(key):
        raise ZeroDivisionError

    listen(cache, heard)  # first: the first callback of all is told that the listener has begun, a later one may be too late for it
    getattr(cache, "wrapped", cache).on_invalidated(bad)
    await heard.has(None)
    for number in range(3):
        await cache.set(number, 1)
        await heard.has(str(number))
    assert {type(event) for event in events} == {CallbackFailed}
    assert len(events) >= 3
    assert "user" in events[0].describe()
    with pytest.raises(InvalidKey):
        getattr(cache, "wrapped", cache).on_invalidated(None)

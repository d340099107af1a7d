"""Each option of freshness, in both colours, on a real server; time is let pass by the clock of `forebay.testing`."""

import asyncio
import threading

import pytest

from forebay import LoaderTimeout
from forebay.testing import assert_loads
from tests.server.test_near import until


def real(cache):
    return getattr(cache, "wrapped", cache)


async def test_a_ttl_ends(either, advance):
    cache = either.cache("c", ttl="15m")
    for _ in range(2):
        assert await cache.get_or_set("k", lambda: 1) == 1
    await advance("14m")
    assert await cache.get("k") == 1
    await advance("2m")
    assert await cache.get("k") is None
    with assert_loads(real(cache), 1):
        assert await cache.get_or_set("k", lambda: 2, ttl="1h") == 2
    await advance("30m")
    assert await cache.get("k") == 2, "the option of the call won"


async def test_jitter_spreads_the_ends(either):
    cache = either.cache("c", ttl=1000, jitter=0.2)
    await cache.set_many(dict.fromkeys(range(200), 1))
    left = [await cache.ttl(key) for key in range(200)]
    assert min(left) >= 799
    assert max(left) <= 1000
    assert max(left) - min(left) > 100


async def test_a_stale_value_is_served_while_one_caller_refreshes(either, advance, make_either, url, prefix):
    options = {"ttl": "1m", "stale_while_revalidate": "5m"}
    cache, other = either.cache("c", **options), make_either(url, prefix=prefix).cache("c", **options)
    await cache.set("k", "old")
    await advance("2m")
    assert await cache.get("k") is None, "a plain read returns what is fresh"
    begun, go_on = threading.Event(), threading.Event()

    def load():
        begun.set()
        assert go_on.wait(5)
        return "new"

    async def load_later():
        return await asyncio.to_thread(load)

    loader = load if real(cache) is not cache else load_later
    assert await cache.get_or_set("k", loader) == "old"
    assert await asyncio.to_thread(begun.wait, 5), "the refresh takes its lease in the background, and then loads"
    for each in (cache, other):
        assert await each.get_or_set("k", lambda: pytest.fail("a second load")) == "old"
    go_on.set()
    await until(lambda: has(other, "k", "new"))
    await advance("7m")
    assert await cache.get_or_set("k", lambda: "newer") == "newer", "past the window it is loaded at once"


async def has(cache, key, value):
    return await cache.get(key) == value


@pytest.mark.parametrize("scripts", ["known", "lost"])
async def test_a_stale_value_stands_in_for_a_failed_load(either, advance, scripts):
    cache = either.cache("c", ttl="1m", stale_if_error="1h")
    await cache.set("k", "old")
    await advance("2m")
    if scripts == "lost":  # so that the lease goes back two round trips late, and the second caller waits for it
        await either.execute("SCRIPT", "FLUSH")
    assert await cache.get_or_set("k", lambda: 1 / 0) == "old"
    assert await cache.get_or_set("k", lambda: pytest.fail("too soon after a failure")) == "old"
    await advance("2h")
    with pytest.raises(ZeroDivisionError):
        await cache.get_or_set("k", lambda: 1 / 0)


async def test_the_slower_a_load_the_earlier_it_is_refreshed(either, advance):
    """With the recorded load time of a second, and a factor that makes it sure, a value is refreshed before its end."""
    cache = either.cache("c", ttl="10m", early_refresh=1e9)

    def load():
        threading.Event().wait(0.01)
        return "new"

    await cache.get_or_set("k", load)
    with assert_loads(real(cache), 1):
        assert await cache.get_or_set("k", lambda: "newer") == "new"
        await until(lambda: has(cache, "k", "newer"))


async def test_none_has_its_own_ttl(either, advance):
    cache = either.cache("c", ttl="15m", none_ttl="30s")
    assert await cache.get_or_set("none", lambda: None) is None
    assert await cache.get_or_set("some", lambda: 0) == 0
    assert 29 < await cache.ttl("none") <= 30
    with assert_loads(real(cache), 0):
        assert await cache.get_or_set("none", lambda: 1) is None
    await advance("31s")
    assert await cache.get_or_set("none", lambda: 1) == 1
    assert await cache.get("some") == 0


async def test_a_sliding_ttl_begins_anew_below_its_half(either, advance):
    cache = either.cache("c", ttl="10m", sliding=True)
    await cache.set("k", 1)
    await advance("4m")
    assert await cache.get("k") == 1
    assert await cache.ttl("k") <= 360, "more than half is left"
    await advance("2m")
    assert await cache.get("k") == 1

    async def slid():
        return await cache.ttl("k") > 590

    await until(slid)
    await advance("11m")
    assert await cache.get("k") is None


async def test_past_the_soft_timeout_the_stale_value_is_returned_while_the_load_goes_on(either, advance):
    cache = either.cache("c", ttl="1m", stale_if_error="1h", soft_timeout="50ms")
    await cache.set("k", "old")
    await advance("2m")
    go_on = threading.Event()

    def load():
        assert go_on.wait(5)
        return "new"

    async def load_later():
        return await asyncio.to_thread(load)

    assert await cache.get_or_set("k", load if real(cache) is not cache else load_later) == "old"
    go_on.set()
    await until(lambda: has(cache, "k", "new"))


async def test_past_the_hard_timeout_there_is_an_error(either):
    cache = either.cache("c", ttl="1m", hard_timeout="50ms")
    never = threading.Event()

    async def load_later():
        await asyncio.sleep(5)

    with pytest.raises(LoaderTimeout, match="hard_timeout of 0.05 s"):
        await cache.get_or_set("k", (lambda: never.wait(0.3)) if real(cache) is not cache else load_later)
    assert await cache.get("k") is None

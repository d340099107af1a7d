"""``outbox=True``: what could not be invalidated is invalidated later, and until then nothing that is stored counts here."""

import asyncio

import pytest

from forebay import AsyncForebay, Forebay, ForebayError, InvalidationLost, InvalidationQueued, Unavailable
from tests.proxy import Refuse, proxy_to
from tests.server.test_near import until

WAYS = {
    "delete": lambda cache: cache.delete("k", "l"),
    "tag": lambda cache: cache.invalidate_tags("t"),
    "pattern": lambda cache: cache.delete_matching("k*"),
    "clear": lambda cache: cache.clear(),
    "mark stale": lambda cache: cache.mark_stale("k"),
}
ANSWERS = {"delete": 0, "tag": None, "pattern": 0, "clear": 0, "mark stale": False}


@pytest.fixture
def proxy(server):
    with proxy_to(server.address()) as running:
        yield running


@pytest.fixture
def events():
    return []


@pytest.fixture
def through(make_either, proxy, prefix, events):
    """A bay of each colour behind a proxy that can take the server away."""
    return make_either(proxy.url, prefix=prefix, on_event=events.append)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("versioned", [False, True], ids=["bare", "versioned"])
async def test_what_waits_is_sent_when_the_server_is_back(through, url, prefix, proxy, events, make_either, way, versioned):
    options = {"ttl": 60, "near": 10, "stale_while_revalidate": 10, "versioned": versioned}
    cache = through.cache("c", outbox=True, **options)
    direct = make_either(url, prefix=prefix).cache("c", **options)
    await direct.set("k", "old", tags=["t"])
    await until(lambda: near_now(cache))
    proxy.fault = Refuse()
    assert await WAYS[way](cache) == ANSWERS[way]
    queued = [event for event in events if isinstance(event, InvalidationQueued)]
    assert [event.namespace for event in queued] == ["c"]
    assert "waits in the outbox" in queued[0].describe()
    assert await direct.get("k") == "old"  # elsewhere it is as it was
    # here it counts no more, neither near nor far, and what is loaded meanwhile is not stored
    assert await cache.get("k") is None
    assert await cache.get_many(["k"]) == {}
    assert await cache.get_or_set("k", lambda: "loaded") == "loaded"
    assert await cache.get_or_set_many(["k"], lambda keys: dict.fromkeys(keys, "many")) == {"k": "many"}
    proxy.heal()
    await until(lambda: gone(direct))
    await until(lambda: through.stats().pending_invalidations == 0)
    assert await cache.get_or_set("k", lambda: "new") == ("old" if way == "mark stale" else "new")  # stale, and refreshed
    await until(lambda: stored(direct, "new"))
    assert not [event for event in events if isinstance(event, InvalidationLost)]


async def near_now(cache):
    before = cache.stats().near_hits
    await cache.get("k")
    return cache.stats().near_hits > before


async def gone(cache):
    return await cache.get("k") is None


async def stored(cache, value):
    return await cache.get("k") == value


async def test_stored_values_do_not_count_before_the_invalidation_was_sent(through, proxy, prefix, url, make_either, monkeypatch):
    """The server answers again, and the outbox has not had its turn."""
    cache = through.cache("c", ttl=60, outbox=True, near=10)
    await cache.set("k", "old")
    await until(lambda: near_now(cache))
    proxy.fault = Refuse()
    assert await cache.delete("k") == 0
    outbox = getattr(through, "wrapped", through)._outbox
    monkeypatch.setattr(outbox, "nudge", lambda: None)  # it never gets one
    monkeypatch.setattr(outbox, "_send_all", never)
    proxy.heal()
    await until(lambda: answers(through))
    assert await cache.get("k") is None
    assert await cache.get_or_set("k", lambda: "loaded") == "loaded"
    assert await make_either(url, prefix=prefix).cache("c", ttl=60).get("k") == "old"


async def never():
    """Send nothing."""


async def answers(bay):
    try:
        return await bay.ping() > 0
    except Unavailable:
        return False


async def test_the_same_invalidation_waits_once_and_the_room_is_bounded(through, proxy, monkeypatch):
    monkeypatch.setattr("forebay.cache.outbox._MOST", 3)
    cache = through.cache("c", ttl=60, outbox=True)
    proxy.fault = Refuse()
    for key in "aabbc":
        await cache.delete(key)
    assert through.stats().pending_invalidations == 3
    with pytest.raises(Unavailable) as caught:
        await cache.delete("d")
    assert caught.value.__notes__ == ["the outbox did not take it: it is full, with 3 invalidations"]
    await cache.delete("a")
    proxy.heal()
    await until(lambda: through.stats().pending_invalidations == 0)


async def test_without_an_outbox_it_raises(through, proxy):
    cache = through.cache("c", ttl=60)
    proxy.fault = Refuse()
    for way in WAYS.values():
        with pytest.raises(Unavailable):
            await way(cache)
    assert through.stats().pending_invalidations == 0


async def test_what_a_closing_bay_cannot_send_is_reported_as_lost(through, proxy, events):
    cache = through.cache("c", ttl=60, outbox=True)
    proxy.fault = Refuse()
    await cache.delete("k")
    await through.close()
    lost = [event for event in events if isinstance(event, InvalidationLost)]
    assert [(event.operation, event.key) for event in lost] == [("delete", ["k"])]
    assert "was lost with the outbox" in lost[0].describe()
    with pytest.raises(ForebayError):
        await cache.delete("k")


async def test_a_closing_bay_sends_what_it_can(through, proxy, url, prefix, make_either):
    direct = make_either(url, prefix=prefix).cache("c", ttl=60)
    cache = through.cache("c", ttl=60, outbox=True)
    await direct.set("k", "old")
    proxy.fault = Refuse()
    await cache.delete("k")
    proxy.heal()
    await until(lambda: answers(through))
    await through.close()
    assert await direct.get("k") is None


async def test_a_refusal_for_good_is_reported_and_not_repeated(through, proxy, events, prefix):
    cache = through.cache("c", ttl=60, outbox=True)
    await through.execute("ACL", "SETUSER", "default", "-unlink")
    try:
        proxy.fault = Refuse()
        await cache.delete("k")
        proxy.heal()
        await until(lambda: through.stats().pending_invalidations == 0)
    finally:
        await through.execute("ACL", "SETUSER", "default", "+unlink")
    lost = [event for event in events if isinstance(event, InvalidationLost)]
    assert [event.key for event in lost] == [["k"]]


async def test_it_is_sent_from_another_loop_than_the_one_that_put_it_in(proxy, prefix, url):
    """A bay that is used by one loop after another."""
    bay = AsyncForebay(proxy.url, prefix=prefix)
    cache = bay.cache("c", ttl=60, outbox=True)

    def fail():
        async def work():
            await cache.set("k", "old")
            proxy.fault = Refuse()
            return await cache.delete("k")

        return asyncio.run(work())

    assert await asyncio.to_thread(fail) == 0
    proxy.heal()
    await until(lambda: gone(cache))  # what is asked here sets it going here
    await until(lambda: bay.stats().pending_invalidations == 0)
    with Forebay(url, prefix=prefix) as direct:
        assert direct.cache("c").get("k") is None
    await bay.close()

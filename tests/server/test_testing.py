"""What the tests of applications stand on: a clock that moves, a switch for outages, and counted loads, in both colours."""

import asyncio
import inspect
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime

import pytest

import forebay.testing
from forebay import CacheMiss, Forebay, InvalidDuration, SessionNotFound, SettingsError, TooManySessions, Unavailable
from forebay.testing import Outage, assert_loads, moved_clock
from tests.server.test_near import hits_near, until


def fail():
    raise OSError("no database")


def real(either):
    return getattr(either, "wrapped", either)


@pytest.fixture
def advance(either):
    """A function that lets time pass for the bay of each colour."""
    with moved_clock(real(either)) as clock:

        async def advance(by):
            done = clock.advance(by)
            if inspect.isawaitable(done):
                await done
            return clock.moved

        yield advance


async def test_time_passes_for_entries_and_their_windows(either, advance):
    cache = either.cache("c", ttl="15m", stale_while_revalidate="5m", none_ttl="1m", near=10)
    await cache.set("k", 1, tags=["t"])
    await cache.get_or_set("none", lambda: None)
    await advance("2m")
    assert await cache.get("none", "gone") == "gone"
    assert 13 * 60 - 2 < await cache.ttl("k") <= 13 * 60
    await advance("12m")
    assert await cache.get("k") == 1
    assert await advance("61s") == 901
    assert await cache.get("k") is None
    assert await cache.get_or_set("k", lambda: 2) == 1, "stale, and refreshed"


async def test_a_whole_ttl_is_the_end_and_what_is_for_ever_has_none(either, advance):
    bare, full = either.cache("bare", ttl="15m"), either.cache("full", ttl="15m", stale_if_error="1h")
    for cache in (bare, full):
        await cache.set("k", 1)
        await cache.set("ever", 1, ttl=None)
    await advance("15m")
    for cache in (bare, full):
        assert await cache.get("k") is None
        assert await cache.get("ever") == 1
    await advance("61m")
    assert await full.get_or_set("k", lambda: 2) == 2, "the stale copy has gone as well"


async def test_what_is_stored_after_a_step_lives_its_whole_life(either, advance):
    cache = either.cache("c", ttl="15m", stale_if_error="5m")
    await advance("1h")
    await cache.set("k", 1, tags=["t"])
    assert 14 * 60 < await cache.ttl("k") <= 15 * 60
    await advance("14m")
    assert await cache.get("k") == 1


async def test_a_tag_outlives_every_entry_that_has_it(either, advance):
    cache = either.cache("c", ttl="12h")
    await cache.get_or_set("a", lambda: 1, tags=["t"])
    await advance("11h")
    assert await cache.get("a") == 1
    await cache.set("b", 2, tags=["t"], ttl="23h")  # for as long as the process knows the tag's version to live
    await advance("14h")
    assert await cache.get("b") == 2
    await cache.invalidate_tags("t")
    assert await cache.get("b") is None


async def test_a_lease_that_nobody_holds_ends_with_its_time(either, advance, prefix):
    cache = either.cache("c", ttl="15m")
    await either.execute("SET", f"{prefix}c:k", b"\x02" + b"deadbeef", "PX", 60_000)  # of a process that died while it loaded
    await advance("61s")
    assert await cache.get_or_set("k", lambda: 1) == 1
    assert await cache.get("k") == 1


async def test_what_is_near_is_no_older_than_the_clock(either, advance):
    cache = either.cache("c", ttl="15m", near=10)
    await cache.set("k", 1)
    await until(lambda: hits_near(cache, "k"))  # whoever tells threads of changes is connected in the background
    assert await cache.get("k") == 1
    assert real(either).stats().caches["c"].near_hits, "it was near"
    await advance("16m")
    assert await cache.get("k") is None


async def test_nothing_is_near_after_a_step(either, advance):
    cache = either.cache("c", ttl=None, near=10)
    await cache.set("ever", 1)
    while not cache.stats().near_hits:
        await cache.get("ever")
    await advance("1s")
    near = cache.stats().near_hits
    assert await cache.get("ever") == 1
    assert cache.stats().near_hits == near, "the server was asked again"


async def test_a_strict_near_tier_stays_on_its_roll(either, advance, prefix):
    cache = either.cache("c", ttl="15m", near=10, near_strict=True)
    await cache.set("k", 1)
    while not await either.execute("ZCARD", f"{prefix}#near:c"):
        await cache.get("k")
        await asyncio.sleep(0.01)
    await advance("1m")
    assert await either.execute("ZCARD", f"{prefix}#near:c") == 1


async def test_more_keys_than_one_scan_returns_grow_older_once_each(either, advance):
    cache = either.cache("c", ttl="1h")
    await cache.set_many({number: number for number in range(1700)})
    await advance("25m")
    assert len(await cache.get_many(range(1700))) == 1700
    await advance("25m")
    assert len(await cache.get_many(range(1700))) == 1700, "none grew older twice in one step"
    await advance("10m")
    assert await cache.get_many(range(1700)) == {}


async def test_sessions_end_when_idle_and_at_their_absolute_end(either, advance):
    sessions = either.sessions(idle_timeout="30m", absolute_timeout="1h")
    session = await sessions.create(1)
    session.put("code", "1234", ttl="10m")
    await sessions.save(session)
    await advance("20m")
    session = await sessions.load(session.id)
    assert (datetime.now(UTC) - session.created_at).total_seconds() >= 20 * 60 - 1
    assert "code" not in session
    session["used"] = True
    await sessions.save(session)
    await advance("20m")
    session = await sessions.load(session.id)
    session["used"] = False
    await sessions.save(session)
    assert [each.handle for each in await sessions.list_for(1)] == [session.handle]
    await advance("20m")
    with pytest.raises(SessionNotFound):
        await sessions.load(session.id)
    assert await sessions.list_for(1) == []

    idle = await sessions.create(1)
    await advance("30m")
    with pytest.raises(SessionNotFound):
        await sessions.load(idle.id)


async def test_a_session_that_ended_takes_no_place(either, advance):
    sessions = either.sessions(idle_timeout="30m", absolute_timeout="12h", max_per_user=1, when_full="refuse")
    await sessions.create(1)
    await advance("29m")
    with pytest.raises(TooManySessions):
        await sessions.create(1)
    await advance("2m")
    assert (await sessions.create(1)).user_id == "1"


async def test_other_prefixes_keep_their_time(advance, url, make_either, prefix):
    other = make_either(url, prefix=prefix[:-1] + "x:").cache("c", ttl="1m")
    await other.set("k", 1)
    await advance("1h")
    assert await other.get("k") == 1


async def test_a_stale_value_is_served_for_a_failed_load_within_its_window_and_not_beyond(either, advance):
    users = either.cache("user", ttl="5m", stale_if_error="1h")
    await users.get_or_set(1, lambda: "Ada")
    await advance("6m")
    with pytest.raises(CacheMiss):
        await users.fetch(1)
    assert await users.get_or_set(1, fail) == "Ada"
    await advance("1h")
    with pytest.raises(OSError, match="no database"):
        await users.get_or_set(1, fail)


def test_a_prefix_is_no_pattern(url):
    with Forebay(url, prefix="a?c[x]*:") as odd, Forebay(url, prefix="abcx*:") as other:
        for bay in (odd, other):
            bay.execute("SET", f"{bay.prefix}key", "1", "PX", 60_000)
        with moved_clock(odd) as clock:
            clock.advance("5m")
        assert (odd.execute("EXISTS", "a?c[x]*:key"), other.execute("EXISTS", "abcx*:key")) == (0, 1)
        other.execute("UNLINK", "abcx*:key")


def test_a_clock_needs_a_bay_with_a_prefix_on_one_server(url, prefix):
    with pytest.raises(SettingsError, match="prefix"):
        moved_clock(Forebay(url))
    with pytest.raises(SettingsError, match="cluster"):
        moved_clock(Forebay("redis+cluster://127.0.0.1:1", prefix=prefix))
    with Forebay(url, prefix=prefix) as bay, moved_clock(bay) as clock:
        with pytest.raises(InvalidDuration):
            clock.advance("-1s")
        clock.advance(5)
        assert repr(clock) == "<MovedClock 5 s ahead>"


@pytest.fixture
def outage(server):
    with Outage(server.url) as outage:
        yield outage


@pytest.mark.parametrize("repeat", range(5))
async def test_the_server_is_away_as_long_as_the_block_and_back_right_after(make_either, outage, prefix, repeat):
    bay = make_either(outage.url, prefix=prefix)
    outage.add(real(bay))
    cache = bay.cache("c", ttl=60)
    await cache.set("k", 1)
    with outage.away():
        for _ in range(8):  # more failures than a breaker takes
            assert await cache.get("k") is None
        assert await cache.get_or_set("k", lambda: 2) == 2
        with pytest.raises(Unavailable):
            await cache.delete("k")
        assert "which is away" in repr(outage)
        with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", int(outage.url.split(":")[2].split("/")[0]))):
            pass
    assert await cache.get("k") == 1
    assert "which is there" in repr(outage)


async def test_a_slow_server_answers_later(make_either, outage, prefix):
    bay = make_either(outage.url + "?cache_budget=30ms", prefix=prefix)
    cache = bay.cache("c", ttl=60)
    await cache.set("k", 1)
    with outage.slow("300ms"):
        assert await cache.get_or_set("k", lambda: 2) == 2, "the budget is spent, and the loader answers"
        began = time.monotonic()
        await bay.execute("PING", timeout=10)
        assert time.monotonic() - began >= 0.29
    began = time.monotonic()
    await bay.execute("PING", timeout=10)
    assert time.monotonic() - began < 0.29


def test_slow_costs_a_reply_its_delay_once(url):
    with Outage(url) as outage, Forebay(outage.url) as bay:
        bay.ping()
        with outage.slow("150ms"):
            assert bay.ping() >= 0.145
            began = time.monotonic()
            bay.pipeline([("PING",)] * 50)
            assert 0.145 <= time.monotonic() - began < 2.5


async def test_a_hung_server_costs_no_more_than_the_budget(make_either, outage, prefix):
    bay = make_either(outage.url + "?cache_budget=30ms", prefix=prefix)
    outage.add(real(bay))
    cache = bay.cache("c", ttl=60)
    await cache.set("k", 1)
    with outage.hung():
        for _ in range(8):
            assert await cache.get_or_set("k", lambda: 2) == 2
    assert await bay.ping() > 0
    assert await bay.execute("GET", f"{prefix}c:k") is not None


def test_what_was_sent_to_a_hung_server_is_answered_in_the_end(outage):
    with socket.create_connection(("127.0.0.1", int(outage.url.split(":")[2].split("/")[0]))) as client:
        client.settimeout(0.2)
        with outage.hung():
            client.sendall(b"PING\r\n")
            with pytest.raises(TimeoutError):
                client.recv(64)
        client.settimeout(10)
        assert client.recv(64) == b"+PONG\r\n"


def test_a_way_within_a_way_ends_where_it_began(outage):
    with outage.slow("50ms"):
        with outage.away():
            assert "which is away" in repr(outage)
        assert "slow by 0.05 s" in repr(outage)
    assert "which is there" in repr(outage)


def test_large_values_pass_whole_through_the_switch(outage, prefix):
    with Forebay(outage.url, prefix=prefix) as bay:
        large = b"x" * 20_000_000
        bay.execute("SET", prefix + "k", large, timeout=30)
        assert bay.execute("GET", prefix + "k", timeout=30) == large


def test_a_closed_switch_leaves_no_thread_and_refuses(server):
    outage = Outage(server.url)
    outage.close()
    outage.close()
    assert not outage._thread.is_alive()
    with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", int(outage.url.split(":")[2].split("/")[0]))):
        pass


@pytest.mark.parametrize("url", ["unix:///run/x.sock", "rediss://h:1", "redis+cluster://h:1", "redis+sentinel://h:1/s/0", "embedded://"])
def test_a_switch_stands_before_one_server_on_tcp(url):
    with pytest.raises(SettingsError, match="single server on TCP"):
        Outage(url)


def test_the_switch_keeps_what_else_the_url_says():
    with Outage("redis://me:secret@127.0.0.1:1/3?cache_budget=1s") as outage:
        assert outage.url.startswith("redis://me:secret@127.0.0.1:")
        assert outage.url.endswith("/3?cache_budget=1s")
        assert "secret" not in repr(outage)


async def test_loads_are_counted_with_their_keys(either):
    cache, other = either.cache("c", ttl=60), either.cache("d", ttl=60)
    counted = getattr(cache, "wrapped", cache)
    with assert_loads(counted, 1):
        await cache.get_or_set("k", lambda: 1)
        await cache.get_or_set("k", lambda: 1)
        await other.get_or_set("k", lambda: 1)
    with assert_loads(real(either), 2):
        await cache.get_or_set("l", lambda: 1)
        await other.get_or_set("l", lambda: 1)
    with pytest.raises(AssertionError, match=r"^0 loads were expected, and there was 1: 1 in 'c' \(of 'm'\)$"), assert_loads(counted, 0):
        await cache.get_or_set("m", lambda: 1)
    with pytest.raises(AssertionError, match=r"^3 loads were expected, and there were 0: none at all$"), assert_loads(counted, 3):
        await cache.get("k")
    told = r"^1 load was expected, and there were 2: 1 in 'c' \(of 'x' \+ 'y'\), 1 in 'd' \(of 7\)$"
    with pytest.raises(AssertionError, match=told), assert_loads(real(either), 1):
        await cache.get_or_set_many(["x", "y"], lambda keys: dict.fromkeys(keys, 1))
        await other.get_or_set(7, lambda: 1)
    with assert_loads(counted, 1), pytest.raises(ZeroDivisionError):
        await cache.get_or_set("n", lambda: 1 / 0)
    assert getattr(counted, "_core", counted)._tally.tell is None, "nobody listens any more"


async def test_loads_of_caches_that_are_made_within_the_block_count(either):
    with pytest.raises(AssertionError, match="there was 1: 1 in 'late'$"), assert_loads(real(either), 0):
        await either.cache("late", ttl=60).get_or_set("k", lambda: 1)


async def test_who_listens_already_hears_of_everything_and_is_left_alone(make_either, url, prefix):
    heard = []
    bay = make_either(url, prefix=prefix, on_operation=heard.append)
    cache = bay.cache("c", ttl=60)
    with assert_loads(real(bay), 1), assert_loads(getattr(cache, "wrapped", cache), 1):
        await cache.get_or_set("k", lambda: 1)
    await cache.get("k")
    assert [type(each).__name__ for each in heard] == ["Miss", "Loaded", "Hit"]


def test_an_error_of_the_block_is_told_instead_of_the_count(sync_bay):
    with pytest.raises(ZeroDivisionError), assert_loads(sync_bay, 5):
        raise ZeroDivisionError


def test_only_caches_and_bays_can_be_counted():
    with pytest.raises(TypeError, match="not of dict"), assert_loads({}, 1):
        pass


def test_neither_forebay_nor_what_needs_no_fixture_imports_pytest():
    program = "import sys; from forebay.testing import Outage, assert_loads, moved_clock; sys.exit('pytest' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_the_names_are_all_there_in_order():
    names = forebay.testing.__all__
    assert names == sorted(names)
    assert all(getattr(forebay.testing, name) is not None for name in names)

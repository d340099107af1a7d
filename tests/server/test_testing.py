"""What `forebay.testing` gives to users' tests: time that is moved, a server that goes away, loads that are counted, fixtures."""

import subprocess
import sys
import textwrap
import threading
import time
from datetime import UTC, datetime

import pytest

import forebay.testing
from forebay import CacheMiss, Forebay, InvalidDuration, SessionNotFound, SettingsError, Unavailable
from forebay.testing import Outage, assert_loads, moved_clock


async def advance(clock, by):
    """Move it, whichever colour it is of."""
    moving = clock.advance(by)
    if moving is not None:
        await moving


def clock_of(either):
    return moved_clock(getattr(either, "wrapped", either))


def fail():
    raise OSError("no database")


async def test_an_entry_ends_when_its_ttl_has_gone_by_and_not_before(either):
    users = either.cache("user", ttl="15m")
    await users.set(1, "Ada")
    with clock_of(either) as clock:
        await advance(clock, "14m")
        assert await users.fetch(1) == "Ada"
        assert 0 < await users.ttl(1) <= 60
        await advance(clock, "61s")
        with pytest.raises(CacheMiss):
            await users.fetch(1)
        assert clock.moved == 15 * 60 + 1


async def test_what_is_kept_for_ever_stays(either):
    users = either.cache("user", ttl="1h")
    await users.set(1, "Ada", ttl=None)
    with clock_of(either) as clock:
        await advance(clock, "365d")
    assert await users.fetch(1) == "Ada"


async def test_an_entry_written_after_the_step_lives_its_whole_life(either):
    users = either.cache("user", ttl="5m", stale_if_error="5m")
    with clock_of(either) as clock:
        await advance(clock, "1h")
        await users.set(1, "Ada")
        await advance(clock, "4m")
        assert await users.fetch(1) == "Ada"


async def test_the_near_tier_ends_with_the_entry(either):
    users = either.cache("user", ttl="15m", near=100)
    await users.set(1, "Ada")
    deadline = time.monotonic() + 10
    while not users.stats().near_hits and time.monotonic() < deadline:
        assert await users.fetch(1) == "Ada"
    assert users.stats().near_hits
    with clock_of(either) as clock:
        await advance(clock, "16m")
        with pytest.raises(CacheMiss):
            await users.fetch(1)


async def test_a_stale_value_is_served_for_a_failed_load_within_its_window_and_not_beyond(either):
    users = either.cache("user", ttl="5m", stale_if_error="1h")
    await users.get_or_set(1, lambda: "Ada")
    with clock_of(either) as clock:
        await advance(clock, "6m")
        with pytest.raises(CacheMiss):
            await users.fetch(1)
        assert await users.get_or_set(1, fail) == "Ada"
        await advance(clock, "1h")
        with pytest.raises(OSError, match="no database"):
            await users.get_or_set(1, fail)


async def test_a_tagged_entry_ages_and_its_tags_live_on(either):
    users = either.cache("user", ttl="15m")
    await users.get_or_set(1, lambda: "Ada", tags=["team:7"])
    with clock_of(either) as clock:
        for _ in range(3):
            await advance(clock, "4m")
            assert await users.fetch(1) == "Ada"
        await advance(clock, "2d")
        await users.get_or_set(2, lambda: "Grace", tags=["team:7"])
        assert await users.fetch(2) == "Grace"
        await users.invalidate_tags("team:7")
        assert await users.get(2) is None


async def test_a_session_ends_when_it_was_idle_or_at_its_absolute_end(either):
    sessions = either.sessions(idle_timeout="30m", absolute_timeout="1h")
    idle, busy = await sessions.create(user_id="42"), await sessions.create(user_id="42")
    with clock_of(either) as clock:
        for _ in range(2):
            await advance(clock, "20m")
            found = await sessions.load(busy.id)
            assert (datetime.now(UTC) - found.created_at).total_seconds() >= clock.moved - 1
            found["seen"] = clock.moved
            await sessions.save(found)
        with pytest.raises(SessionNotFound):
            await sessions.load(idle.id)
        assert (await sessions.load(busy.id))["seen"] == 2400
        await advance(clock, "21m")  # 61 minutes after it began, 21 after it was used
        with pytest.raises(SessionNotFound):
            await sessions.load(busy.id)
        later = await sessions.create(user_id="42")
        assert (await sessions.load(later.id)).user_id == "42"


async def test_a_lease_from_before_the_step_has_ended(either):
    users = either.cache("user", ttl="15m", lease="30s")
    with clock_of(either) as clock:
        await either.execute("SET", either.prefix + "user:1", b"\x02" + b"x" * 8, "PX", 30_000)  # a load elsewhere
        await advance(clock, "31s")
        with assert_loads(users, 1):
            assert await users.get_or_set(1, lambda: "Ada") == "Ada"


async def test_only_the_prefix_of_the_bay_grows_older(either):
    await either.execute("SET", f"beside-{either.prefix}a", "1", "PX", 60_000)
    await either.execute("SET", f"{either.prefix}a", "1", "PX", 60_000)
    with clock_of(either) as clock:
        await advance(clock, "5m")
    assert await either.execute("EXISTS", f"{either.prefix}a") == 0
    assert await either.execute("PTTL", f"beside-{either.prefix}a") > 30_000


def test_a_prefix_is_no_pattern(url):
    with Forebay(url, prefix="a?c[x]*:") as odd, Forebay(url, prefix="abcx*:") as other:
        for bay in (odd, other):
            bay.execute("SET", f"{bay.prefix}key", "1", "PX", 60_000)
        with moved_clock(odd) as clock:
            clock.advance("5m")
        assert (odd.execute("EXISTS", "a?c[x]*:key"), other.execute("EXISTS", "abcx*:key")) == (0, 1)
        other.execute("UNLINK", "abcx*:key")


def test_many_keys_grow_older_each_once(sync_bay):
    sync_bay.cache("user", ttl="1h").set_many({number: number for number in range(3000)})
    with moved_clock(sync_bay) as clock:
        clock.advance("20m")
    left = sync_bay.pipeline([("PTTL", f"{sync_bay.prefix}user:{number}") for number in range(3000)])
    assert min(left) > 38 * 60_000
    assert max(left) <= 40 * 60_000


def test_a_clock_needs_a_prefix_and_a_single_server_and_goes_forward(url, prefix):
    with Forebay(url) as bay, pytest.raises(SettingsError, match="prefix="):
        moved_clock(bay)
    with pytest.raises(SettingsError, match="cluster"):
        moved_clock(Forebay("redis+cluster://127.0.0.1:1", prefix=prefix))
    with Forebay(url, prefix=prefix) as bay, moved_clock(bay) as clock, pytest.raises(InvalidDuration):
        clock.advance("-1s")


def test_away_refuses_and_ends_what_was_connected(url, prefix):
    with Outage(url) as outage, Forebay(outage.url, prefix=prefix) as bay:
        users = bay.cache("user", ttl="15m")
        users.set(1, "Ada")
        with outage.away():
            assert users.get(1) is None
            with pytest.raises(Unavailable):
                users.delete(1)
        deadline = time.monotonic() + 10
        while users.get(1) is None and time.monotonic() < deadline:  # until the breaker asks again
            threading.Event().wait(0.02)
        assert users.get(1) == "Ada"


def test_slow_costs_a_reply_its_delay_once(url):
    with Outage(url) as outage, Forebay(outage.url) as bay:
        bay.ping()
        with outage.slow("150ms"):
            assert bay.ping() >= 0.145
            began = time.monotonic()
            bay.pipeline([("PING",)] * 50)
            assert 0.145 <= time.monotonic() - began < 2.5


def test_hung_answers_nothing_until_it_ends(url):
    with Outage(url) as outage, Forebay(outage.url) as bay:
        bay.ping()
        answered = threading.Event()

        def ask():
            bay.execute("PING", timeout=10)
            answered.set()

        asking = threading.Thread(target=ask)
        with outage.hung():
            asking.start()
            assert not answered.wait(0.2)
        assert answered.wait(10)
        asking.join()


def test_one_outage_at_a_time(url):
    with Outage(url) as outage, outage.slow("1ms"), pytest.raises(RuntimeError, match="one block at a time"), outage.away():
        pass


@pytest.mark.parametrize("other", ["unix:///tmp/x.sock", "rediss://localhost:6379/0", "redis+cluster://localhost:6379"])
def test_an_outage_stands_before_one_server_on_plain_tcp(other):
    with pytest.raises(SettingsError, match=r"redis://127\.0\.0\.1"):
        Outage(other)


def test_the_url_through_keeps_credentials_and_database():
    with Outage("redis://ada:secret@127.0.0.1:1/3") as outage:
        assert outage.url.startswith("redis://ada:secret@127.0.0.1:")
        assert outage.url.endswith("/3")
        assert "secret" not in repr(outage)


async def test_loads_are_counted_exactly(either):
    users = either.cache("user", ttl="15m")
    with assert_loads(users, 1):
        await users.get_or_set(1, lambda: "Ada")
        await users.get_or_set(1, lambda: "Ada")
    with pytest.raises(AssertionError, match=r"expected 1 runs of loaders, saw 0"), assert_loads(users, 1):
        await users.get_or_set(1, lambda: "Ada")
    with assert_loads(users, 1), pytest.raises(OSError, match="no database"):
        await users.get_or_set(2, fail)


async def test_the_loads_of_a_bay_are_those_of_all_its_caches_and_the_failure_names_them(either):
    with pytest.raises(AssertionError, match=r"expected 1 .* saw 3 \(post: 1, user: 2\)"), assert_loads(either, 1):
        for number in (1, 2):
            await either.cache("user", ttl="15m").get_or_set(number, lambda: "Ada")
        await either.cache("post", ttl="15m").get_or_set(1, lambda: "Hello")


def test_what_the_block_raises_is_not_hidden(sync_bay):
    with pytest.raises(KeyError, match="mine"), assert_loads(sync_bay, 5):
        raise KeyError("mine")


SYNC = """
    import pytest
    from forebay.testing import assert_loads, moved_clock

    seen = set()

    @pytest.mark.parametrize("turn", range(3))
    def test_each_has_a_namespace(forebay_sync_bay, forebay_prefix, turn):
        assert forebay_sync_bay.prefix == forebay_prefix and forebay_prefix not in seen
        seen.add(forebay_prefix)
        users = forebay_sync_bay.cache("user", ttl="5m")
        with assert_loads(users, 1):
            users.get_or_set(1, lambda: turn)
        with moved_clock(forebay_sync_bay) as clock:
            clock.advance("6m")
        assert users.get(1) is None

    def test_behind_the_switch(forebay_sync_bay, forebay_outage, forebay_url):
        assert forebay_outage.url != forebay_url
        users = forebay_sync_bay.cache("user", ttl="5m")
        users.set(1, "Ada")
        with forebay_outage.away():
            assert users.get(1) is None
"""
ASYNC = """
    import pytest
    from forebay.testing import assert_loads, moved_clock

    {mark}
    @pytest.mark.parametrize("turn", range(3))
    async def test_loads_and_ages(forebay_bay, forebay_prefix, turn):
        assert forebay_bay.prefix == forebay_prefix
        users = forebay_bay.cache("user", ttl="5m", near=10)
        with assert_loads(users, 1):
            assert await users.get_or_set(1, lambda: turn) == turn
        with moved_clock(forebay_bay) as clock:
            await clock.advance("6m")
        assert await users.get(1) is None

    {mark}
    async def test_behind_the_switch(forebay_outage, forebay_bay):
        users = forebay_bay.cache("user", ttl="5m")
        await users.set(1, "Ada")
        with forebay_outage.hung():
            assert await users.get(1) is None
"""
STRICT = ["-o", "asyncio_mode=strict"]


@pytest.mark.parametrize(
    ("body", "options"),
    [
        pytest.param(SYNC, [], id="threads"),
        pytest.param(SYNC, ["-n", "2"], id="threads, with xdist"),
        pytest.param(ASYNC.format(mark=""), ["-o", "asyncio_mode=auto"], id="pytest-asyncio, auto"),
        pytest.param(ASYNC.format(mark="@pytest.mark.asyncio"), STRICT, id="pytest-asyncio, strict"),
        pytest.param(ASYNC.format(mark="@pytest.mark.anyio"), STRICT, id="anyio"),
    ],
)
def test_the_fixtures_work_in_a_suite_of_somebody_else(tmp_path, body, options):
    conftest = 'import pytest\n\npytest_plugins = ["forebay.testing"]\n\n\n@pytest.fixture\ndef anyio_backend():\n    return "asyncio"\n'
    (tmp_path / "conftest.py").write_text(conftest)
    (tmp_path / "test_theirs.py").write_text(textwrap.dedent(body))
    scope = ["-o", "asyncio_default_fixture_loop_scope=function"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "--rootdir", tmp_path, *scope, *options, tmp_path],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 passed" in done.stdout


def test_forebay_itself_imports_no_pytest():
    program = "import sys, forebay.bay; from forebay import Forebay, AsyncForebay; print('pytest' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_names_are_all_there_in_order():
    names = forebay.testing.__all__
    assert names == sorted(names)
    assert all(getattr(forebay.testing, name) is not None for name in names)

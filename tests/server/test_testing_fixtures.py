"""The fixtures in somebody else's suite: a pytest of its own, warnings as errors, under each plugin that runs async tests."""

import os
import subprocess
import sys
import textwrap

import pytest

CONFTEST = """
from forebay.testing import Outage  # before the plugin is registered, as it may be
pytest_plugins = ["forebay.testing"]
"""
THREADS = """
import asyncio, pytest
from forebay import AsyncForebay, Forebay
from forebay.testing import assert_loads, moved_clock

def test_a_bay_for_threads(forebay_sync_bay, forebay_prefix):
    cache = forebay_sync_bay.cache("user", ttl="15m")
    with assert_loads(cache, 1):
        cache.get_or_set(1, lambda: "Ada")
        cache.get_or_set(1, lambda: "Ada")
    assert forebay_sync_bay.execute("GET", f"{forebay_prefix}user:1") == b'"Ada"'

@pytest.mark.parametrize("turn", [1, 2])
def test_tests_do_not_meet(forebay_sync_bay, turn):
    cache = forebay_sync_bay.cache("user", ttl="15m")
    assert cache.get(1) is None
    cache.set(1, turn)

def test_a_loop_of_ones_own(forebay_bay):
    async def work():
        async with forebay_bay as bay:
            cache = bay.cache("user", ttl="15m")
            await cache.set(1, "Ada")
            with moved_clock(bay) as clock:
                await clock.advance("16m")
                assert await cache.get(1) is None
    asyncio.run(work())

def test_the_switch_stands_before_the_bays_of_its_test(forebay_outage, forebay_sync_bay, forebay_route, forebay_server):
    cache = forebay_sync_bay.cache("user", ttl="15m")
    cache.set(1, "Ada")
    assert forebay_route == forebay_outage.url
    assert forebay_sync_bay.settings.cache_budget == 1
    with forebay_outage.away():
        assert cache.get_or_set(1, lambda: "Grace") == "Grace"
        with Forebay(forebay_server.url) as direct:
            direct.ping()
    assert cache.get(1) == "Ada"

def test_without_the_switch_there_is_none(forebay_route, forebay_url):
    assert forebay_route == forebay_url
"""
ASYNC = """
import asyncio, pytest
from forebay import AsyncForebay
from forebay.testing import assert_loads, moved_clock

pytestmark = [MARK]

@pytest.mark.parametrize("turn", [1, 2])
async def test_a_bay_of_the_tests_loop(forebay_bay, turn):
    assert forebay_bay.stats().wire.connections == 1, "it is connected, and on this loop"
    cache = forebay_bay.cache("user", ttl="15m")
    with assert_loads(cache, 1):
        await asyncio.gather(*(cache.get_or_set(1, lambda: turn) for _ in range(5)))
    assert await cache.get(1) == turn
    assert forebay_bay.stats().wire.connections == 1
    with moved_clock(forebay_bay) as clock:
        await clock.advance("16m")
    assert await cache.get(1) is None

async def test_the_switch_stands_before_it(forebay_bay, forebay_outage):
    cache = forebay_bay.cache("user", ttl="15m")
    await cache.set(1, "Ada")
    with forebay_outage.away():
        assert await cache.get_or_set(1, lambda: "Grace") == "Grace"
    assert await cache.get(1) == "Ada"

@pytest.fixture
def users(forebay_bay):
    return forebay_bay.cache("user", ttl="15m")

async def test_what_is_built_on_it(users):
    await users.set(1, "Ada")
    assert await users.get(1) == "Ada"
"""
BACKEND = """
@pytest.fixture
def anyio_backend():
    return "asyncio"
"""


def run(folder, suite, *options, conftest=CONFTEST):
    (folder / "conftest.py").write_text(conftest)
    (folder / "test_mine.py").write_text(textwrap.dedent(suite))
    loops = "" if "no:asyncio" in options else "asyncio_default_fixture_loop_scope = function\n"
    (folder / "pytest.ini").write_text(f"[pytest]\n{loops}filterwarnings = error\n")
    command = [sys.executable, "-X", "dev", "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, str(folder)]
    theirs = {name: value for name, value in os.environ.items() if not name.startswith("REDIS_")}
    ran = subprocess.run(command, capture_output=True, text=True, timeout=100, cwd=folder, check=False, env=theirs)
    return ran.returncode, ran.stdout + ran.stderr


@pytest.mark.parametrize("options", [[], ["-p", "no:asyncio", "-p", "no:anyio"], ["-n", "2"]], ids=["all", "none", "xdist"])
def test_threads_and_loops_of_ones_own(tmp_path, options):
    code, told = run(tmp_path, THREADS, *options)
    assert code == 0, told
    assert "6 passed" in told


@pytest.mark.parametrize("mode", ["auto", "strict"])
def test_under_pytest_asyncio(tmp_path, mode):
    code, told = run(tmp_path, ASYNC.replace("MARK", "pytest.mark.asyncio"), f"--asyncio-mode={mode}")
    assert code == 0, told
    assert "4 passed" in told


@pytest.mark.parametrize("options", [[], ["-p", "no:asyncio"]], ids=["beside", "alone"])
def test_under_anyio(tmp_path, options):
    code, told = run(tmp_path, ASYNC.replace("MARK", "pytest.mark.anyio") + BACKEND, *options)
    assert code == 0, told
    assert "4 passed" in told


def test_trio_is_refused_with_the_remedy(tmp_path):
    suite = ASYNC.replace("MARK", "pytest.mark.anyio") + BACKEND.replace('"asyncio"', '"trio"')
    code, told = run(tmp_path, suite, "-p", "no:asyncio")
    assert code == 1
    assert "define a fixture anyio_backend that returns 'asyncio'" in told
    assert "- Failed: Forebay" in told


def test_a_url_of_ones_own_starts_no_server(tmp_path, url):
    conftest = CONFTEST + f"import pytest\n@pytest.fixture\ndef forebay_url():\n    return {url!r}\n"
    suite = f"def test_it(forebay_sync_bay):\n    assert forebay_sync_bay.settings.where == {url!r}\n"
    code, told = run(tmp_path, suite, "--setup-show", conftest=conftest)
    assert code == 0, told
    assert "forebay_server" not in told

"""Fixtures for pytest: one private server for a run (for each worker, with xdist), and a prefix of its own for each test.

An async fixture belongs to the plugin that runs the test: pytest-asyncio in both of its modes, or anyio. None of them is needed.
"""

from __future__ import annotations

import inspect
import os
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from ..bay import AsyncForebay, Forebay
from ..wire.embedded import EmbeddedServer
from .outage import Outage

__all__ = [
    "forebay_bay",
    "forebay_outage",
    "forebay_prefix",
    "forebay_route",
    "forebay_server",
    "forebay_sync_bay",
    "forebay_url",
]

_asyncio_fixture: Callable[[Callable[..., AsyncIterator[AsyncForebay]]], Any] = pytest.fixture
try:
    import pytest_asyncio
except ModuleNotFoundError:  # then no test is run by it, and nobody asks for its fixture
    pass
else:
    _asyncio_fixture = pytest_asyncio.fixture


@pytest.fixture(scope="session")
def forebay_server() -> Iterator[EmbeddedServer]:
    """A private Valkey (``forebay[embedded]``), or what ``FOREBAY_SERVER`` names."""
    with EmbeddedServer(port=0) as server:
        yield server


@pytest.fixture
def forebay_url(request: pytest.FixtureRequest) -> str:
    """The private server's URL. Define a fixture of this name to test against another server."""
    server: EmbeddedServer = request.getfixturevalue("forebay_server")
    # A machine that is busy with tests is no outage: a second, if nobody says otherwise, before a cache or a limit gives the server up.
    times = {"REDIS_CACHE_BUDGET": "cache_budget=1s", "REDIS_LIMIT_DEADLINE": "limit_deadline=1s"}
    query = "&".join(text for variable, text in times.items() if variable not in os.environ)
    return server.url + (f"?{query}" if query else "")


@pytest.fixture
def forebay_prefix() -> str:
    """A prefix that no other test has."""
    return f"test:{uuid.uuid4().hex[:12]}:"


@pytest.fixture
def forebay_outage(forebay_url: str) -> Iterator[Outage]:
    """A switch before the server; the bays of a test that asks for it stand behind it."""
    with Outage(forebay_url) as outage:
        yield outage


@pytest.fixture
def forebay_route(request: pytest.FixtureRequest) -> str:
    """The URL for bays that a test makes itself: through the switch, if the test asks for that."""
    switched = "forebay_outage" in request.fixturenames
    url: str = request.getfixturevalue("forebay_outage").url if switched else request.getfixturevalue("forebay_url")
    return url


@pytest.fixture
def forebay_sync_bay(request: pytest.FixtureRequest, forebay_route: str, forebay_prefix: str) -> Iterator[Forebay]:
    """A connected bay for threads."""
    with Forebay(forebay_route, prefix=forebay_prefix) as bay:
        _told(request, bay)
        yield bay


@pytest.fixture
def forebay_bay(request: pytest.FixtureRequest, forebay_route: str, forebay_prefix: str) -> AsyncForebay:
    """A bay for asyncio: connected on the loop of an async test, and closed there. Other tests open it with ``async with``."""
    bay: AsyncForebay
    if "anyio_backend" in request.fixturenames:
        backend = request.getfixturevalue("anyio_backend")
        if (backend if isinstance(backend, str) else backend[0]) != "asyncio":
            pytest.fail("Forebay runs on asyncio alone: define a fixture anyio_backend that returns 'asyncio'", pytrace=False)
        bay = request.getfixturevalue("_forebay_bay_of_anyio")
    elif request.config.pluginmanager.has_plugin("asyncio") and _is_async(request.function):
        bay = request.getfixturevalue("_forebay_bay_of_asyncio")
    else:
        bay = AsyncForebay(forebay_route, prefix=forebay_prefix)
    _told(request, bay)
    return bay


@_asyncio_fixture
async def _forebay_bay_of_asyncio(forebay_route: str, forebay_prefix: str) -> AsyncIterator[AsyncForebay]:
    async with AsyncForebay(forebay_route, prefix=forebay_prefix) as bay:
        yield bay


@pytest.fixture
async def _forebay_bay_of_anyio(forebay_route: str, forebay_prefix: str) -> AsyncIterator[AsyncForebay]:
    async with AsyncForebay(forebay_route, prefix=forebay_prefix) as bay:
        yield bay


def _told(request: pytest.FixtureRequest, bay: AsyncForebay | Forebay) -> None:
    if "forebay_outage" in request.fixturenames:
        request.getfixturevalue("forebay_outage").add(bay)


def _is_async(function: Any) -> bool:
    return inspect.iscoroutinefunction(getattr(getattr(function, "hypothesis", None), "inner_test", function))

"""Real servers for every test: one private Valkey (or what FOREBAY_SERVER names) per worker, a prefix of its own per test."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from typing import Any

import pytest

from forebay import AsyncForebay, EmbeddedServer, Forebay
from forebay.colours import complete
from tests.either import Either, older
from tests.immortal import Scanner
from tests.own_clients import Kind, ended

CONFIGURED = ("REDIS_", "DATABASE_URL", "HOST", "PORT")
COLOURS = ("asyncio", "threads")
BEHAVIOUR = ("test_cache", "test_outage", "test_scripts", "test_single_flight")  # the same over a client of one's own
OWN_CLIENTS = {
    "asyncio over redis-py": Kind("redis", "asyncio", protocol=3, decodes=True),
    "threads over redis-py": Kind("redis", "threads", protocol=2),
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run tests in each colour, and the tests of behaviour over clients of one's own as well."""
    more = list(OWN_CLIENTS) if metafunc.module.__name__.rpartition(".")[2] in BEHAVIOUR else []
    wanted = {"either", "make_either"} & set(metafunc.fixturenames)
    for name in sorted(wanted):
        metafunc.parametrize(name, [*COLOURS, *more], indirect=True)
    if more and not wanted:
        for name, colour in (("bay", "asyncio"), ("sync_bay", "threads")):
            if name in metafunc.fixturenames:
                metafunc.parametrize(name, [colour, f"{colour} over redis-py"], indirect=True)


MORTAL = ("session", "token", "account", "litestar", "bearer", "limit", "hit_all")  # in the names of tests


class Opener:
    """Makes bays of one colour, over Forebay's own wire or over a client made for it; *finish* closes both."""

    def __init__(self, what: str) -> None:
        self._kind = OWN_CLIENTS.get(what)
        self._class: Any = AsyncForebay if what.startswith("asyncio") else Forebay
        self._made: list[Any] = []
        self._clients: list[Any] = []

    def open(self, url: str | None = None, **options: Any) -> Any:
        """Return a bay that is not connected yet."""
        if self._kind is None:
            bay = self._class(*() if url is None else (url,), **options)
        else:
            assert url is not None
            self._clients.append(self._kind.client(url, **self._kind.patient))
            bay = self._class(client=self._clients[-1], **options)
        self._made.append(bay if self._class is AsyncForebay else Either(bay))
        return self._made[-1]

    async def finish(self) -> None:
        for bay in self._made:
            await bay.close()
        for client in self._clients:
            await ended(client)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads the settings of the shell that started it."""
    import os

    for variable in list(os.environ):
        if variable.startswith(CONFIGURED):
            monkeypatch.delenv(variable)
    for variable in ("REDIS_CACHE_BUDGET", "REDIS_LIMIT_DEADLINE"):
        monkeypatch.setenv(variable, "2s")  # a busy machine is no outage; the tests of these times set their own


@pytest.fixture(scope="session")
def server() -> Iterator[EmbeddedServer]:
    with EmbeddedServer(port=0) as running:
        yield running


@pytest.fixture(autouse=True)
def no_immortal_keys(request: pytest.FixtureRequest) -> Iterator[None]:
    """No test of sessions, tokens or limits leaves a key without a lifetime behind."""
    watched = "url" in request.fixturenames and any(word in request.node.nodeid for word in MORTAL)
    server = request.getfixturevalue("server") if watched else None
    yield
    if server is not None:
        assert Scanner(server).look() == set(), "keys without a lifetime"


@pytest.fixture
def url(server: EmbeddedServer) -> str:
    return server.url


@pytest.fixture
def prefix() -> str:
    return f"t{uuid.uuid4().hex[:12]}:"


@pytest.fixture
async def bay(request: pytest.FixtureRequest, url: str, prefix: str) -> AsyncIterator[AsyncForebay]:
    opener = Opener(getattr(request, "param", "asyncio"))
    yield await opener.open(url, prefix=prefix).connect()
    await opener.finish()


@pytest.fixture
def sync_bay(request: pytest.FixtureRequest, url: str, prefix: str) -> Iterator[Forebay]:
    opener = Opener(getattr(request, "param", "threads"))
    yield opener.open(url, prefix=prefix).wrapped.connect()
    complete(opener.finish())


@pytest.fixture
async def either(request: pytest.FixtureRequest, url: str, prefix: str) -> AsyncIterator[Any]:
    """A connected bay of each colour in turn, to be awaited in both."""
    opener = Opener(request.param)
    yield await opener.open(url, prefix=prefix).connect()
    await opener.finish()


@pytest.fixture
async def make_either(request: pytest.FixtureRequest) -> AsyncIterator[Callable[..., Any]]:
    """A maker of unconnected bays of each colour in turn; they are closed at the end."""
    opener = Opener(request.param)
    yield opener.open
    await opener.finish()


@pytest.fixture
def advance(either: Any) -> Callable[[str], Awaitable[None]]:
    """A function that lets time pass for `either`."""
    return partial(older, either)

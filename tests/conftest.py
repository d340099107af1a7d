"""Real servers for every test: one private Valkey (or what FOREBAY_SERVER names) per worker, a prefix of its own per test."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest

from forebay import AsyncForebay, EmbeddedServer, Forebay

CONFIGURED = ("REDIS_", "DATABASE_URL", "HOST", "PORT")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads the settings of the shell that started it."""
    import os

    for variable in list(os.environ):
        if variable.startswith(CONFIGURED):
            monkeypatch.delenv(variable)


@pytest.fixture(scope="session")
def server() -> Iterator[EmbeddedServer]:
    with EmbeddedServer(port=0) as running:
        yield running


@pytest.fixture
def url(server: EmbeddedServer) -> str:
    return server.url


@pytest.fixture
def prefix() -> str:
    return f"t{uuid.uuid4().hex[:12]}:"


@pytest.fixture
async def bay(url: str, prefix: str) -> AsyncIterator[AsyncForebay]:
    async with AsyncForebay(url, prefix=prefix) as opened:
        yield opened


@pytest.fixture
def sync_bay(url: str, prefix: str) -> Iterator[Forebay]:
    with Forebay(url, prefix=prefix) as opened:
        yield opened


class Either:
    """A sync object under async names, so that one test body holds both colours: every method's result can be awaited."""

    def __init__(self, wrapped: Any) -> None:
        self.wrapped = wrapped

    def __getattr__(self, name: str) -> Any:
        member = getattr(self.wrapped, name)
        if not callable(member) or name in ("stats", "cache"):
            if name == "cache":
                return lambda *args, **options: Either(member(*args, **options))
            return member

        async def call(*args: Any, **options: Any) -> Any:
            result = member(*args, **options)
            return self if result is self.wrapped else result

        return call


@pytest.fixture(params=["asyncio", "threads"])
async def either(request: pytest.FixtureRequest, url: str, prefix: str) -> AsyncIterator[Any]:
    """A connected bay of each colour in turn, to be awaited in both."""
    if request.param == "asyncio":
        async with AsyncForebay(url, prefix=prefix) as opened:
            yield opened
    else:
        with Forebay(url, prefix=prefix) as sync:
            yield Either(sync)


MakeBay = Callable[..., Awaitable[Any]]


@pytest.fixture(params=["asyncio", "threads"])
async def make_either(request: pytest.FixtureRequest) -> AsyncIterator[Callable[..., Any]]:
    """A maker of unconnected bays of each colour in turn; they are closed at the end."""
    made: list[Any] = []

    def make(*args: Any, **options: Any) -> Any:
        bay: Any = AsyncForebay(*args, **options) if request.param == "asyncio" else Either(Forebay(*args, **options))
        made.append(bay)
        return bay

    yield make
    for bay in made:
        await bay.close()

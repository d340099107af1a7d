"""Callers are cancelled at random moments, again and again, and no reply ever reaches another caller, nor costs the connection.

``FOREBAY_OPERATIONS`` says how many operations; every value names its key, and every token its call. ``-s`` shows the summary.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from random import Random

import pytest

from forebay import AsyncForebay, EmbeddedServer
from tests.proxy import Dribble, proxy_to

OPERATIONS = int(os.environ.get("FOREBAY_OPERATIONS", "30_000"))
CALLERS = 64
KEYS = 32


class Callers:
    """They call and are cancelled; ``crossed`` holds each reply that does not belong to its call."""

    def __init__(self, bay: AsyncForebay, prefix: str, longest_wait: float) -> None:
        self.ended = 0
        self.cancelled = 0
        self.crossed: list[str] = []
        self._bay = bay
        self._prefix = prefix
        self._longest_wait = longest_wait
        self._cache = bay.cache("c", type=str, ttl="1h", on_outage="raise")
        self._steps: list[Callable[[Random, str], Awaitable[None]]] = [
            self._echo,
            self._get,
            self._set,
            self._cache_set,
            self._cache_delete,
            self._get_or_set,
            self._get_many,
            self._set_many,
        ]

    async def work(self, caller: int, operations: int) -> None:
        """Run so many operations, and cancel two in five of them at some moment of their lives, or before, or after."""
        draw = Random(caller)
        loop = asyncio.get_running_loop()
        for number in range(operations):
            call = asyncio.ensure_future(draw.choice(self._steps)(draw, f"{caller}.{number}"))
            fate = draw.random()
            if fate < 0.2:
                for _ in range(draw.randrange(8)):
                    await asyncio.sleep(0)
                call.cancel()
            elif fate < 0.4:
                loop.call_later(draw.random() * self._longest_wait, call.cancel)
            await asyncio.wait([call])
            self.ended += 1
            if call.cancelled():
                self.cancelled += 1
            else:
                call.result()

    async def _echo(self, draw: Random, token: str) -> None:
        reply = await self._bay.execute("ECHO", token)
        if reply != token.encode():
            self.crossed.append(f"ECHO {token}: {reply!r:.100}")

    async def _get(self, draw: Random, token: str) -> None:
        key = f"{self._prefix}{draw.randrange(KEYS)}"
        self._check("GET", key, await self._bay.execute("GET", key))

    async def _set(self, draw: Random, token: str) -> None:
        key = f"{self._prefix}{draw.randrange(KEYS)}"
        self._check("SET", key, await self._bay.execute("SET", key, f"{key}={token}", "GET"))

    async def _cache_set(self, draw: Random, token: str) -> None:
        key = f"k{draw.randrange(KEYS)}"
        await self._cache.set(key, f"{key}={token}")

    async def _cache_delete(self, draw: Random, token: str) -> None:
        deleted = await self._cache.delete(f"k{draw.randrange(KEYS)}")
        if deleted not in (0, 1):
            self.crossed.append(f"delete: {deleted!r:.100}")

    async def _get_or_set(self, draw: Random, token: str) -> None:
        key = f"k{draw.randrange(KEYS)}"

        async def load() -> str:
            await asyncio.sleep(0)
            return f"{key}={token}"

        self._check("get_or_set", key, await self._cache.get_or_set(key, load))

    async def _get_many(self, draw: Random, token: str) -> None:
        keys = [f"k{number}" for number in draw.sample(range(KEYS), 4)]
        for key, value in (await self._cache.get_many(keys)).items():
            self._check("get_many", str(key) if key in keys else "another", value)

    async def _set_many(self, draw: Random, token: str) -> None:
        keys = [f"k{number}" for number in draw.sample(range(KEYS), 3)]
        await self._cache.set_many({key: f"{key}={token}" for key in keys})

    def _check(self, what: str, key: str, reply: object) -> None:
        text = reply.decode() if isinstance(reply, bytes) else reply
        if text is not None and not (isinstance(text, str) and text.startswith(f"{key}=")):
            self.crossed.append(f"{what} {key}: {reply!r:.100}")


@pytest.mark.timeout(120 + OPERATIONS // 500)
@pytest.mark.parametrize(
    ("dribbling", "operations", "longest_wait"), [(False, OPERATIONS, 0.003), (True, OPERATIONS // 10, 0.03)], ids=["direct", "dribbling"]
)
async def test_cancellations_cross_no_replies(
    server: EmbeddedServer, prefix: str, dribbling: bool, operations: int, longest_wait: float
) -> None:
    tasks = asyncio.all_tasks()
    with ExitStack() as stack:
        url = server.url
        if dribbling:
            proxy = stack.enter_context(proxy_to(server.address()))
            proxy.fault = Dribble()
            url = proxy.url
        # a pause of the machine must not look like an outage here
        async with AsyncForebay(url + "?read_timeout=30s&write_timeout=30s&dial_timeout=30s", prefix=prefix) as bay:
            callers = Callers(bay, prefix, longest_wait)
            await asyncio.gather(*(callers.work(caller, -(-operations // CALLERS)) for caller in range(CALLERS)))
            await bay.ping()
            wire = bay.stats().wire
        print(f"\n{callers.ended:,} operations, {callers.cancelled:,} cancelled, {len(callers.crossed):,} crossed")
    assert callers.crossed == []
    assert callers.cancelled > callers.ended // 20
    assert callers.cancelled < callers.ended
    assert (wire.in_flight, wire.dropped) == (0, 0)
    assert asyncio.all_tasks() <= tasks

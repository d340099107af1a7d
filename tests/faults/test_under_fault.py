"""Many callers through a network that breaks and heals: no wrong reply, no call without an end, no error but `Unavailable`, no leak.

Every value names its key, and every token its call, so that a crossed reply is seen at once.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import pytest

from forebay import AsyncForebay, EmbeddedServer, Unavailable
from tests.proxy import Corrupt, Cut, Delay, Dribble, Drop, Fault, Proxy, Refuse, Stall, proxy_to

TASKS, THREADS = 64, 32
KEYS = 16
QUICK = "?read_timeout=300ms&dial_timeout=300ms&write_timeout=300ms"
LONGEST_CALL = 2.0  # 0.3 s to read and 0.3 s to dial; the rest is for a machine that has other work
FAULT_LASTS = 0.5  # with the round that follows: longer than a connection may be silent
HEALED_WITHIN = 1.5  # 0.4 s of an open breaker and 0.3 s to dial; the rest, as above, is for a machine that has other work

FAULTS = {
    "replies late": Delay(to_client=0.02),
    "commands late": Delay(to_server=0.02),
    "replies later than the deadline": Delay(to_client=0.4),
    "dribbling": Dribble(),
    "every fifth reply cut": Cut(after=2, every=5),
    "every reply cut": Cut(after=1),
    "every fifth reply corrupted": Corrupt(every=5),
    "every reply corrupted": Corrupt(),
    "replies lost": Drop(to_client=True),
    "commands lost": Drop(to_server=True),
    "refused": Refuse(),
    "stalled": Stall(),
}
STRAYS = {
    "a reply": b"$5\r\nalien\r\n",
    "two replies": b"$5\r\nalien\r\n:1\r\n",
    "half a text": b"$5\r\nali",
    "half an array": b"*2\r\n$5\r\nalien\r\n",
    "the head of an array": b"*2\r\n",
    "one byte": b"+",
}


class Crowd:
    """Callers that read and write until told to stop. What must never happen is collected in ``wrong`` and ``slow``."""

    def __init__(self, bay: Any, prefix: str) -> None:
        self.bay = bay
        self.size = TASKS if isinstance(bay, AsyncForebay) else THREADS
        self.wrong: list[str] = []
        self.slow: list[str] = []
        self.failures: Counter[str] = Counter()
        self.tried: defaultdict[str, set[str]] = defaultdict(set)
        self._prefix = prefix
        self._cache = bay.cache("c", type=str, ttl="1h", on_outage="raise")
        self._ended = [0] * self.size
        self._counts_tried = [0] * self.size
        self._counted = [0] * self.size
        self._over = threading.Event()
        self._steps: list[Callable[[str, str], Awaitable[None]]] = [
            self._echo,
            self._get,
            self._set,
            self._cache_get,
            self._cache_set,
            self._cache_get_many,
            self._count,
        ]

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """All callers work within the block; each ends its last call after it. Errors other than `Unavailable` come out here."""
        self._over.clear()
        with ThreadPoolExecutor(self.size) as pool:
            if isinstance(self.bay, AsyncForebay):
                calls: list[asyncio.Future[None]] = [
                    asyncio.ensure_future(self._work(caller, asyncio.sleep)) for caller in range(self.size)
                ]
            else:
                loop = asyncio.get_running_loop()
                calls = [loop.run_in_executor(pool, finish, self._work(caller, sleep)) for caller in range(self.size)]
            try:
                yield
            finally:
                self._over.set()
                await asyncio.wait_for(asyncio.gather(*calls), 2 * LONGEST_CALL)

    async def round(self) -> None:
        """Wait until every caller has begun and ended a call from now on."""
        before = list(self._ended)
        # by two: the first one may have begun earlier
        await eventually(lambda: all(now >= then + 2 for now, then in zip(self._ended, before, strict=True)), 3 * LONGEST_CALL)

    async def heals(self, seconds: float) -> None:
        """Read until it succeeds, which must be soon."""
        began = time.monotonic()
        last: Unavailable | None = None
        while True:
            took = time.monotonic() - began
            assert took < seconds, f"after {took:.2f} s a read still fails: {last!r}"
            try:
                await self._get(f"{self._prefix}k1", "")
            except Unavailable as error:
                last = error
                await asyncio.sleep(0.005)
            else:
                break
        took = time.monotonic() - began
        assert took < seconds, f"the first read to succeed took until {took:.2f} s; before it came {last!r}"

    async def check_what_is_stored(self) -> None:
        """A write that failed may have been applied or not; nothing else may be there."""
        for number in range(KEYS):
            key = f"k{number}"
            await self._get(f"{self._prefix}{key}", "")
            await self._cache_get(key, "")
        for caller in range(self.size):
            stored = int(await self.bay.execute("GET", f"{self._prefix}n{caller}") or 0)
            counted, tried = self._counted[caller], self._counts_tried[caller]
            if not counted <= stored <= tried:
                self.wrong.append(f"{counted} of {tried} INCR succeeded, and {stored} ran")

    async def _work(self, caller: int, pause: Callable[[float], Awaitable[None]]) -> None:
        draw = Random(caller)
        while not self._over.is_set():
            step = draw.choice(self._steps)
            key = f"k{draw.randrange(KEYS)}"
            if step in (self._get, self._set):
                key = self._prefix + key
            began = time.monotonic()
            try:
                await step(key, f"{caller}.{self._ended[caller]}")
            except Unavailable as error:
                self.failures[type(error).__name__] += 1
            took = time.monotonic() - began
            if took > LONGEST_CALL:
                self.slow.append(f"{step.__name__} {took:.2f} s")
            self._ended[caller] += 1
            await pause(0.005)  # a call that fails at once must not keep this machine's cores from the proxy

    async def _echo(self, _key: str, token: str) -> None:
        self._check("ECHO " + token, await self.bay.execute("ECHO", token), {token})

    async def _get(self, key: str, _token: str) -> None:
        self._check_stored("GET", key, await self.bay.execute("GET", key))

    async def _set(self, key: str, token: str) -> None:
        self._check_stored("SET", key, await self.bay.execute("SET", key, self._try(key, token), "GET"))

    async def _cache_get(self, key: str, _token: str) -> None:
        self._check_stored("get", key, await self._cache.get(key))

    async def _cache_set(self, key: str, token: str) -> None:
        await self._cache.set(key, self._try(key, token))

    async def _cache_get_many(self, key: str, _token: str) -> None:
        other = f"k{(int(key[1:]) + 1) % KEYS}"
        found = await self._cache.get_many([key, other])
        for name, value in found.items():
            self._check_stored("get_many", name, value)
        if not found.keys() <= {key, other}:
            self.wrong.append(f"get_many {key} {other}: {found!r:.200}")

    async def _count(self, _key: str, token: str) -> None:
        caller = int(token.partition(".")[0])
        self._counts_tried[caller] += 1
        reply = await self.bay.execute("INCR", f"{self._prefix}n{caller}")
        self._counted[caller] += 1
        # one whose outcome was unknown may have run, and must not have been repeated
        if not (isinstance(reply, int) and self._counted[caller] <= reply <= self._counts_tried[caller]):
            self.wrong.append(f"INCR {self._counts_tried[caller]}: {reply!r:.100}")

    def _try(self, key: str, token: str) -> str:
        # some values are too large to share a write, or a connection, with others
        value = f"{key}:{token}:" + "x" * (20_000 if token.endswith("7") else 10)
        self.tried[key].add(value)
        return value

    def _check_stored(self, what: str, key: str, reply: object) -> None:
        if reply is not None:
            self._check(f"{what} {key}", reply, self.tried[key])

    def _check(self, what: str, reply: object, right: set[str]) -> None:
        text = reply.decode(errors="replace") if isinstance(reply, bytes) else reply
        if not isinstance(text, str) or text not in right:
            self.wrong.append(f"{what}: {reply!r:.100}")


def finish(work: Coroutine[Any, Any, None]) -> None:
    """Run *work*, which never suspends in the threads' colour, to its end on this thread."""
    with pytest.raises(StopIteration):
        work.send(None)


async def sleep(seconds: float) -> None:
    time.sleep(seconds)  # noqa: ASYNC251 - it is a thread's coroutine


async def eventually(condition: Callable[[], bool], seconds: float) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "it did not come true in time"
        await asyncio.sleep(0.002)


@asynccontextmanager
async def nothing_left_over(bay: Any, proxy: Proxy) -> AsyncIterator[None]:
    """Connect *bay*, close it, and check that no task, thread or socket of it remains."""
    tasks, threads = asyncio.all_tasks(), set(threading.enumerate())
    await bay.connect()
    try:
        yield
        await eventually(lambda: bay.stats().wire.in_flight == 0, 1)
    finally:
        await bay.close()
    assert asyncio.all_tasks() <= tasks
    assert set(threading.enumerate()) <= threads
    await eventually(lambda: proxy.connections == 0, 2)


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
async def test_under_fault(make_either: Callable[..., Any], server: EmbeddedServer, prefix: str, fault: Fault) -> None:
    with proxy_to(server.address()) as proxy:
        bay = make_either(proxy.url + QUICK, prefix=prefix, required=False)  # the crowd bears a first dial that was slow
        crowd = Crowd(bay, prefix)
        async with nothing_left_over(bay, proxy):
            async with crowd.at_work():
                await crowd.round()
                proxy.fault = fault
                await asyncio.sleep(FAULT_LASTS)
                await crowd.round()
                assert proxy.struck
                proxy.heal()
                await crowd.heals(HEALED_WITHIN)
                await crowd.round()
            await crowd.check_what_is_stored()
            newcomer = make_either(proxy.url + QUICK, prefix=prefix)
            await Crowd(newcomer, prefix).heals(HEALED_WITHIN)
            await newcomer.close()
        print(dict(crowd.failures))
        assert crowd.wrong == []
        assert crowd.slow == []


@pytest.mark.parametrize("stray", STRAYS.values(), ids=STRAYS)
async def test_bytes_that_nobody_asked_for_never_reach_a_caller(
    make_either: Callable[..., Any], server: EmbeddedServer, prefix: str, stray: bytes
) -> None:
    with proxy_to(server.address()) as proxy:
        bay = make_either(proxy.url + QUICK, prefix=prefix, required=False)  # the crowd bears a first dial that was slow
        crowd = Crowd(bay, prefix)
        async with nothing_left_over(bay, proxy):
            for _ in range(3):
                async with crowd.at_work():
                    await crowd.round()
                    await crowd.round()
                assert crowd.wrong == []
                assert crowd.slow == []
                assert proxy.inject(stray) > 0
                await asyncio.sleep(0.05)  # no event tells that a client has read half a reply
            await crowd.heals(HEALED_WITHIN)


async def test_a_crowd_sees_a_crossed_reply(either: Any, prefix: str) -> None:
    """What the tests above rest on: two replies are exchanged here on purpose."""
    crowd = Crowd(either, prefix)
    await crowd._set(f"{prefix}k1", "0.1")
    await either.execute("COPY", f"{prefix}k1", f"{prefix}k2")
    await crowd._get(f"{prefix}k1", "")
    assert crowd.wrong == []
    await crowd._get(f"{prefix}k2", "")
    assert len(crowd.wrong) == 1

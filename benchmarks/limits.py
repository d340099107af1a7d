"""``python -m benchmarks.limits``: decisions about limits, beside the libraries limits and throttled-py, on one server.

Each peer is set up as its own documentation says, and asked in the shortest way that it has; that of limits answers yes or no, the
others say what is left as well. limits runs with its fixed window, which is its fastest strategy, and with those that forget as time
goes by; throttled-py with GCRA, as Forebay, and with its fixed window. limits on coredis needs coredis below 6: where a later one is
installed there is no row for it. Keys take turns, as clients do. The allowed limit is a million a day for each, which nobody
reaches, and of which the state outlives the next hit; the refused one is one a day, and used up.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from itertools import cycle
from typing import Any, Literal

from benchmarks.measure import measure_async, measure_threads
from benchmarks.report import Outcome, table
from benchmarks.scenarios import Scenario, Target
from benchmarks.workload import AsyncCall, Peer, Server, SyncCall
from forebay import AsyncForebay, EmbeddedServer, Forebay

CALLERS = 32
HIT, TWO_RATES, TWO_LIMITERS = "forebay hit", "forebay hit, two rates", "forebay hit_all, two limiters"
LIMITS = {"fixed": "FixedWindowRateLimiter", "sliding": "SlidingWindowCounterRateLimiter", "moving": "MovingWindowRateLimiter"}
CLIENTS: tuple[Literal["redispy", "coredis"], ...] = ("redispy", "coredis")
THROTTLED = {"GCRA": "gcra", "fixed": "fixed_window"}
SCRIPT = """
local time = redis.call('TIME')
local now, unit = time[1] * 1000000 + time[2], tonumber(ARGV[1])
local free = math.max(tonumber(redis.call('GET', KEYS[1]) or 0), now) + unit
local over = free - now - unit * ARGV[2]
if over > 0 then return {0, over} end
redis.call('SET', KEYS[1], string.format('%.0f', free), 'PX', math.ceil((free - now) / 1000))
return {1, 0}
"""  # the least that a limit by GCRA can be


@dataclass(frozen=True)
class Load:
    """So many a day for each of the keys, and what all are told."""

    limit: int
    keys: tuple[str, ...]
    allowed: bool

    def expect(self, reply: Any) -> Any:
        """Return *reply* if it is the right decision."""
        if reply is not self.allowed:
            raise RuntimeError(f"a peer decided {reply!r}, and {self.allowed} is right")
        return reply


PASSES = Load(1_000_000, tuple(f"client:{number}" for number in range(1000)), allowed=True)
REFUSED = Load(1, tuple(f"refused:{number}" for number in range(8)), allowed=False)
ONE_RATE, BOTH_RATES = "1000000/day", "100000/hour, 1000000/day"


# Forebay


def forebay_async(load: Load, rate: str = "") -> Callable[[Server, int], Any]:
    @asynccontextmanager
    async def open_(server: Server, callers: int) -> AsyncIterator[AsyncCall]:
        async with AsyncForebay(server.url) as bay:
            limiter, keys = bay.limiter("both" if rate else "bench", rate or f"{load.limit}/day"), cycle(load.keys)
            if not load.allowed:
                for key in load.keys:
                    limit = time.monotonic() + 5
                    while (await limiter.hit(key)).decided_by != "memory":
                        assert time.monotonic() < limit, "a refusal is not remembered"
                        await asyncio.sleep(0.01)

            async def call() -> bool:
                return (await limiter.hit(next(keys))).allowed

            yield call

    return open_


def forebay_threads(load: Load) -> Callable[[Server, int], Any]:
    @contextmanager
    def open_(server: Server, threads: int) -> Iterator[SyncCall]:
        with Forebay(f"{server.url}?pool_size={threads}&min_idle={threads}") as bay:
            limiter, keys = bay.limiter("bench", f"{load.limit}/day"), cycle(load.keys)
            if not load.allowed:
                for key in load.keys:
                    limit = time.monotonic() + 5
                    while limiter.hit(key).decided_by != "memory":
                        assert time.monotonic() < limit, "a refusal is not remembered"
                        time.sleep(0.01)
            yield lambda: limiter.hit(next(keys)).allowed

    return open_


@asynccontextmanager
async def forebay_two_limiters(server: Server, callers: int) -> AsyncIterator[AsyncCall]:
    async with AsyncForebay(server.url) as bay:
        one, two, keys = bay.limiter("one", ONE_RATE), bay.limiter("two", ONE_RATE), cycle(PASSES.keys)

        async def call() -> bool:
            key = next(keys)
            return (await bay.hit_all([(one, key), (two, key)])).allowed

        yield call


# what is in the way


def bare_async(name: str) -> Peer:
    @asynccontextmanager
    async def open_(server: Server, callers: int) -> AsyncIterator[AsyncCall]:
        async with AsyncForebay(server.url) as bay:
            call = _bare(name, bay.execute, await bay.execute("SCRIPT", "LOAD", SCRIPT))

            async def answered() -> bool:
                await call()
                return True

            yield answered

    return Peer(f"forebay execute {name}", open_)


def bare_threads(name: str) -> Peer:
    @contextmanager
    def open_(server: Server, threads: int) -> Iterator[SyncCall]:
        with Forebay(f"{server.url}?pool_size={threads}&min_idle={threads}") as bay:
            call = _bare(name, bay.execute, bay.execute("SCRIPT", "LOAD", SCRIPT))

            def answered() -> bool:
                call()
                return True

            yield answered

    return Peer(f"forebay execute {name}", open_)


def _bare(name: str, execute: Callable[..., Any], digest: bytes) -> Callable[[], Any]:
    keys = cycle(PASSES.keys)
    commands: dict[str, Callable[[], Any]] = {
        "EVALSHA": lambda: execute("EVALSHA", digest, 1, f"bare:{next(keys)}", 86_400, PASSES.limit),
        "GET": lambda: execute("GET", f"bare:{next(keys)}"),
        "PING": partial(execute, "PING"),
    }
    return commands[name]


# limits


def limits_async(load: Load, implementation: Literal["redispy", "coredis"], strategy: str) -> Peer:
    @asynccontextmanager
    async def open_(server: Server, callers: int) -> AsyncIterator[AsyncCall]:
        from limits.aio import strategies
        from limits.aio.storage import RedisStorage

        from limits import RateLimitItemPerDay

        storage = RedisStorage(f"async+{server.url}", implementation=implementation, key_prefix=strategy)
        hit = getattr(strategies, LIMITS[strategy])(storage).hit
        keys, item = cycle(load.keys), RateLimitItemPerDay(load.limit)

        async def call() -> bool:
            return await hit(item, next(keys))  # type: ignore[no-any-return]

        client: Any = storage.bridge
        async with client.storage:  # coredis from 6 on must be entered, which limits does not do
            await _use_up(load, call)
            yield call

    return Peer(f"limits {strategy}, {implementation}", open_)


def limits_threads(load: Load, strategy: str) -> Peer:
    @contextmanager
    def open_(server: Server, threads: int) -> Iterator[SyncCall]:
        from limits.storage import RedisStorage

        from limits import RateLimitItemPerDay, strategies

        hit = getattr(strategies, LIMITS[strategy])(RedisStorage(server.url, key_prefix=strategy)).hit
        keys, item = cycle(load.keys), RateLimitItemPerDay(load.limit)

        def call() -> bool:
            return hit(item, next(keys))  # type: ignore[no-any-return]

        for _ in () if load.allowed else load.keys:
            call()
        yield call

    return Peer(f"limits {strategy}, redispy", open_)


# throttled-py


def throttled_async(load: Load, algorithm: str) -> Peer:
    @asynccontextmanager
    async def open_(server: Server, callers: int) -> AsyncIterator[AsyncCall]:
        from throttled.asyncio import RedisStore, Throttled, per_day

        quota, keys = per_day(load.limit, burst=load.limit), cycle(load.keys)
        limit = Throttled(using=THROTTLED[algorithm], quota=quota, store=RedisStore(server=server.url)).limit

        async def call() -> bool:
            return not (await limit(next(keys))).limited

        await _use_up(load, call)
        yield call

    return Peer(f"throttled {algorithm}", open_)


def throttled_threads(load: Load, algorithm: str) -> Peer:
    @contextmanager
    def open_(server: Server, threads: int) -> Iterator[SyncCall]:
        from throttled import RedisStore, Throttled, per_day

        quota, keys = per_day(load.limit, burst=load.limit), cycle(load.keys)
        limit = Throttled(using=THROTTLED[algorithm], quota=quota, store=RedisStore(server=server.url)).limit

        def call() -> bool:
            return not limit(next(keys)).limited

        for _ in () if load.allowed else load.keys:
            call()
        yield call

    return Peer(f"throttled {algorithm}", open_)


async def _use_up(load: Load, call: Callable[[], Awaitable[bool]]) -> None:
    for _ in () if load.allowed else load.keys:
        await call()


# scenarios


def _decisions(load: Load, least: float, title: str) -> Scenario:
    peers = [Peer(HIT, forebay_async(load))]
    for client in CLIENTS:
        peers += [limits_async(load, client, strategy) for strategy in LIMITS]
    peers += [throttled_async(load, algorithm) for algorithm in THROTTLED]
    targets = [Target(peer.name, least) for peer in peers[1:]]
    return Scenario("limits", title, CALLERS, peers, (HIT,), targets, load.expect)


def _threads(load: Load, threads: int, least: float, title: str) -> Scenario:
    peers = [Peer(HIT, forebay_threads(load))]
    peers += [limits_threads(load, strategy) for strategy in ("fixed", "moving")]
    peers += [throttled_threads(load, algorithm) for algorithm in THROTTLED]
    targets = [Target(peer.name, least) for peer in peers[1:]]
    if load.allowed:
        peers += [bare_threads(name) for name in ("EVALSHA", "PING")]
    title = f"{title}, {threads} thread{'s' * (threads > 1)}"
    return Scenario("limits", title, threads, peers, (HIT,), targets, load.expect, threads=True)


_OF_TWO = 1 / 1.3


def _two_policies(callers: int) -> Scenario:
    return Scenario(
        "limits",
        f"one decision about two policies, asyncio, callers: {callers} (at most 1.3 times the time of one)",
        callers,
        [
            Peer(TWO_RATES, forebay_async(PASSES, BOTH_RATES)),
            Peer(TWO_LIMITERS, forebay_two_limiters),
            Peer(HIT, forebay_async(PASSES)),
        ],
        (TWO_RATES, TWO_LIMITERS),
        [Target(HIT, _OF_TWO), Target(HIT, _OF_TWO, subject=TWO_LIMITERS)],
        PASSES.expect,
    )


FLOOR = Scenario(
    "limits",
    f"what is in the way of a hit, asyncio, {CALLERS} callers (no targets)",
    CALLERS,
    [Peer(HIT, forebay_async(PASSES)), *(bare_async(name) for name in ("EVALSHA", "GET", "PING"))],
    (HIT,),
    [],
    PASSES.expect,
)
SCENARIOS = (
    _decisions(PASSES, 5, f"hits that pass, {len(PASSES.keys)} keys, asyncio, {CALLERS} callers"),
    _threads(PASSES, 1, 1.2, f"hits that pass, {len(PASSES.keys)} keys"),
    _threads(PASSES, CALLERS, 4, f"hits that pass, {len(PASSES.keys)} keys"),
    _decisions(REFUSED, 50, f"hits that are refused, {len(REFUSED.keys)} keys, asyncio, {CALLERS} callers (forebay remembers)"),
    _threads(REFUSED, 1, 50, f"hits that are refused, {len(REFUSED.keys)} keys (forebay remembers)"),
    _two_policies(CALLERS),
    _two_policies(1),
    FLOOR,
)


def limits(server: Server, rounds: int, seconds: float) -> dict[str, object]:
    """Measure, print, and return every round's figures, and what became of the targets."""
    record: dict[str, object] = {}
    outcomes: list[Outcome] = []
    print(f"limits: medians of {rounds} rounds of {seconds:g} s; limits {version('limits')}, throttled-py {version('throttled-py')}\n")
    for scenario in SCENARIOS:
        if scenario.threads:
            series = measure_threads(scenario.peers, server, scenario.callers, rounds, seconds, scenario.expect)
        else:
            series = asyncio.run(measure_async(scenario.peers, server, scenario.callers, rounds, seconds, scenario.expect))
        text, found = table(scenario, series)
        print(text + "\n", flush=True)
        outcomes += found
        record[scenario.title] = {one.name: {"per_second": one.rates, "cpu_seconds_each": one.cpu} for one in series}
    missed = [outcome for outcome in outcomes if not outcome.met]
    print(f"{len(outcomes) - len(missed)} of {len(outcomes)} targets of limits met")
    for one in missed:
        print(f"  missed: {one.subject} against {one.peer}: {one.seen:.2f} of {one.target:.3g}; {one.scenario}")
    record["missed"] = [f"{one.scenario}: {one.subject} against {one.peer}" for one in missed]
    return record


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.limits", description="Decisions about limits, side by side.")
    parser.add_argument("--rounds", type=int, default=9, help="rounds in which every peer has its turn (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=0.4, help="how long a turn lasts (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="3 rounds of 0.15 s: does it run, not how fast")
    options = parser.parse_args()
    if options.rounds < 1 or options.seconds <= 0:
        parser.error("--rounds and --seconds must be above zero")
    rounds, seconds = (3, 0.15) if options.quick else (options.rounds, options.seconds)
    with EmbeddedServer(port=0) as embedded:
        limits(Server(embedded.address().host, embedded.address().port), rounds, seconds)


if __name__ == "__main__":
    main()
